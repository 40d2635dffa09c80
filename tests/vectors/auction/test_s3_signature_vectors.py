"""Signatures of S3 requests. Vectors: the examples of Amazon's S3 API reference, "Signature Calculations for the
Authorization Header" (bucket `examplebucket`, 24 May 2013, published example keys).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from adyton.auction.services.s3_signature import Credentials, encoded_query, signed_headers

KEYS = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
AT_MS = 1_369_353_600_000
HOST = "examplebucket.s3.amazonaws.com"


def signature(
    path: str,
    query: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
    *,
    keys: Credentials = KEYS,
    region: str = "us-east-1",
    at_ms: int = AT_MS,
    host: str = HOST,
) -> str:
    headers = signed_headers(
        host=host, path=path, query=query, credentials=keys, region=region, at_ms=at_ms, extra=extra
    )
    return headers["authorization"].rpartition("Signature=")[2]


@pytest.mark.parametrize(
    ("path", "query", "extra", "expected"),
    [
        (
            "/test.txt",
            {},
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        ("/", {"lifecycle": ""}, None, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            "/",
            {"prefix": "J", "max-keys": "2"},
            None,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_published_examples(path: str, query: dict[str, str], extra: dict[str, str] | None, expected: str) -> None:
    assert signature(path, query, extra) == expected


def test_every_part_of_a_request_changes_its_signature() -> None:
    good = signature("/test.txt", {"a": "1"})
    others = [
        signature("/test.tx", {"a": "1"}),
        signature("/test.txt", {"a": "2"}),
        signature("/test.txt", {"a": "1"}, {"range": "bytes=0-1"}),
        signature("/test.txt", {"a": "1"}, keys=dataclasses.replace(KEYS, secret=KEYS.secret[:-1])),
        signature("/test.txt", {"a": "1"}, keys=dataclasses.replace(KEYS, session_token="t")),
        signature("/test.txt", {"a": "1"}, region="eu-west-1"),
        signature("/test.txt", {"a": "1"}, at_ms=AT_MS + 1000),
        signature("/test.txt", {"a": "1"}, host="examplebucket.s3.amazonaws.org"),
    ]
    assert len({good, *others}) == 1 + len(others)


def test_queries_are_sorted_and_percent_encoded() -> None:
    assert encoded_query({"z": "a b", "list-type": "2", "t": "1/+="}) == "list-type=2&t=1%2F%2B%3D&z=a%20b"


def test_secrets_are_not_shown() -> None:
    assert "wJalr" not in repr(KEYS)

"""Getting this process's private keys from one coordinator, or from two that hold a half each (§14.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx

from adyton.auction.errors import ConfigError
from adyton.auction.keys.attestation import AttestedCaller, challenge_from_bytes, proof_to_header
from adyton.auction.keys.errors import KeyServiceAnswerError, KeyServiceDownError
from adyton.auction.keys.json_members import from_base64
from adyton.auction.keys.tink import key_of_keyset
from adyton.auction.keys.wire import CHALLENGE_PATH, GRANT_HEADER, PRIVATE_PATH, ReleasedShare, shares_from_bytes
from adyton.auction.split_keys import join_shares
from adyton.protocol.keys import PrivateKey, key_id_of

_TIMEOUT_S = 30.0
_MAX_ANSWER_BYTES = 4 * 1024 * 1024


async def fetch_private_keys(
    coordinators: Sequence[str], caller: AttestedCaller, *, max_age_s: int, timeout_s: float = _TIMEOUT_S
) -> tuple[PrivateKey, ...]:
    """The keys that all `coordinators` (one or two http(s) URLs) hold and made within `max_age_s` seconds.

    A key of which a share is missing is left out: a rotation may be under way.
    Raises KeyServiceDownError, KeyServiceAnswerError (also for a refusal, with its reason), ConfigError.
    """
    if not 1 <= len(coordinators) <= 2:
        raise ConfigError("there are one or two coordinators", where="keys.coordinators")
    answers = await asyncio.gather(*(_recent(url, caller, max_age_s, timeout_s) for url in coordinators))
    shares: dict[str, list[ReleasedShare]] = {}
    for answer in answers:
        for share in answer:
            shares.setdefault(share.kms_id, []).append(share)
    return tuple(_whole(kms_id, found) for kms_id, found in shares.items() if len(found) == found[0].n_shares)


async def _recent(url: str, caller: AttestedCaller, max_age_s: int, timeout_s: float) -> tuple[ReleasedShare, ...]:
    base = url.rstrip("/")
    try:
        # trust_env=False: a proxy named in the environment must not see, or answer, what is meant for the service.
        async with httpx.AsyncClient(timeout=timeout_s, trust_env=False) as client:
            challenge = challenge_from_bytes(_checked(await client.post(base + CHALLENGE_PATH), url).content)
            proof = await asyncio.to_thread(caller.prove, challenge)
            response = _checked(
                await client.get(
                    f"{base}{PRIVATE_PATH}:recent",
                    params={"maxAgeSeconds": str(max_age_s)},
                    headers={"Authorization": proof_to_header(proof)},
                ),
                url,
            )
    except httpx.HTTPError as error:
        raise KeyServiceDownError(f"the key service does not answer ({type(error).__name__})", where=url) from error
    try:
        grant = from_base64(response.headers.get(GRANT_HEADER))
    except (ValueError, TypeError) as error:
        raise KeyServiceAnswerError("the key service sent no grant", where=url) from error
    return shares_from_bytes(response.content, caller.open(challenge, grant))


def _checked(response: httpx.Response, url: str) -> httpx.Response:
    if response.status_code != 200:
        try:
            reason = str(response.json()["what"])[:200]
        except (ValueError, KeyError, TypeError):
            reason = "no reason given"
        raise KeyServiceAnswerError(f"the key service answered {response.status_code}: {reason}", where=url)
    if len(response.content) > _MAX_ANSWER_BYTES:
        raise KeyServiceAnswerError("the key service's answer is too long", where=url)
    return response


def _whole(kms_id: str, shares: Sequence[ReleasedShare]) -> PrivateKey:
    if len({share.index for share in shares}) != len(shares) or len({share.key_type for share in shares}) != 1:
        raise KeyServiceAnswerError("two coordinators hold the same share", where=kms_id)
    if len(shares) == 1:
        keyset = shares[0].material
    else:
        try:
            keyset = join_shares(shares[0].material, shares[1].material)
        except ConfigError as error:
            raise KeyServiceAnswerError("the shares of a key do not fit", where=kms_id) from error
    return key_of_keyset(keyset, key_id=key_id_of(kms_id))

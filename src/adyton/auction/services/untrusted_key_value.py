"""Scoring signals from a seller's own HTTP server, key/value protocol version 1, in test mode (§10.6).

    GET <url>?client_type=1&experimentGroupId=<id>&renderUrls=<url>,<url>   ->   {"renderUrls": {"<url>": <value>}}

The server is an ordinary one: it learns which ads were bid on, so that outside of test mode it is not asked.
"""

from __future__ import annotations

from urllib.parse import quote

import httpx
import orjson

from adyton.auction.errors import DownstreamError
from adyton.auction.kv_messages import RENDER_URLS_TAG
from adyton.protocol.messages import kv_server_v2_pb2 as kv

_MAX_ANSWER_BYTES = 4 * 1024 * 1024
_FAILED = "the untrusted key/value server failed"


class UntrustedKeyValue:
    """A KeyValuePort for requests that `kv_messages.scoring_request` makes, and for no others."""

    def __init__(self, url: str) -> None:
        self._url = url
        # trust_env=False: a proxy named in the environment must not see what is asked.
        self._client = httpx.AsyncClient(follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()

    async def get_values(self, request: kv.GetValuesRequest, *, timeout_s: float) -> kv.GetValuesResponse:
        """The server's values in the form of version 2. Raises DownstreamError."""
        try:
            async with self._client.stream("GET", lookup_url(self._url, request), timeout=timeout_s) as response:
                if response.status_code != 200:
                    raise DownstreamError(f"{_FAILED}: status {response.status_code}", code="INTERNAL")
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        raise DownstreamError(f"{_FAILED}: its answer is too long", code="INTERNAL")
        except httpx.HTTPError as error:
            raise DownstreamError(f"{_FAILED}: {type(error).__name__}", code="INTERNAL") from error
        return values_of_answer(bytes(body))


def lookup_url(base: str, request: kv.GetValuesRequest) -> str:
    """The URL of the lookup: the render URLs each once, sorted and percent-encoded."""
    urls = {
        value.string_value
        for partition in request.partitions
        for argument in partition.arguments
        for value in argument.data.list_value.values
    }
    fields = request.metadata.fields
    parts = [f"client_type={fields['client_type'].string_value}"]
    if fields["experiment_group_id"].string_value:
        parts.append(f"experimentGroupId={fields['experiment_group_id'].string_value}")
    parts.append(f"{RENDER_URLS_TAG}=" + ",".join(quote(url, safe="-_.~") for url in sorted(urls)))
    return f"{base}?{'&'.join(parts)}"


def values_of_answer(body: bytes) -> kv.GetValuesResponse:
    """The answer of version 2 with the values of a version 1 body. Raises DownstreamError."""
    try:
        values = orjson.loads(body)[RENDER_URLS_TAG]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise DownstreamError(f"{_FAILED}: its answer is not the documented JSON", code="INTERNAL") from error
    if not isinstance(values, dict):
        raise DownstreamError(f"{_FAILED}: its answer is not the documented JSON", code="INTERNAL")
    outputs = {"tags": [RENDER_URLS_TAG], "keyValues": {url: {"value": value} for url, value in values.items()}}
    response = kv.GetValuesResponse()
    response.compression_groups.add(
        compression_group_id=0, content=orjson.dumps([{"id": 0, "keyGroupOutputs": [outputs]}])
    )
    return response

"""The key/value service's calls from body to body, plain and oblivious, whatever carried them (§10.1)."""

from __future__ import annotations

from adyton.auction.kv_messages import CBOR_CONTENT_TYPE, JSON_CONTENT_TYPE
from adyton.auction.services.key_material import KeyMaterial
from adyton.auction.services.key_value import KeyValueService
from adyton.auction.services.kv_wire import (
    frame_response,
    known_content_type,
    parse_request,
    print_response,
    response_content_type,
    unframe_request,
)
from adyton.protocol.ohttp import Receiver, decapsulate_request


class KeyValueCalls:
    """The two forms whose bodies are named by a content type.

    content_type: what the caller's header says, "" if there is none.   All raise AdytonError.
    """

    def __init__(self, service: KeyValueService, keys: KeyMaterial) -> None:
        self._service = service
        self._keys = keys

    async def plain(self, body: bytes, *, content_type: str, timeout_s: float) -> tuple[bytes, str]:
        """The answer's body and its content type; JSON unless the header names another."""
        known = known_content_type(content_type, default=JSON_CONTENT_TYPE)
        reply = await self._service.get_values(parse_request(body, known), timeout_s=timeout_s)
        return print_response(reply, known), response_content_type(known)

    async def oblivious(self, body: bytes, *, content_type: str, timeout_s: float) -> bytes:
        """The encapsulated answer; what is inside is CBOR unless the header names another."""
        known = known_content_type(content_type, default=CBOR_CONTENT_TYPE)
        plaintext, sealed = decapsulate_request(self._keys.ring, body, expect=Receiver.KEY_VALUE)
        reply = await self._service.get_values(unframe_request(plaintext, known), timeout_s=timeout_s)
        return sealed.encapsulate_response(frame_response(reply, known))

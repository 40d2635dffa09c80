"""One script of one owner on QuickJS, in a process of its own. Started as a file, with frames on stdin and stdout.

    python -I -S quickjs_worker.py FOLDER-OF-THE-ENGINE HEAP-MB

The same frames and the same driver as worker.js; see there. Each request has a runtime of its own, so nothing of it is
left once it is over. What cannot settle (there are no timers) waits for the host's deadline. Any surprise ends the
process.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

sys.path.append(sys.argv[1])

import _quickjs

_LOAD, _CALL, _HOST_REPLY, _FORGET = 1, 2, 3, 4
_HELLO, _LOADED, _LOAD_FAILED, _RESULT, _HOST_CALL = 16, 17, 18, 19, 20
_HEAP_BYTES = int(sys.argv[2]) * 1024 * 1024
_STACK_BYTES = 1024 * 1024
# The binding knows no ropes, the engine's unfinished concatenations; a slice is a plain string.
_GLUE = """((makeDriver, spec) => {
  const host = globalThis.__host;
  delete globalThis.__host;
  const { apply } = Reflect, { slice } = String.prototype;
  const flat = (value) => typeof value === "string" ? apply(slice, value, [0]) : value;
  const driver = makeDriver((name, text) => host(name, flat(text)), spec);
  return (operation, ...values) => flat(driver[operation](...values));
})"""


def _read(n: int) -> bytes:
    parts = []
    while n:
        part = os.read(0, min(n, 1 << 20))
        if not part:
            os._exit(0)
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _receive() -> tuple[int, bytes]:
    head = _read(5)
    return head[4], _read(int.from_bytes(head[:4], "big"))


def _send(kind: int, payload: bytes = b"") -> None:
    frame = memoryview(len(payload).to_bytes(4, "big") + bytes([kind]) + payload)
    while frame:
        frame = frame[os.write(1, frame) :]


def _with_header(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "big") + text + body


def _split(payload: bytes) -> tuple[dict[str, Any], bytes]:
    end = 4 + int.from_bytes(payload[:4], "big")
    return json.loads(payload[4:end]), payload[end:]


class _Request:
    """A runtime that has loaded the script and has served nobody."""

    def __init__(self, driver: str, spec: str, code: str) -> None:
        self.is_served = False
        self._context = _quickjs.Context()
        self._context.set_memory_limit(_HEAP_BYTES)
        self._context.set_max_stack_size(_STACK_BYTES)
        self._context.add_callable("__host", self._host_call)
        self.driver: Callable[..., Any] = self._context.eval(_GLUE)(self._context.eval(driver), spec)
        self._context.eval(code)

    def begins(self, header: dict[str, Any]) -> bool:
        """False if it has served a call of another kind and cannot serve one of this kind."""
        return bool(self.driver("begin", header["console"], header["kind"]))

    def invoke(self, function: str, arguments: list[str]) -> str:
        """The driver's answer, once it has settled."""
        answer: str = self.driver("invoke", function, *arguments)
        if answer == "P":
            while not (answer := self.driver("settled")):
                if not self._context.execute_pending_job():
                    time.sleep(3600)  # nothing can settle it now
        return answer

    def _host_call(self, name: str, text: str) -> str:
        if not self.is_served:
            return "eno request is being served"
        _send(_HOST_CALL, _with_header({"name": name}, text.encode(errors="replace")))
        kind, payload = _receive()
        if kind != _HOST_REPLY:
            os._exit(3)
        form, body = chr(payload[0]), payload[1:]
        return form + (body.hex() if form == "b" else body.decode())


def _serve(request: _Request, header: dict[str, Any], bodies: bytes) -> None:
    request.is_served = True
    items, answers, at = [], [], 0
    for call in header["calls"]:
        arguments: list[str] = []
        for form, size in call:
            body = bodies[at : at + size]
            at += size
            # Text that is no UTF-8 is no JSON either, which the driver then says.
            arguments += [form, body.hex() if form == "h" else body.decode(errors="replace")]
        answer = request.invoke(header["function"], arguments)
        body = answer[1:].encode(errors="replace")
        effects, console = request.driver("effects"), request.driver("console")
        items.append({"status": answer[0], "size": len(body), "effects": effects, "console": console})
        answers.append(body)
    request.is_served = False
    _send(_RESULT, _with_header({"items": items, "rest": False}, b"".join(answers)))


def main() -> None:
    """Serve until the host goes away or kills this process."""
    _send(_HELLO)
    kind, payload = _receive()
    if kind != _LOAD:
        os._exit(3)
    header, code = _split(payload)
    parts = (header["driver"], header["spec"], code.decode())
    is_kept = False
    try:
        request = _Request(*parts)
    except (_quickjs.JSException, _quickjs.StackOverflow, MemoryError) as error:
        _send(_LOAD_FAILED, str(error)[:1000].encode(errors="replace"))
        return
    _send(_LOADED)
    while True:
        kind, payload = _receive()
        if kind == _CALL:
            header, bodies = _split(payload)
            if (is_kept and header["fresh"]) or not request.begins(header):
                request = _Request(*parts)
                request.begins(header)
            _serve(request, header, bodies)
            is_kept = header["keep"]
        elif kind == _FORGET:
            is_kept = False
        else:
            os._exit(3)
        if not is_kept:
            request = _Request(*parts)


if __name__ == "__main__":
    main()

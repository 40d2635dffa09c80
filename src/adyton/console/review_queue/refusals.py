"""Every failure as one JSON shape with one status. Statuses follow from the class of the error, never from its text."""

from __future__ import annotations

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from adyton.console.review_queue.rendering import page
from adyton.kernel.errors import (
    AdytonError,
    BadInputError,
    InternalError,
    PeerError,
    RefusedError,
    UnavailableError,
)
from adyton.review.queue.errors import NotPermittedError, NotSignedInError, UnknownRecordError

log = logging.getLogger(__name__)

# First match wins: the special ones stand before their bases.
STATUSES: tuple[tuple[type[AdytonError], int], ...] = (
    (NotSignedInError, 401),
    (NotPermittedError, 403),
    (UnknownRecordError, 404),
    (BadInputError, 422),
    (RefusedError, 409),
    (PeerError, 502),
    (UnavailableError, 503),
    (InternalError, 500),
)


class RequestError(BadInputError):
    """The request cannot be read: not JSON, a field of the wrong type, or no such address."""


def status_of(error: AdytonError) -> int:
    """The HTTP status of an error."""
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def refusal(error: AdytonError, status: int | None = None) -> JSONResponse:
    """The response that tells of `error`."""
    status = status_of(error) if status is None else status
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {"Retry-After": "1"} if status == 503 else None
    return JSONResponse(error.as_json(), status_code=status, headers=headers)


def _lower_first(text: str) -> str:
    """As our other errors begin; a pattern in it keeps its letters."""
    return text[:1].lower() + text[1:]


def _wants_page(request: Request) -> bool:
    """Whether a browser asks for something to look at, and not a script of ours."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")


def _told(request: Request, error: AdytonError, status: int) -> Response:
    if _wants_page(request):
        return page("error.html", None, {"error": error.as_json()}, status)
    return refusal(error, status)


def add_handlers(app: FastAPI) -> None:
    """Makes every failure of `app` a refusal, also those of the framework."""

    async def on_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, AdytonError), "only registered for AdytonError"
        if isinstance(error, NotSignedInError) and _wants_page(request):
            return RedirectResponse("/sign-in", status_code=303)
        if isinstance(error, InternalError):
            log.error("internal error", exc_info=error)
        return _told(request, error, status_of(error))

    async def on_bad_request(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
        assert isinstance(error, RequestValidationError), "only registered for RequestValidationError"
        first = error.errors()[0]
        # pydantic's own message names the rule; the value that broke it is left out.
        where = ".".join(str(part) for part in first["loc"])
        what = "not JSON" if first["type"] == "json_invalid" else _lower_first(str(first["msg"]))
        return refusal(RequestError(what, where=where, hint="GET /openapi.json describes every request"), 422)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException), "only registered for HTTPException"
        phrase = HTTPStatus(error.status_code).phrase.lower()
        told = RequestError(phrase, hint="GET /openapi.json lists every address")
        answer = _told(request, told, error.status_code)
        answer.headers.update(error.headers or {})
        return answer

    async def on_defect(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
        # Starlette logs the traceback; the caller learns only that it is our fault.
        return refusal(InternalError("a defect of adyton", hint="the server's log has the details"), 500)

    app.add_exception_handler(AdytonError, on_error)
    app.add_exception_handler(RequestValidationError, on_bad_request)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_defect)

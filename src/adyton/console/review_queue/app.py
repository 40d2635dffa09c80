"""The application: API, pages, refusals, and a thread that sweeps. Default deny: what is not listed here needs a token.

Open without a token: `/healthz`, `/openapi.json`, the sign-in page and the static files (a test walks all routes).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from adyton import __version__
from adyton.console.review_queue import api, pages
from adyton.console.review_queue.refusals import RequestError, add_handlers, refusal
from adyton.kernel.errors import AdytonError
from adyton.review.queue.claiming import sweep
from adyton.review.queue.desk import Desk
from adyton.review.queue.schema import require_newest
from adyton.review.queue.waiting_reader import warm_up

log = logging.getLogger(__name__)
STATIC = Path(__file__).parent / "static"
MAX_BODY_BYTES = 2_000_000
SWEEP_SECONDS = 5.0
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(desk: Desk, *, threads: int = 40, sweep_seconds: float = SWEEP_SECONDS) -> FastAPI:
    """The ASGI application over `desk`. threads: requests that run at once; give the engine as many connections.

    Raises StoreUnavailableError if the database is not of this release.
    """
    require_newest(desk)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:  # noqa: ARG001
        anyio.to_thread.current_default_thread_limiter().total_tokens = threads
        await anyio.to_thread.run_sync(warm_up, desk)
        stop = threading.Event()
        sweeper = threading.Thread(target=_sweep_until, args=(desk, stop, sweep_seconds), name="sweep", daemon=True)
        sweeper.start()
        try:
            yield
        finally:
            stop.set()
            await anyio.to_thread.run_sync(sweeper.join, 10)

    app = FastAPI(
        title="Adyton review queue",
        version=__version__,
        description="Claims, decisions, escalations, appeals and quality of ad review.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.desk = desk
    add_handlers(app)
    app.include_router(api.router)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.middleware("http")(_guard)

    @app.get("/healthz", include_in_schema=False)
    def healthz() -> dict[str, str]:
        """Whether the database answers and is of this release."""
        require_newest(desk)
        return {"status": "ok"}

    return app


async def _guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuses bodies that no honest request has, and adds the headers that keep a page to itself."""
    length = request.headers.get("content-length", "0")
    has_body = request.method in ("POST", "PUT", "PATCH")
    if has_body and "content-length" not in request.headers and "transfer-encoding" in request.headers:
        response: Response = refusal(RequestError("send the length of the body", where="Content-Length"), 411)
    elif not length.isdecimal() or int(length) > MAX_BODY_BYTES:
        response = refusal(RequestError(f"a body has at most {MAX_BODY_BYTES} bytes", where="Content-Length"), 413)
    else:
        response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def _sweep_until(desk: Desk, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        try:
            sweep(desk)
        except AdytonError as error:
            # Claims work without the sweep; the next round tries again.
            log.warning("sweep: %s", error)
        except Exception:
            # A defect must not end the sweep for good: claims that are over would stay on every list.
            log.exception("sweep")

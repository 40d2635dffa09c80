"""Who asks: a bearer token, or for pages the same token in a cookie. Nobody gets in without one.

The cookie is HttpOnly and SameSite=Strict, and a change made with it must carry the header `X-Adyton: 1`, which another
site's page cannot send. No session is kept: the cookie is the token, and revoking the token ends both.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from adyton.review.queue.desk import Desk
from adyton.review.queue.errors import NotPermittedError
from adyton.review.queue.people import person_of_token
from adyton.review.queue.records import Person

COOKIE = "adyton_token"
SAME_SITE_HEADER = "X-Adyton"
_bearer = HTTPBearer(auto_error=False, description="A token from `adyton queue token`.")


def desk_of(request: Request) -> Desk:
    """The desk that the application serves."""
    desk = request.app.state.desk
    assert isinstance(desk, Desk), "create_app sets the desk"
    return desk


def signed_in(request: Request, _: Annotated[object, Depends(_bearer)] = None) -> Person:
    """The person whose token the request carries. Raises NotSignedInError, NotPermittedError."""
    header = request.headers.get("authorization", "")
    scheme, _, token = header.partition(" ")
    if header:
        return person_of_token(desk_of(request), token.strip() if scheme.lower() == "bearer" else None)
    person = person_of_token(desk_of(request), request.cookies.get(COOKIE))
    if request.method not in ("GET", "HEAD") and request.headers.get(SAME_SITE_HEADER) != "1":
        raise NotPermittedError("a change made with the cookie needs the header X-Adyton: 1", where="X-Adyton")
    return person


Actor = Annotated[Person, Depends(signed_in)]
TheDesk = Annotated[Desk, Depends(desk_of)]

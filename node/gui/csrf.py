"""Tell requests that a page of ours made from those that another site made a browser send.

Each browser holds a random cookie, before its login and after. A form carries the keyed hash of that cookie: only who reads our pages
knows it, another session's does not fit, and a login changes it.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from starlette.requests import Request

FIELD: Final = "csrf"
"""Name of the hidden field in forms."""
HEADER: Final = "x-csrf-token"
"""Name of the header that takes its place where a script asks without a form."""


def form_token(secret: bytes, cookie: str) -> str:
    """Return what the forms of a browser with this cookie carry."""
    return hmac.new(secret, cookie.encode(), hashlib.sha256).hexdigest()


def is_ours(request: Request, field: str, *, secret: bytes, cookie: str | None) -> bool:
    """Tell whether a request comes from a form of ours in the same browser.

    Args:
        request: What came.
        field: The hidden field of its form, empty if it has none.
        secret: Key of the tokens.
        cookie: The cookie that came with the request.
    """
    if cookie is None:
        return False
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    if site != "same-origin" or origin not in {None, f"{request.url.scheme}://{request.headers['host']}"}:
        return False
    given = field or request.headers.get(HEADER, "")
    return hmac.compare_digest(form_token(secret, cookie).encode(), given.encode())

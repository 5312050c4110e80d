"""Refuse requests that should not have come, and put the same protections on everything that leaves."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.gui.texts import t

_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
# No referrer at all would also take the origin from forms that are sent without a script, and `csrf.py` looks at it.
_PROTECTIONS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_TLS_ONLY: Final = {"strict-transport-security": "max-age=31536000"}


class Border:
    """Stands before all routes."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], tls: bool, most_bytes: int) -> None:
        """Guard an app.

        Args:
            app: What answers.
            hosts: Names by which the page may be called, without the port. A name that somebody points at this machine is none of
                them, so no other site can read the page through its visitors' browsers.
            tls: Whether it is served over TLS.
            most_bytes: Most that any request may bring.
        """
        self._app = app
        self._hosts = hosts
        self._most_bytes = most_bytes
        self._protections = _PROTECTIONS | (_TLS_ONLY if tls else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._protections)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if _host(headers.get("host", "")) not in self._hosts:
            refusal = PlainTextResponse(t("errors.host"), status_code=421)
            await refusal(scope, receive, protected)
            return
        if not _fits(headers.get("content-length"), self._most_bytes):
            refusal = PlainTextResponse(
                t("errors.too_large"), status_code=413, headers={"connection": "close"}
            )
            await refusal(scope, receive, protected)
            return
        await self._app(scope, receive, protected)


def _host(header: str) -> str:
    """Return the name in a Host header, without the port."""
    name, colon, port = header.rpartition(":")
    return (name if colon and port.isdecimal() else header).lower()


def _fits(length: str | None, most: int) -> bool:
    """Tell whether a stated length is one, and not too long. What has no stated length is counted while it is read."""
    return length is None or (length.isdecimal() and len(length) < 16 and int(length) <= most)

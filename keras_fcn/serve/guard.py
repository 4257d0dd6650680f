"""Refuses requests from other sites, and sets the headers that keep the page to its own host."""

from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OWN_HOSTS = ("localhost", "127.0.0.1", "::1")
# The page shows photos and label maps as blobs of its own; nothing comes from elsewhere.
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware around the whole application.

    A page of another site may send requests to a server on this machine from a visitor's browser.
    Such a request has another `Origin`; or another `Host`, where the site's own name leads to this
    machine (DNS rebinding).

    Args:
        app: The application.
        allowed_hosts: Names in addition to `OWN_HOSTS` under which the server may be addressed;
            "*" for any.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Iterable[str] = ()):
        self.app = app
        self.allowed_hosts = {*OWN_HOSTS, *(host.lower() for host in allowed_hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        app = self._refusal(scope["method"], Headers(scope=scope)) or self.app
        await app(scope, receive, send_with_headers)

    def _refusal(self, method: str, headers: Mapping[str, str]) -> JSONResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if "*" not in self.allowed_hosts and _name(host) not in self.allowed_hosts:
            return _error(
                421,
                f"`Host` must be an allowed name of this server. Received: {host or 'none'}. Start "
                "the server with --allowed-host to allow another name.",
            )
        if method not in ("GET", "HEAD") and origin is not None and _address(origin) != host:
            return _error(
                403, f"`Origin` must be this server, {host}. Received: {origin or 'none'}."
            )
        return None


def _error(status, sentence):
    return JSONResponse({"error": sentence}, status)


def _name(host):
    """Returns the lower-case name of a host without its port; `None` if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _address(origin):
    return origin.partition("://")[2]

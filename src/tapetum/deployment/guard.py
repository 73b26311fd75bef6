"""Before a request reaches its route: who asks, under which name, how much, how long. After it: what every answer carries.

Plain ASGI. It is what every request passes, also those that are refused under load, so it does little.
"""

import asyncio
import base64
import binascii
import hmac
import ipaddress
import time
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tapetum.deployment.refusals import failure
from tapetum.deployment.service import Service

# Asked by machines that have no token.
HEALTH = ("/healthz", "/readyz")
_COMPUTING = ("/v1/predict", "/v1/explain")
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        b"media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]
# How long the rest of a body that was refused is read and dropped: closed at once, the client would not see the answer.
_LINGER_SECONDS = 2.0


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address.

    >>> is_loopback("localhost"), is_loopback("127.0.0.2"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses what should not come in; counts and times what does."""

    def __init__(self, app: ASGIApp, service: Service, token: str, routes: frozenset[str]) -> None:
        self._app, self._service, self._token, self._routes = app, service, token, routes
        self._limits = service.limits
        self._buffered = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        exchange = _Exchange(self, scope, receive, send)
        try:
            self._refuse(scope, headers)
        except HTTPException as refusal:
            await failure(refusal)(scope, receive, exchange.send)
        else:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            self._buffered -= exchange.received
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._service.metrics.answered(route, exchange.status, exchange.begun)

    def _refuse(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        """Raise an HTTPException for what is seen in the head."""
        path = scope["path"]
        if path in HEALTH:
            return
        if self._token:
            if not _knows(self._token, headers.get(b"authorization", b"")):
                raise HTTPException(401, "a token is needed: Authorization: Bearer TOKEN.", _CHALLENGE)
        else:
            _refuse_other_names(headers)
        if scope["method"] not in ("GET", "HEAD") and headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
            raise HTTPException(403, "another site's page asks; only this server's own page may.")
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > self._limits.body_bytes:
            raise self.too_large()
        if path in _COMPUTING and scope["method"] == "POST":
            self._service.refuse_when_full()

    def too_large(self) -> HTTPException:
        """A body is over the limit."""
        most = self._limits.body_bytes / 1e6
        return HTTPException(413, f"the request is larger than {most:g} MB. Send fewer or smaller pictures.")

    def take(self, count: int) -> None:
        """Count bytes that are kept; raise an HTTPException if they are too many for all requests together."""
        self._buffered += count
        if self._buffered > self._limits.buffered_bytes:
            raise HTTPException(503, "too many requests are being received. Try again.", {"Retry-After": "1"})


class _Exchange:
    """One request and its answer on their way through."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self._guard, self._scope, self._receive, self._send = guard, scope, receive, send
        self.begun = time.perf_counter()
        self.received = 0
        self.status = 0
        self._whole = False
        self._until: float | None = None

    async def receive(self) -> Message:
        """The next part of the body, within the limits of size and time."""
        if self._whole:
            return await self._receive()
        limits, loop = self._guard._limits, asyncio.get_running_loop()
        if self._until is None:
            self._until = loop.time() + limits.body_seconds
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(
                408, f"the request's body did not arrive within {limits.body_seconds:g} s. Send it faster, or less."
            ) from None
        if message["type"] == "http.request":
            self.received += len(message["body"])
            self._whole = not message.get("more_body")
            if self.received > limits.body_bytes:
                self._guard._buffered += len(message["body"])
                raise self._guard.too_large()
            self._guard.take(len(message["body"]))
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer, with what all answers carry."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *_HEADERS]
            if self._guard._service.draining or self.status in (408, 413):
                message["headers"].append((b"connection", b"close"))
        elif self.status == 413 and not self._whole and not message.get("more_body"):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while True:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return
        except TimeoutError:
            return


# A browser asks for it by itself, with any user's name.
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="tapetum: any name, the token as password", charset="UTF-8"'}


def _knows(token: str, given: bytes) -> bool:
    """Whether an Authorization header holds the token: as Bearer, or as the password of Basic."""
    scheme, _, value = given.partition(b" ")
    value = value.strip()
    if scheme.lower() == b"basic":
        try:
            value = base64.b64decode(value, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != b"bearer":
        return False
    return hmac.compare_digest(value, token.encode())


def _refuse_other_names(headers: dict[bytes, bytes]) -> None:
    """Without a token this server is called localhost or 127.0.0.1, whatever a foreign name server says (DNS rebinding)."""
    for url in (b"//" + headers.get(b"host", b""), headers.get(b"origin")):
        if url is None:
            continue
        try:
            name = urlsplit(url.decode("latin-1")).hostname or ""
        except ValueError:
            name = ""
        if not is_loopback(name):
            raise HTTPException(421, "this server answers to the name of localhost only. Give it a --token to change that.")


def route_paths(app: Any) -> frozenset[str]:
    """The paths that an application answers."""
    return frozenset(route.path for route in app.routes)

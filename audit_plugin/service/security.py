"""What stands before every page and route of the web port: bounds, origin, token, and headers of the answer.

Nobody gets an answer without a token, unless the service listens on loopback and no file of tokens is named; then a request has to name a
loopback host, so that no page of the internet can speak through the browser of somebody who sits there (DNS rebinding).  Browsers send the
token as the password of HTTP's basic authentication; whatever they send to change something must come from a page of ours.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audit_plugin.service.problems import ProblemError, answer
from audit_plugin.service.refusals import Refusals
from audit_plugin.service.tokens import LOCAL, Principal, Role, Tokens
from audit_plugin.service_options import ServeOptions, loopback

_SAFE = frozenset({"GET", "HEAD"})
_BODY_SECONDS = 30.0
"""How long a body may take to come."""
_SIGNED_SECONDS, _SIGNED_BYTES, _SIGNED_AT_A_TIME = 5.0, 16_384, 4
"""Of requests that bear no token and whose signature is in doubt until their body is there."""
_STREAMS = 32
"""Most live streams at a time; they last."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Of reports, which are whole by themselves."""


def tokens_of(options: ServeOptions) -> Tokens | None:
    """The file of tokens; None where none is asked for.  Raises ConfigError."""
    return Tokens(Path(options.tokens)) if options.tokens else None


@dataclass(kw_only=True)
class Gate:
    """An ASGI application around another; ``scope["state"]["principal"]`` then says who asks."""

    app: ASGIApp
    tokens: Tokens | None
    refusals: Refusals
    body_bytes: int
    requests: int
    bounded: frozenset[str] = frozenset()
    """Paths whose routes bound their bodies themselves, while they come."""
    signed: frozenset[str] = frozenset()
    """Paths whose requests are signed instead of bearing a token; whoever answers there checks that."""
    _under_way: dict[str, int] = field(default_factory=lambda: {"request": 0, "stream": 0, "signed": 0})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        kind = "signed" if scope["path"] in self.signed else "stream" if str(scope["path"]).endswith("/stream") else "request"
        room = {"request": self.requests, "stream": _STREAMS, "signed": _SIGNED_AT_A_TIME}[kind]
        if self._under_way[kind] >= room:
            busy = self.refusal(
                "busy", HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at a time; come back", {"Retry-After": "1"}
            )
            await self._refuse(busy, scope, receive, send)
            return
        self._under_way[kind] += 1
        try:
            await self._checked(scope, receive, send)
        finally:
            self._under_way[kind] -= 1

    async def _checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = Headers(scope=scope)
            self._check_path(scope)
            self._check_framing(headers)
            who = self._who(scope, headers)
            self._check_origin(scope, headers)
            body = b"" if scope["path"] in self.bounded else await self._body(scope, headers, receive)
        except ProblemError as refusal:
            await self._refuse(refusal, scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = who
        if scope["path"] in self.bounded:
            await self.app(scope, receive, _with_headers(send))
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()  # waits for the client to go away
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, _with_headers(send))

    def _check_path(self, scope: Scope) -> None:
        path = unquote_to_bytes(scope.get("raw_path") or scope["path"].encode())
        if b"\0" in path or b"\\" in path or b".." in path.split(b"/") or b".." in unquote_to_bytes(path).split(b"/"):
            raise self.refusal("bad_path", HTTPStatus.BAD_REQUEST, "this is no path of ours; / lists what there is")

    def _check_framing(self, headers: Headers) -> None:
        """Two lengths of one body are what requests are smuggled by (RFC 9112, 6.3)."""
        if "content-length" in headers and "transfer-encoding" in headers:
            detail = "a request says how long its body is once: by Content-Length, or by Transfer-Encoding"
            raise self.refusal("invalid", HTTPStatus.BAD_REQUEST, detail, {"Connection": "close"})

    def _who(self, scope: Scope, headers: Headers) -> Principal | None:
        if scope["path"] in self.signed:
            return None
        if self.tokens is None:
            host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
            if not loopback(host):
                raise self.refusal(
                    "foreign_origin", HTTPStatus.FORBIDDEN, "without tokens only loopback names are answered, such as localhost"
                )
            return LOCAL
        token = _token(headers.get("authorization", ""))
        who = self.tokens.who(token) if token else None
        if who is None:
            raise self.refusal(
                "unauthenticated",
                HTTPStatus.UNAUTHORIZED,
                "send a token: `Authorization: Bearer TOKEN`, or as the password in a browser; `audit-plugin token` makes one",
                {"WWW-Authenticate": 'Basic realm="audit_plugin", charset="UTF-8"'},
            )
        wanted = Role.READ if scope["method"] in _SAFE else Role.RUN
        if not who.role.allows(wanted):
            raise self.refusal("forbidden", HTTPStatus.FORBIDDEN, f"this needs a token of role {wanted}; yours is {who.role}")
        return who

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Browsers add credentials to whatever any page sends; a bearer token is added by its owner alone."""
        if (
            scope["method"] in _SAFE
            or headers.get("authorization", "").lower().startswith("bearer ")
            or scope["path"] in self.signed
        ):
            return
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if (origin is not None and urlsplit(origin).netloc != headers.get("host", "")) or site in {"cross-site", "same-site"}:
            raise self.refusal("foreign_origin", HTTPStatus.FORBIDDEN, "this was sent by a page of another site")

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        doubtful = scope["path"] in self.signed
        limit = min(self.body_bytes, _SIGNED_BYTES) if doubtful else self.body_bytes
        patience = _SIGNED_SECONDS if doubtful else _BODY_SECONDS
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > limit:
            raise self._too_large(limit)
        chunks, size = [], 0
        try:
            async with asyncio.timeout(patience):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        break
                    chunks.append(message.get("body", b""))
                    size += len(chunks[-1])
                    if size > limit:
                        raise self._too_large(limit)
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            detail = f"the body did not come within {patience:.0f} s"
            raise self.refusal("too_slow", HTTPStatus.REQUEST_TIMEOUT, detail) from None
        return b"".join(chunks)

    def _too_large(self, limit: int) -> ProblemError:
        return self.refusal("too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {limit} bytes here at most")

    def refusal(self, reason: str, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> ProblemError:
        """Counted, to be raised."""
        self.refusals.count(reason)
        return ProblemError(status, reason.replace("_", "-"), detail, headers=headers)

    async def _refuse(self, refusal: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(refusal)(scope, receive, _with_headers(send))


def _token(header: str) -> str:
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _with_headers(send: Send) -> Send:
    """The answer with headers that it does not set itself."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message.setdefault("headers", []))
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending

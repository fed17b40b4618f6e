"""A small HTTP/1.1 server for JSON requests of local processes, on asyncio and trio.

It reads POST and GET requests with a Content-Length, and keeps connections open. The parts of HTTP that clients of
language models do not use, such as chunked bodies, are refused with a status that says so.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio
from anyio.abc import SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

from lpo_agent.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.abc import SocketStream

LOOPBACK: Final = "127.0.0.1"
MOST_HEAD: Final = 64 * 1024
MOST_BODY: Final = 64 * 1024 * 1024
REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"} | {
    411: "Length Required",
    413: "Content Too Large",
    500: "Internal Server Error",
}


class Request(NamedTuple):
    """A request; ``headers`` have names in lower case, ``body`` is the parsed JSON, None without a body."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class Reply(NamedTuple):
    """A status and a JSON value."""

    status: int
    body: Any


class BadRequest(InputError):
    """The request cannot be read; ``status`` is that of the reply, after which the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@asynccontextmanager
async def serve_json(handle: Callable[[Request], Awaitable[Reply]]) -> AsyncIterator[str]:
    """Answer requests with ``handle`` until the block ends; yield the address, such as ``http://127.0.0.1:4000``."""
    listener = await anyio.create_tcp_listener(local_host=LOOPBACK, local_port=0)

    async def converse(stream: SocketStream) -> None:
        async with stream:
            with suppress(anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
                await _converse(stream, handle)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, converse)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - this is no Django
        yield f"http://{LOOPBACK}:{port}"
        tasks.cancel_scope.cancel()


async def _converse(stream: SocketStream, handle: Callable[[Request], Awaitable[Reply]]) -> None:
    """Answer the requests of one connection."""
    received = BufferedByteReceiveStream(stream)
    while True:
        try:
            request = await _read(received, stream)
        except anyio.IncompleteRead:
            return
        except BadRequest as exc:
            await _write(stream, Reply(exc.status, {"error": {"message": str(exc)}}), close=True)
            return
        close = request.headers.get("connection", "").lower() == "close"
        await _write(stream, await handle(request), close=close)
        if close:
            return


async def _read(received: BufferedByteReceiveStream, stream: SocketStream) -> Request:
    try:
        head = (await received.receive_until(b"\r\n\r\n", MOST_HEAD)).decode("latin-1")
    except anyio.DelimiterNotFound:
        raise BadRequest(413, f"the head of a request has more than {MOST_HEAD} bytes") from None
    first, *lines = head.split("\r\n")
    try:
        method, path, _ = first.split(" ")
    except ValueError:
        raise BadRequest(400, "this is no HTTP request") from None
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("expect", "").lower() == "100-continue":
        await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    return Request(method, path.partition("?")[0], headers, await _body(received, headers))


async def _body(received: BufferedByteReceiveStream, headers: dict[str, str]) -> Any:
    if "transfer-encoding" in headers:
        raise BadRequest(411, "send the body with a Content-Length")
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > MOST_BODY:
        raise BadRequest(413, f"Content-Length must be a number up to {MOST_BODY}")
    if length == "0":
        return None
    try:
        return json.loads(await received.receive_exactly(int(length)))
    except ValueError:
        raise BadRequest(400, "the body is not JSON") from None


async def _write(stream: SocketStream, reply: Reply, *, close: bool) -> None:
    body = json.dumps(reply.body).encode()
    head = (
        f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Error')}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Connection: {'close' if close else 'keep-alive'}\r\n\r\n"
    )
    await stream.send(head.encode("latin-1") + body)

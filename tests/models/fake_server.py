"""A real HTTP server for tests, with OpenAI's and Anthropic's protocols, on loopback.

It runs in its own thread with its own event loop, so tests on asyncio and on trio can use it::

    with fake_server() as server:
        server.reply_with(lambda asked: Reply(asked.text.upper()))
        ...  # point a model at f"{server.url}/v1"
        assert len(server.calls) == 1
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PATIENCE = 100.0
"""Seconds after which a wait is taken to be a hang; a busy machine takes long to start a process."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; ``number`` counts from 0."""

    number: int
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def text(self) -> str:
        """The text of the last message."""
        text: str = self.body["messages"][-1]["content"]
        return text


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request.

    ``text`` and ``finish`` are put into the form of the request's protocol; ``body`` replaces the whole body.
    ``delay`` is in seconds; with ``held`` the reply waits for ``release()``. ``reset`` breaks the connection before
    the reply, ``cut`` in the middle of it.
    """

    text: str | None = "ok"
    finish: str | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None
    delay: float = 0.0
    held: bool = False
    reset: bool = False
    cut: bool = False


Script = Callable[[Asked], Reply]


def failure(status: int, message: str = "no", *, kind: str = "", headers: Mapping[str, str] | None = None) -> Reply:
    """Return an error in a form that both SDKs understand; ``kind`` is its type and its code."""
    error = {"message": message, "type": kind, "code": kind}
    return Reply(status=status, headers=headers or {}, body={"type": "error", "error": error})


class FakeServer:
    """The server; every method may be called from the test's thread."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: list[Asked] = []
        self.in_flight = 0
        self.peak = 0
        self.hung_up = 0
        self._script: Script = lambda _: Reply()
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop, self._released = asyncio.Event(), asyncio.Event()

    def reply_with(self, script: Script | Reply | Sequence[Reply]) -> None:
        """Answer by a function, always the same, or by a list in order, whose last item is repeated."""
        if isinstance(script, Reply):
            self._script = lambda _: script
        elif callable(script):
            self._script = script
        else:
            replies, first = list(script), len(self.calls)
            self._script = lambda asked: replies[min(asked.number - first, len(replies) - 1)]

    def reset(self) -> None:
        """Reset everything, for a server that several tests use one after another."""
        self.calls, self.peak, self.hung_up = [], 0, 0
        self.reply_with(Reply())
        self.hold()

    def release(self) -> None:
        """Send all held replies, and do not hold later ones."""
        self._soon(self._released.set)

    def hold(self) -> None:
        """Hold back replies that are ``held`` again, until the next ``release()``."""
        self._soon(self._released.clear)

    def wait_for_calls(self, count: int) -> None:
        """Block until this number of requests has arrived; raises TimeoutError."""
        self._wait(lambda: len(self.calls) >= count)

    def wait_for_hang_up(self) -> None:
        """Block until a client has disconnected before its answer; raises TimeoutError."""
        self._wait(lambda: self.hung_up > 0)

    def _wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(condition, PATIENCE):
                raise TimeoutError

    def _soon(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function)

    def run(self, started: threading.Event) -> None:
        """Serve until :meth:`stop`; the body of the server's thread."""
        asyncio.run(self._serve(started))

    def stop(self) -> None:
        """End the server; held replies are not sent."""
        self._soon(self._stop.set)

    async def _serve(self, started: threading.Event) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._loop, self.url = asyncio.get_running_loop(), f"http://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(len(self.calls), request.path, dict(request.headers), await request.json())
        self._count(asked)
        try:
            reply = self._script(asked)
            await asyncio.sleep(reply.delay)
            if reply.held:
                await self._released.wait()
            return await _send(request, reply)
        except asyncio.CancelledError:
            self._count_hang_up()
            raise
        finally:
            self.in_flight -= 1

    def _count(self, asked: Asked) -> None:
        with self._changed:
            self.calls.append(asked)
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
            self._changed.notify_all()

    def _count_hang_up(self) -> None:
        with self._changed:
            self.hung_up += 1
            self._changed.notify_all()


async def _send(request: web.Request, reply: Reply) -> web.StreamResponse:
    content = _content(request.path, reply)
    if reply.reset:
        _break(request)
        return web.Response()
    response = web.StreamResponse(status=reply.status, headers={"Content-Type": "application/json", **reply.headers})
    response.content_length = len(content)
    await response.prepare(request)
    await response.write(content[: len(content) // 2] if reply.cut else content)
    if reply.cut:
        _break(request)
    return response


def _break(request: web.Request) -> None:
    transport = request.transport
    assert transport is not None
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()


def _content(path: str, reply: Reply) -> bytes:
    if isinstance(reply.body, bytes):
        return reply.body
    shape = openai_shape if path.endswith("/chat/completions") else anthropic_shape
    return json.dumps(shape(reply) if reply.body is None else reply.body).encode()


def openai_shape(reply: Reply) -> dict[str, object]:
    """Return a chat completion, with 7 tokens read and 3 written."""
    message = {"role": "assistant", "content": reply.text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish or "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def anthropic_shape(reply: Reply) -> dict[str, object]:
    """Return a message, with 7 tokens read and 3 written."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [] if reply.text is None else [{"type": "text", "text": reply.text}],
        "stop_reason": reply.finish or "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


@contextmanager
def fake_server() -> Iterator[FakeServer]:
    """Run a server until the block ends."""
    server, started = FakeServer(), threading.Event()
    thread = threading.Thread(target=server.run, args=(started,))
    thread.start()
    assert started.wait(PATIENCE)
    try:
        yield server
    finally:
        server.stop()
        thread.join(PATIENCE)

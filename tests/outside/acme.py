"""What another package may bring: one implementation of each Protocol, written with public names only."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from lpo_agent import (
    Candidate,
    Completion,
    Critique,
    Judgement,
    Mark,
    Marks,
    Proposal,
    Proposals,
    Replacement,
    Span,
    Traits,
    Usage,
    failure_from,
)
from lpo_agent.errors import DeadlineExceeded, MetricError, RequestFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from typing import TypeVar

    from anyio.abc import TaskStatus

    from lpo_agent import Call, Connection, MarkAsk, Message, Model, ProposeAsk, Row, Search, Topic

    Q = TypeVar("Q", bound=Message)
    R = TypeVar("R", bound=Message)

SEED = "Name the fruit in the text."
BEST = "Name the fruit in the text in capitals."
ROWS = [{"input": f"Box {n} holds {fruit}s.", "target": fruit.upper()} for n in range(30) for fruit in ("pear", "plum")]


class FruitModel:
    """Answers rows, with capitals only if the prompt asks for them."""

    name = "fruit"

    def __init__(self) -> None:
        self.calls = 0

    async def complete(self, call: Call) -> Completion:
        """Name the fruit."""
        self.calls += 1
        text = call.turns[-1].content
        fruit = "pear" if "pears" in text else "plum"
        return Completion(fruit.upper() if "capitals" in text else fruit, Usage(len(text), 1))


class Critic:
    """Writes critiques."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def complete(self, call: Call) -> Completion:
        """Give the only reason that there is."""
        return Completion("The answers should be in capitals.", Usage(100, 10))


class Acme:
    """A provider of critics."""

    traits = Traits(remote=False, free=True)

    def __init__(self) -> None:
        self.opened: list[str] = []

    @asynccontextmanager
    async def open(self, name: str, connection: Connection) -> AsyncIterator[Model]:
        """Open the model with this name."""
        self.opened.append(name)
        yield Critic(name)


class SameLetters:
    """A metric: the share of characters that are right."""

    def __init__(self) -> None:
        self.judged = 0

    async def judge(self, output: str, row: Row) -> Judgement:
        """Compare character by character."""
        if not row.target:
            raise MetricError("the target is empty")
        self.judged += 1
        right = sum(given == wanted for given, wanted in zip(output, row.target, strict=False))
        return Judgement(right / len(row.target), f"{right} of {len(row.target)} letters")


class LastWord:
    """A marker: marks the last word."""

    async def mark(self, ask: MarkAsk) -> Marks:
        """Mark it, with the full stop left out."""
        text = ask.prompt.text.rstrip(".")
        start = text.rindex(" ") + 1
        return Marks(marks=(Mark(span=Span(start, len(text)), reason=ask.critique.text),))


class Suffixes:
    """A proposer: puts known phrases after the marked word."""

    async def propose(self, ask: ProposeAsk) -> Proposals:
        """Return at most as many as asked for."""
        last, word = len(ask.marked.spans) - 1, ask.marked.spans[-1]
        kept = ask.marked.prompt.text[word.start : word.end]
        endings = ("in short", "in capitals", "please")[: ask.n]
        filled = [Replacement(span=last, text=f"{kept} {ending}") for ending in endings]
        return Proposals(proposals=tuple(Proposal(replacements=(each,), note="a suffix") for each in filled))


class OneStep:
    """A method: one critique, one mark, three proposals."""

    name = "one-step"

    async def search(self, search: Search) -> Sequence[Candidate]:
        """Return the candidates, best first."""
        rows = search.train[:8]
        critique: Critique = await search.critique(search.prompt, rows)
        marked = (await search.mark(search.prompt, critique)).on(search.prompt)
        found = [search.edit(marked, each) for each in await search.propose(marked, critique, n=3)]
        means = {each.id: (await search.mean(each.prompt, rows)).mean or 0.0 for each in found}
        return sorted(found, key=lambda each: -means[each.id])


class DirectBus:
    """A bus within one process: it calls the handler of a topic, as soon as there is one."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self._handlers: dict[str, Callable[[Any], Awaitable[Any]]] = {}
        self._changed = anyio.Event()

    async def request(self, topic: Topic[Q, R], message: Q, *, timeout: float) -> R:  # noqa: ASYNC109 - the Protocol's
        """Call the handler; its exception becomes a RequestFailed."""
        self.topics.append(topic.name)
        try:
            with anyio.fail_after(timeout):
                while topic.name not in self._handlers:
                    await self._changed.wait()
                reply: R = await self._handlers[topic.name](message)
        except TimeoutError:
            raise DeadlineExceeded(f"no reply to {topic.name} in {timeout:g} s") from None
        except RequestFailed:
            raise
        except Exception as exc:
            raise RequestFailed(failure_from(exc)) from exc
        return reply

    async def serve(
        self,
        topic: Topic[Q, R],
        handler: Callable[[Q], Awaitable[R]],
        *,
        concurrency: int = 1,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled, with at most this many handlers at the same time."""
        places = anyio.Semaphore(concurrency)

        async def limited(message: Q) -> R:
            async with places:
                return await handler(message)

        self._handlers[topic.name] = limited
        self._changed.set()
        self._changed = anyio.Event()
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            del self._handlers[topic.name]

"""Ask a model, parse the answer strictly, ask once more if it does not parse."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from lpo_agent.errors import ReplyError
from lpo_agent.models.base import Call, Turn
from lpo_agent.prompts import fenced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lpo_agent.core.messages import Trace
    from lpo_agent.models.base import Model

T = TypeVar("T")


async def ask(
    model: Model,
    question: str,
    parse: Callable[[str], T],
    *,
    max_tokens: int,
    temperature: float | None,
    replicate: int,
) -> T:
    """Return what ``parse`` reads from the model's reply.

    A reply that raises ReplyError is sent back once with the reason; a second one raises.
    """
    turns = [Turn("user", question)]
    call = Call(tuple(turns), max_tokens=max_tokens, temperature=temperature, replicate=replicate)
    reply = (await model.complete(call)).text
    try:
        return parse(reply)
    except ReplyError as problem:
        turns += [
            Turn("assistant", reply),
            Turn("user", f"That cannot be used: {problem}. Reply again, in the form asked for."),
        ]
    call = Call(tuple(turns), max_tokens=max_tokens, temperature=temperature, replicate=replicate)
    return parse((await model.complete(call)).text)


def show_traces(traces: Sequence[Trace], limit: int = 600) -> str:
    """Return examples with their answers as fenced data for a meta-prompt."""
    blocks = []
    for trace in traces:
        given = "; ".join(f"{name}: {value}" for name, value in trace.row.variables.items())
        lines = [
            f"input: {given[:limit]}",
            f"wanted: {trace.row.target[:limit]}",
            f"given: {trace.result.output[:limit]}",
        ]
        if trace.result.feedback:
            lines.append(f"remark: {trace.result.feedback[:limit]}")
        blocks.append("\n".join(lines))
    return fenced("\n\n".join(blocks), limit=20_000) if blocks else "(none)"

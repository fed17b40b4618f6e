"""Ask a model, parse the answer strictly, ask once more if it does not parse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from lpo_agent.errors import ReplyError
from lpo_agent.models.base import Call, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.models.base import Model

T = TypeVar("T")


class Answer(NamedTuple, Generic[T]):
    """What was read from a reply, the reply itself, and how many before it could not be used."""

    value: T
    reply: str
    malformed: int


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
    call = Call((Turn("user", question),), max_tokens=max_tokens, temperature=temperature, replicate=replicate)
    return (await converse(model, call, parse, reasks=1)).value


async def converse(model: Model, call: Call, parse: Callable[[str], T], *, reasks: int) -> Answer[T]:
    """Ask, and read the reply; one that raises ReplyError is sent back with the reason, ``reasks`` times.

    Raises the last ReplyError.
    """
    turns = call.turns
    for malformed in range(reasks + 1):
        reply = (await model.complete(replace(call, turns=turns))).text
        try:
            return Answer(parse(reply), reply, malformed)
        except ReplyError as problem:
            if malformed == reasks:
                raise
            complaint = f"That cannot be used: {problem}. Reply again, in the form asked for."
            turns = (*turns, Turn("assistant", reply), Turn("user", complaint))
    raise AssertionError("reasks is at least 0")

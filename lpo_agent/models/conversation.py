"""Asks a model for a reply in a certain form; if the reply cannot be parsed, tells the model why and asks again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from lpo_agent.core.lenient import spoken
from lpo_agent.errors import ReplyError
from lpo_agent.models.base import Call, Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_agent.models.base import Model

T = TypeVar("T")


class Answer(NamedTuple, Generic[T]):
    """The parsed ``value``, the ``reply`` it was parsed from, and the number of ``malformed`` replies before it."""

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
    """Ask one question and return the parsed reply; a malformed reply is asked for again once.

    ``parse`` raises ReplyError for a malformed reply. Raises ReplyError if the second reply is malformed
    too, and ProviderError if the model cannot answer.
    """
    call = Call((Turn("user", question),), max_tokens=max_tokens, temperature=temperature, replicate=replicate)
    return (await converse(model, call, parse, reasks=1)).value


async def converse(model: Model, call: Call, parse: Callable[[str], T], *, reasks: int) -> Answer[T]:
    """Make a call and return the parsed reply; a malformed reply is asked for again up to ``reasks`` times.

    Reasoning in tags before a reply is left out of it. ``parse`` raises ReplyError for a malformed reply; the model is
    shown its reply and the error. Raises
    the last ReplyError if all replies are malformed, and ProviderError if the model cannot answer.
    """
    turns = call.turns
    for malformed in range(reasks + 1):
        reply = spoken((await model.complete(replace(call, turns=turns))).text)
        try:
            return Answer(parse(reply), reply, malformed)
        except ReplyError as problem:
            if malformed == reasks:
                raise
            complaint = f"That cannot be used: {problem}. Reply again, in the form asked for."
            turns = (*turns, Turn("assistant", reply), Turn("user", complaint))
    raise AssertionError("reasks is at least 0")

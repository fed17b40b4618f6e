"""Can the optimizer model do the meta-work? Asked, not assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lpo_agent.agents.marker import TokenMarker
from lpo_agent.agents.proposer import Proposer
from lpo_agent.core.messages import Critique, MarkAsk, ProposeAsk
from lpo_agent.core.text import Prompt, splice
from lpo_agent.errors import EditRejected, ReplyError, RequestRejected

if TYPE_CHECKING:
    from lpo_agent.models.base import Model

SAMPLE = Prompt(text="Read the note below and say which country it comes from.\n\nNote: {input}")
FAULT = Critique(text="The answers are whole sentences, but only the name of the country is wanted.")


@dataclass(frozen=True, slots=True)
class Choice:
    """The method to use and why."""

    method: str
    why: str


async def choose_method(model: Model, wanted: str) -> Choice:
    """Return the method that was asked for, or for "auto" the one that fits the model.

    The probe has the model tag and then edit a short sample prompt, with the very agents of method
    ``lpo``; both replies must be usable, and the tags must leave part of the prompt alone.
    Raises ProviderError where the model cannot be asked at all.
    """
    if wanted != "auto":
        return Choice(wanted, "asked for")
    try:
        await _try(model)
    except (ReplyError, EditRejected, RequestRejected) as exc:
        return Choice("local-search", f"{model.name} cannot mark and fill spans in a probe ({exc})")
    return Choice("lpo", f"{model.name} marked and filled spans in a probe")


async def _try(model: Model) -> None:
    """Mark and edit the sample; raises ReplyError or EditRejected where that gives nothing usable."""
    marks = await TokenMarker(model, temperature=0.0).mark(MarkAsk(prompt=SAMPLE, critique=FAULT))
    marked = marks.on(SAMPLE)
    if marked.tagged_fraction > 0.7:
        raise ReplyError("it tags nearly everything")
    ask = ProposeAsk(marked=marked, critique=FAULT, n=1)
    proposals = await Proposer(model, temperature=0.0).propose(ask)
    splice(marked, proposals.proposals[0].replacements)

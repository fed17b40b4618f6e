"""What the search knows about edits, in the words of the requests to the agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lpo_agent.core.editpool import compose, joined
from lpo_agent.core.edits import moved_place, origin
from lpo_agent.core.messages import STRATEGIES, Credit, Effect, Rejected
from lpo_agent.core.stats import Z90

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lpo_agent.core.editpool import PoolEdit
    from lpo_agent.core.factorial import EditSet, Factorial
    from lpo_agent.core.text import MarkedPrompt, Prompt, Span

HISTORY: Final = 10
"""How many of the best and of the worst edits are shown to the model."""
TOLD: Final = 200
"""Characters of an edit's words that are shown in the history."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the search knows about edits, in the words of the requests to the agents.

    ``chosen``: the set of edits of the prompt that is asked about.
    """

    seed: Prompt
    chosen: EditSet
    model: Factorial

    def members(self) -> list[PoolEdit]:
        """Return the edits of the set."""
        return [self.model.pool[number] for number in sorted(self.chosen)]

    def _places(self) -> Iterator[tuple[int, PoolEdit]]:
        """Yield the edits that were scored."""
        scored = {number for each in self.model.scores for number in each}
        yield from ((number, self.model.pool[number]) for number in sorted(scored))

    def best(self, edits: Sequence[PoolEdit], unknown: float) -> float:
        """Return the worth of the best of these edits that were scored, ``unknown`` if none was."""
        wanted = {(each.span, each.text) for each in edits}
        worths = [self.model.worth(frozenset({n})) for n, each in self._places() if (each.span, each.text) in wanted]
        return max(worths, default=unknown)

    def effects(self) -> tuple[Effect, ...]:
        """Return the influence of the phrases that were left out in some prompts."""
        own, found = joined(self.model.pool[n] for n in self.chosen), []
        for number, edit in self._places():
            if edit.text or (span := moved_place(own, edit.span)) is None:
                continue
            n = sum(len(scores) for each, scores in self.model.scores.items() if number in each)
            influence = -self.model.worth(frozenset({number}))
            found.append(Effect(span=span, influence=min(1.0, max(-1.0, influence)), n=n))
        return tuple(found)

    def credits(self) -> tuple[Credit, ...]:
        """Return for each place that was edited how many of its edits are thought to pay."""
        own = joined(self.model.pool[n] for n in self.chosen)
        paid: dict[Span, list[float]] = {}
        for number, edit in self._places():
            paid.setdefault(edit.span, []).append(self.model.chance(number))
        found = []
        for place, chances in paid.items():
            span = moved_place(own, place)
            if span is not None:
                total = sum(chances)
                found.append(Credit(span=span, paid=total, barren=len(chances) - total))
        return tuple(found)

    def tried(self) -> tuple[str, ...]:
        """Return the prompts that were scored and are not better than the seed prompt, the worst last."""
        others = [each for each in self.model.scores if each and each != self.chosen]
        scored = [each for each in others if self.model.worth(each) <= 0]
        ranked = sorted(scored, key=lambda each: (-self.model.worth(each), sorted(each)))
        return tuple(compose(self.seed, [self.model.pool[n] for n in each]).text for each in ranked)

    def history(self) -> str:
        """Return the best and the worst of the edits that were scored, a line each, with worth and interval."""
        lines = []
        for number, edit in self._places():
            one = frozenset({number})
            inside = number in self.chosen
            worth, error = self.model.share(self.chosen if inside else one, one)
            low, high = worth - Z90 * error, worth + Z90 * error
            items = {item for each, scores in self.model.scores.items() if number in each for item in scores}
            told = f"on {len(items)} examples{', in the prompt now' if inside else ''}"
            about = _described(edit, self.seed.text)
            lines.append((worth, f"{worth:+.2f} ({low:+.2f} to {high:+.2f}) {told}: {about}"))
        ranked = [line for _, line in sorted(lines, key=lambda pair: -pair[0])]
        return "\n".join([*ranked[:HISTORY], *ranked[HISTORY:][-HISTORY:]])

    def missing(self) -> tuple[str, ...]:
        """Return the strategies of which no edit was written yet, empty if none was written at all."""
        sources = {edit.source.removeprefix("written ") for edit in self.model.pool}
        missing = tuple(name for name in STRATEGIES if name not in sources)
        return missing if len(missing) < len(STRATEGIES) else ()

    def rejected(self, marked: MarkedPrompt) -> tuple[Rejected, ...]:
        """Return the texts that were put at the marked places and are not thought to pay."""
        own = joined(self.model.pool[n] for n in self.chosen)
        places = {origin(own, span): number for number, span in enumerate(marked.spans)}
        return tuple(
            Rejected(span=places[edit.span], text=edit.text)
            for number, edit in self._places()
            if edit.span in places and number not in self.chosen and self.model.worth(frozenset({number})) <= 0
        )


def _described(edit: PoolEdit, text: str) -> str:
    old, new = (" ".join(words.split()) for words in (edit.span.of(text), edit.text))
    old, new = (words if len(words) <= TOLD else f"{words[:TOLD]}..." for words in (old, new))
    if not old:
        return f'add "{new}"'
    return f'replace "{old}" by "{new}"' if new else f'delete "{old}"'

#!/usr/bin/env python3
"""Runs whole searches on simulated tasks whose true scores are known, of several kinds.

For each kind: which share of the possible gain the searches find, how many end more than 0.02 below the seed prompt,
and how often the 90 % intervals of the worth of edits hold the true worth: the true score of the final prompt minus
that without the edit. Intervals are those of the result ("kept"), and of all edits that the search scored, in or
out of the final prompt ("pool").

    python scripts/simulate_lands.py [--kinds additive,saturating] [--lands 0-19] [--calls 400] [--sizes 100,40,100]

Kinds: in `additive` lands the effects of instructions, of phrases left out and of examples add up; in `saturating` ones
gains saturate and depend on the place of an instruction; in `rare` ones most edits do nothing and a few do a lot;
in `pair` ones two instructions pay only together; in `single` ones one edit alone pays, by 0.15; in `labels` ones
there are four labels and the seed prompt is at chance; in `long` ones one of thirty sentences must go; in `graded`
ones scores are continuous; in `flat` ones nothing changes the score; in `harmful` ones every edit harms.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist, mean
from typing import TYPE_CHECKING, Any, Final

import anyio

from lpo_agent import open_session
from lpo_agent.core.editpool import compatible, compose
from lpo_agent.core.fragments import fragments_of
from lpo_agent.core.influence import phrases
from lpo_agent.core.stats import Z95
from lpo_agent.core.task_facts import TaskFacts
from lpo_agent.core.text import Prompt
from lpo_agent.environment import Environment
from lpo_agent.models.providers.scripted import ScriptedModel
from lpo_agent.search.methods.pool import LOCAL_SEARCH, PoolMethod

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lpo_agent import RunResult
    from lpo_agent.models.base import Call
    from lpo_agent.search.context import Search
    from lpo_agent.search.methods.pool.search import PoolSearch

KINDS: Final = ("additive", "saturating", "rare", "pair", "single", "labels", "long", "graded", "flat", "harmful")
SHORT: Final = "Have a look at the thing below, and tell me in a few words what you think about it.\n\n{input}"
LONG: Final = "\n".join(
    f"Rule {number}: when the {noun} is {state}, note it and go on." if number != 17 else "Rule 17: never give a reply."
    for number, (noun, state) in enumerate(
        (
            (noun, state)
            for noun in ("order", "parcel", "letter", "bill", "visit")
            for state in ("late", "lost", "open", "paid", "new", "old")
        ),
        start=1,
    )
)
FAULT: Final = "never give a reply"
Z90: Final = 1.6448536269514722
NORMAL: Final = NormalDist()
NOISE: Final = 0.4
"""How much of an answer is luck, rather than the difficulty of its item."""
ITEM: Final = re.compile(r"item (\d+) of (\w+) (\d+)")


def chance(*key: object) -> float:
    """Return a number in [0, 1) that belongs to the key."""
    return int(hashlib.blake2b(repr(key).encode(), digest_size=6).hexdigest(), 16) / 2**48


def labels(kind: str) -> tuple[str, ...]:
    """Return the labels of a kind of land."""
    return ("east", "north", "south", "west") if kind == "labels" else ("no", "yes")


def seed_prompt(kind: str) -> str:
    """Return the seed prompt of a kind of land."""
    return f"{LONG}\n\n{{input}}" if kind == "long" else SHORT


@functools.cache
def features(kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the instructions that may be added, and the phrases of the seed prompt that may be left out."""
    known = TaskFacts(labels=labels(kind), numeric=False, longest=1, hints=())
    prompt = Prompt(text=seed_prompt(kind))
    return tuple(f.text for f in fragments_of(known)), tuple(span.of(prompt.text) for span in phrases(prompt))


def effect(kind: str, land: int, feature: str) -> float:
    """Return the effect of an instruction, of leaving out a phrase, or of an example, in its best place."""
    luck, size = chance(kind, land, feature), chance("size", kind, land, feature)
    if kind == "additive":
        return 0.1 * NORMAL.inv_cdf(0.001 + 0.998 * luck)
    if kind in {"saturating", "labels", "graded"}:
        return 0.0 if luck < 0.5 else -0.05 - 0.15 * size if luck < 0.75 else 0.05 + 0.25 * size
    if kind == "rare":
        return 0.0 if luck < 0.9 else 0.3 if luck < 0.95 else -0.3
    if kind == "harmful":
        return -0.03 - 0.12 * size
    return 0.0


def true_score(kind: str, land: int, text: str) -> float:
    """Return the expected score of a prompt."""
    added, phrased = features(kind)
    held = [each for each in added if each in text] + (["example"] if "Example:" in text else [])
    effects = [effect(kind, land, each) * _place(kind, land, each, text) for each in held]
    effects += [effect(kind, land, each) for each in phrased if each not in text]
    base = {"labels": 0.25, "rare": 0.45, "harmful": 0.6}.get(
        kind, (0.1, 0.3, 0.5)[int(3 * chance("base", kind, land))]
    )
    gains, harms = math.fsum(max(0.0, e) for e in effects), math.fsum(min(0.0, e) for e in effects)
    if kind in {"saturating", "labels", "graded"}:
        gains = 0.5 * math.tanh(2 * gains)
    if kind == "pair":
        gains = 0.3 * all(each in text for each in pair(land))
    if kind == "single":
        gains = 0.15 * (
            sorted((*added, *phrased))[int(chance("one", land) * len(added + phrased))] in _changes(kind, text)
        )
    if kind == "long":
        gains = 0.4 * (FAULT not in text)
    return min(0.97, max(0.02, base + gains + harms))


def pair(land: int) -> tuple[str, str]:
    """Return the two instructions that pay only together."""
    added, _ = features("pair")
    one, two = sorted(added[:10], key=lambda each: chance("pair", land, each))[:2]
    return one, two


def _changes(kind: str, text: str) -> list[str]:
    added, phrased = features(kind)
    return [each for each in added if each in text] + [each for each in phrased if each not in text]


def _place(kind: str, land: int, feature: str, text: str) -> float:
    """Return how much of the effect of an instruction counts where it stands."""
    if kind not in {"saturating", "labels"}:
        return 1.0
    third = min(2, int(3 * text.find(feature) / max(1, len(text))))
    best = int(3 * chance("place", kind, land, feature))
    return 1.0 if third == best else 0.4 + 0.4 * chance("off", kind, land, feature, third)


def answer(call: Call) -> str:
    """Answer an item of a land as a model of this true score would; items have their own difficulty."""
    text = "\n".join(turn.content for turn in call.turns)
    found = [*ITEM.finditer(text)][-1]
    item, kind, land = int(found[1]), found[2], int(found[3])
    prompt = text[: found.start()] + "{input}" + text[found.end() :]
    score = true_score(kind, land, prompt)
    hard, luck = (
        NORMAL.inv_cdf(0.001 + 0.998 * chance(*key)) for key in (("item", item, kind, land), ("luck", item, prompt))
    )
    if kind == "graded":
        return f"{min(1.0, max(0.0, score + 0.15 * hard + 0.1 * luck)):.3f}"
    wanted, known = target(kind, land, item), labels(kind)
    good = NORMAL.inv_cdf(score) * math.sqrt(1 + NOISE**2) + hard + NOISE * luck > 0
    return wanted if good else next(each for each in known if each != wanted)


def target(kind: str, land: int, item: int) -> str:
    """Return the right answer of an item."""
    known = labels(kind)
    return known[int(len(known) * chance("target", kind, land, item))]


def graded(output: str, target: str, row: dict[str, Any]) -> float:  # noqa: ARG001 - the arguments of a metric
    """Return the score that the answer names."""
    return float(output)


@dataclass(frozen=True, slots=True)
class Kept(PoolMethod):
    """The method ``local-search``, which keeps its last search for a look at its posterior."""

    last: list[PoolSearch] = field(default_factory=list)

    def start(self, search: Search) -> PoolSearch:
        """Return the search, which has not begun yet."""
        self.last[:] = [super(Kept, self).start(search)]
        return self.last[0]


@dataclass(slots=True)
class Found:
    """What the searches of one kind found: true gains and possible ones, and which intervals held the truth."""

    gains: list[float] = field(default_factory=list)
    improved: int = 0
    kept: list[bool] = field(default_factory=list)
    pool: list[bool] = field(default_factory=list)
    excess: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)


def look(kind: str, land: int, result: RunResult, search: PoolSearch, found: Found) -> None:
    """Compare what a search says with the truth."""
    seed = Prompt(text=seed_prompt(kind))
    challenger = getattr(result, "challenger", None)
    end = (challenger or result.best).prompt
    score = functools.partial(true_score, kind, land)
    found.gains.append(score(end) - score(seed.text))
    found.improved += result.verdict == "improved"
    found.calls.append(result.usage.calls)
    for edit in (challenger or result.best).edits:
        if edit.worth is None or edit.ci95 is None:
            continue
        others = [each for each in (challenger or result.best).edits if each is not edit]
        truth = score(end) - score(_with(seed, others))
        found.kept.append(abs(truth - edit.worth) <= Z90 / Z95 * (edit.ci95[1] - edit.ci95[0]) / 2)
        found.excess.append(edit.worth - truth)
    model = search.model
    made = {compose(seed, [model.pool[n] for n in each]).text: each for each in model.scores}
    chosen = made.get(end, frozenset())
    for number in sorted({n for each in model.scores for n in each}):
        rest = chosen - {number}
        if not compatible([model.pool[n] for n in rest], model.pool[number]):
            continue
        whole = rest | {number}
        worth, error = model.share(whole, frozenset({number}))
        texts = [compose(seed, [model.pool[n] for n in each]).text for each in (whole, rest)]
        found.pool.append(abs(score(texts[0]) - score(texts[1]) - worth) <= Z90 * error)


def _with(seed: Prompt, edits: Sequence[Any]) -> str:
    text = seed.text
    for each in sorted(edits, key=lambda each: -each.start):
        text = text[: each.start] + each.new + text[each.end :]
    return text


async def searches(kind: str, lands: Sequence[int], calls: int, sizes: Sequence[int], home: Path) -> Found:
    """Run one search on each land of a kind."""
    found = Found()
    model = ScriptedModel(answer, "lands")
    method: Any = Kept(LOCAL_SEARCH.name, LOCAL_SEARCH.numbers, LOCAL_SEARCH.proposer)
    metric = graded if kind == "graded" else "exact"
    async with open_session(env=Environment(home), model=model, cache=False) as session:
        for land in lands:
            result = await session.optimize(
                seed_prompt(kind),
                [],
                metric=metric,
                method=method,
                seed=land,
                budget={"calls": calls},
                **splits(kind, land, sizes, home),
            )
            look(kind, land, result, method.last[0], found)
    return found


def splits(kind: str, land: int, sizes: Sequence[int], home: Path) -> dict[str, Any]:
    """Write the rows of a land as files of train, dev and test rows."""
    start, found = 0, dict[str, Any]()
    for name, size in zip(("train", "dev", "test"), sizes, strict=True):
        numbers = range(start, start + size)
        rows = [{"input": f"item {n} of {kind} {land}", "target": target(kind, land, n)} for n in numbers]
        found[name] = path = home / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        start += size
    return found


@functools.cache
def possible(kind: str, land: int) -> float:
    """Return the true gain of a prompt with every change that helps, each instruction in its best place."""
    if kind in {"pair", "single", "long"}:
        return {"pair": 0.3, "single": 0.15, "long": 0.4}[kind]
    added, phrased = features(kind)
    gain = math.fsum(max(0.0, effect(kind, land, each)) for each in (*added, *phrased, "example"))
    seed = true_score(kind, land, seed_prompt(kind))
    return min(0.97 - seed, 0.5 * math.tanh(2 * gain) if kind in {"saturating", "labels", "graded"} else gain)


def share(held: Sequence[bool]) -> str:
    """Return the share of intervals that hold the truth, in words."""
    return f"{mean(held):.1%} of {len(held)}" if held else "none"


def main() -> None:
    """Print what the searches on each kind of land found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--lands", default="0-19")
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--sizes", default="100,40,100", help="rows of train, dev and test")
    options = parser.parse_args()
    first, _, last = options.lands.partition("-")
    lands, sizes = range(int(first), int(last or first) + 1), [int(n) for n in options.sizes.split(",")]
    every = Found()
    for kind in options.kinds.split(","):
        with tempfile.TemporaryDirectory() as home:
            found = anyio.run(searches, kind, lands, options.calls, sizes, Path(home))
        every.kept += found.kept
        every.pool += found.pool
        best, gain = mean(possible(kind, land) for land in lands), mean(found.gains)
        print(
            f"{kind:10} gain {gain:+.3f} of {best:.3f}, worst {min(found.gains):+.3f}, "
            f"{sum(each < -0.02 for each in found.gains)} of {len(lands)} below the seed, {found.improved} improved, "
            f"{mean(found.calls):.0f} calls; 90 % intervals hold the truth: kept {share(found.kept)} "
            f"(worth too high by {mean(found.excess) if found.excess else 0.0:+.3f}), pool {share(found.pool)}",
            flush=True,
        )
    print(f"all kinds: kept {share(every.kept)}, pool {share(every.pool)}")


if __name__ == "__main__":
    main()

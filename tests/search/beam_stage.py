"""Runs whole searches of the beam methods (APE, ProTeGi, PE2) and turns what happened into short lines of text.

**A stage** is a small world for one search: three data files (20 training, 10 dev, 12 test items, unless a test
says otherwise), the seed prompt "Name the class (seed).", and two models played by the functions in
``beam_models``: the optimizer, which writes new prompts, and the task model, which answers items. A test writes
down beforehand how good every prompt is going to be; the search then runs unchanged, through the public library.

**Names.** Every prompt holds its own name in parentheses, so the functions know which prompt they see. "seed" is
the first prompt; "2.1.0" was made in step 2, from the parent in place 1 of the beam, as proposal number 0. ProTeGi
makes several critiques of a parent and edits for each, so its names are longer: "2.1.0.3" is the prompt for
critique 3, "2.1.0.3/1" the second one for it, "2.1.0.3.v1" a paraphrase of that, and "2.1.v0" a paraphrase of the
parent itself. "1.0.0@A" was written from a set of examples (APE); A is the set of the prompt that was scored first.

**Levels** say how many items of a split a prompt gets right, by its name::

    {"dev": {"seed": 3, "1.0.0": 5, "else": 2}, "train": {"1.0.0": 19}}

Here the seed prompt gets 3 of the 10 dev items right, prompt 1.0.0 gets 5, all others 2. ``beam_models`` has more.

**What comes out**, as a :class:`Played`, is compared with tables that were written by hand from the papers:

- ``told()``: the search's events, one a line. ``1 propose mend off: seed -> 1.0.0``: in step 1, a prompt that mends
  errors of the seed prompt was proposed, with locality "off". ``1 score 1.0.0 0.5 of 10 @34``: it got half of 10
  items right, and the search had made 34 calls by then. ``1 beam 1.0.0 seed``: these two prompts are parents of the
  next step, best first. ``1 best 1.0.0 0.5``: this one is the answer so far.
- ``chains()``: what the optimizer was asked for each new prompt, in order. ``inspect seed 2 > write seed 2``: first
  to go through 2 examples that the seed prompt got wrong, then to write the new prompt with those 2 in view.
- ``answered()``: how many items of each split were answered under each prompt.
- ``settings()``: kind, temperature and longest answer of the optimizer's calls.

One table often serves four runs, with each kind of locality; ``test_beam_methods`` says how ("WRITE", "34|36").
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpo_agent import open_run
from lpo_agent.core.events import BeamSelected, CandidateScored, Proposed, StepFinished
from lpo_agent.core.result import RunResult
from lpo_agent.core.text import Prompt, parse_tags
from lpo_agent.environment import Environment
from lpo_agent.spec import make_spec
from tests.search.beam_models import name_in

if TYPE_CHECKING:
    import pytest

    from lpo_agent.core.events import Event

MODELS = Path(__file__).parent / "beam_models.py"
SEED = "Name the class (seed)."
SIZES = {"train": 20, "dev": 10, "test": 12}


@dataclass(frozen=True)
class Played:
    """A run that is over: its result, its events, and all that was asked of the models."""

    result: RunResult
    events: list[Event]
    log: list[dict[str, Any]]
    names: dict[str, str]

    def proposed(self) -> list[Proposed]:
        return [event for event in self.events if isinstance(event, Proposed)]

    def told(self) -> list[str]:
        """Return the steps' proposals, sorted within their step, then scores, beam and end in their order."""
        lines: list[str] = []
        waiting: list[str] = []
        for event in self.events:
            if isinstance(event, Proposed):
                mark = " (fallback)" if event.fallback else ""
                families = f"{self._name(event.parent)} -> {self._name(event.candidate)}"
                waiting.append(f"{event.step} propose {event.purpose} {event.locality}{mark}: {families}")
            elif line := self._line(event):
                lines, waiting = [*lines, *sorted(waiting), line], []
        return lines

    def _line(self, event: Event) -> str:
        if isinstance(event, CandidateScored):
            mean = "?" if event.mean is None else f"{event.mean:.1f}"
            return f"{event.step} score {self._name(event.candidate)} {mean} of {event.items} @{event.calls}"
        if isinstance(event, BeamSelected):
            return f"{event.step} beam {' '.join(map(self._name, event.candidates))}"
        if isinstance(event, StepFinished):
            mean = "" if event.mean is None else f" {event.mean:.1f}"
            return f"{event.step} best {self._name(event.accepted)}{mean}"
        return ""

    def _name(self, found: str | None) -> str:
        return "none" if found is None else self._lettered(self.names.get(found, found))

    def _lettered(self, name: str) -> str:
        """Return the name of an induced prompt with a letter for its set of examples, by the order of scores."""
        name, _, drawn = name.partition("@")
        scored = [self.names.get(event.candidate, "") for event in self.events if isinstance(event, CandidateScored)]
        sets = list(dict.fromkeys(of.partition("@")[2] for of in scored if "@" in of))
        return f"{name}@{'ABCDEF'[sets.index(drawn)]}" if drawn else name

    def optimizer(self) -> list[dict[str, Any]]:
        """Return the calls of the optimizer model, in order."""
        return [entry for entry in self.log if entry["kind"] != "task"]

    def chains(self) -> dict[str, str]:
        """Return what was asked for each proposal, in order: kind, parent, examples shown."""
        found: dict[str, list[str]] = defaultdict(list)
        for entry in self.optimizer():
            words = [entry["kind"], "again" * entry["reask"], self._lettered(entry["parent"]), str(len(entry["items"]))]
            found[entry["name"]].append(" ".join(filter(None, words)))
        return {name: " > ".join(kinds) for name, kinds in found.items()}

    def answered(self) -> Counter[str]:
        """Return how many items of each split were answered under each prompt."""
        tasks = (entry for entry in self.log if entry["kind"] == "task")
        return Counter(f"{self._lettered(entry['parent'])} {entry['split']}" for entry in tasks)

    def settings(self) -> set[tuple[str, float, int]]:
        """Return kind, temperature and longest answer of the optimizer model's calls."""
        return {(entry["kind"], entry["temperature"], entry["tokens"]) for entry in self.optimizer()}

    def at(self, name: str, kind: str) -> int:
        """Return the place in the log of the only call of this kind for this proposal."""
        (place,) = [n for n, e in enumerate(self.log) if e["name"] == name and e["kind"] == kind]
        return place


class Stage:
    """A folder in which searches are run: three splits in files, levels of prompts, a log of all calls."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = home
        self.rounds = 0
        self._monkeypatch = monkeypatch

    def files(self, sizes: dict[str, int]) -> dict[str, Path]:
        paths = {}
        for split, size in sizes.items():
            paths[split] = self.home / f"{split}-{size}.jsonl"
            rows = (json.dumps({"input": f"{split} {n};", "target": "right"}) for n in range(size))
            paths[split].write_text("\n".join(rows), encoding="utf-8")
        return paths

    def options(self, method: str, *, model: str = "host", sizes: dict[str, int] | None = None) -> dict[str, Any]:
        """Return the options of a run on the stage."""
        given = {"prompt": SEED, "model": f"scripted:{MODELS}:{model}", "metric": "exact", "cache": False}
        return given | {"method": method, "locality": "off", **self.files(sizes or SIZES)}

    async def play(
        self,
        method: str,
        levels: dict[str, Any] | None = None,
        *,
        model: str = "host",
        sizes: dict[str, int] | None = None,
        **options: Any,
    ) -> Played:
        """Run a search to its end. ``levels``: by split, then by the prompt's name; "else" for all others."""
        self.rounds += 1
        stage = self.home / f"round{self.rounds}"
        stage.mkdir()
        self._monkeypatch.setenv("HOST_STAGE", str(stage))
        table = {"train": {}, "dev": {}, "test": {}} | (levels or {})
        (stage / "levels.json").write_text(json.dumps(table), encoding="utf-8")
        given = self.options(method, model=model, sizes=sizes) | options
        events: list[Event] = []
        async with open_run(make_spec(given), env=Environment(stage)) as run:
            events.extend([event async for event in run])
            result = await run.wait()
        assert isinstance(result, RunResult)
        lines = (stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
        log = [json.loads(line) for line in lines]
        seed = parse_tags(str(given["prompt"]))[0]
        return Played(result, events, log, _names(seed, log))


def _names(seed: str, log: list[dict[str, Any]]) -> dict[str, str]:
    """Return the names of all prompts that examples were answered by, by their ids."""
    found = {Prompt(text=seed).id: name_in(seed)}
    for entry in log:
        if entry["kind"] == "task":
            text = entry["text"].removesuffix(f"{entry['split']} {entry['item']};").removesuffix("\n\n")
            found[Prompt(text=text).id] = entry["parent"]
    return found

"""The job of a program, and its requests to the counting endpoint."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AT_ONCE = 10
SPENT = 3
"""The exit status after a refused call: no other can succeed."""


@dataclass(frozen=True)
class Row:
    """A row of train or dev; rows of test have no target."""

    id: str
    variables: dict[str, str]
    target: str = ""

    @property
    def shown(self) -> str:
        """The row's variables as one text."""
        if len(self.variables) == 1:
            return next(iter(self.variables.values()))
        return "\n".join(f"{name}: {value}" for name, value in self.variables.items())


@dataclass(frozen=True)
class Job:
    """What a program must do. ``calls``: the cap; ``max_tokens``: the limit of an answer to an item."""

    peer: str
    url: str
    token: str
    prompt: str
    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    test: tuple[Row, ...]
    state: dict[str, Any] | None
    seed: int
    calls: int
    max_tokens: int
    temperature: float | None

    @property
    def most_scorings(self) -> int:
        """A limit of scorings for packages that need one: the cap ends the search before, unless nothing is asked."""
        return 20 * self.calls

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request to the endpoint and return its answer; a refused call ends the process."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", json.dumps(body).encode(), headers)  # noqa: S310 - it is an address of ours
        try:
            with urllib.request.urlopen(request) as reply:  # noqa: S310 - it is an address of ours
                found: dict[str, Any] = json.load(reply)
        except urllib.error.HTTPError as exc:
            if exc.code == 403:
                os._exit(SPENT)
            raise RuntimeError(f"{path}: {exc.read().decode()}") from None
        return found

    def answer(self, prompt: str, row: Row) -> dict[str, Any]:
        """Have the task model answer a row, and the metric judge it; a missing score counts as 0."""
        found = self.post("/answer", {"prompt": prompt, "row": row.id})
        return found | {"score": found["score"] or 0.0}

    def answers(self, prompts: Sequence[str], rows: Sequence[Row]) -> list[dict[str, Any]]:
        """Answer pairs of prompt and row, several at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(self.answer, prompts, rows))

    def judge(self, row_id: str, output: str) -> tuple[float, str]:
        """Return the score and the feedback of the metric; a missing score counts as 0."""
        found = self.post("/judge", {"row": row_id, "output": output})
        return found["score"] or 0.0, found["feedback"]

    def report(
        self, prompt: str, score: float | None, *, state: Mapping[str, Any] | None = None, seed: bool = False
    ) -> None:
        """Tell the best prompt so far; ``seed``: it is the seed prompt, which is told first, before it has a score."""
        self.post("/report", {"prompt": prompt, "score": score, "state": state, "seed": seed})

    @property
    def bare_prompt(self) -> str:
        """The seed prompt without its placeholders: lines with nothing else are left out, others get the name."""
        lines = [line for line in self.prompt.splitlines() if not re.fullmatch(r"\s*\{[A-Za-z_]\w*\}\s*", line)]
        text = re.sub(r"(?<!\{)\{([A-Za-z_]\w*)\}(?!\})", r"`\1`", "\n".join(lines))
        return re.sub(r"\{\{([A-Za-z_]\w*)\}\}", r"{\1}", text).strip()


def read_job() -> Job:
    """Return the job in the file that the first argument names."""
    content = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    rows = {name: tuple(Row(**row) for row in content[name]) for name in ("train", "dev", "test")}
    return Job(**content | rows)

"""An example of a program with a large concurrent search: many tasks x methods x seeds, one rate limit, one budget.

It uses only the public API (``import lpo_agent``). All searches run at the same time; the session keeps them within the
rate limit of the account and within one budget. If you stop it with Ctrl-C and start it again, the answers that were
paid for come from the journal and cost nothing.

    python scripts/search.py --model openai:gpt-5.4-mini --rpm 5000 --budget-usd 20 tasks/*.jsonl
    python scripts/search.py --model local:smollm2 --methods local-search --seeds 2   # needs no other files

A task is a file ``NAME.jsonl`` of JSON lines with ``input`` and ``target``; its seed prompt can be in ``NAME.txt``.
Without files, the program uses two small tasks of the package.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import anyio

import lpo_agent

PROMPT = "Answer the question."
EXAMPLES = {
    "orders/messages.jsonl": "Extract the order number from the customer message.",
    "reviews/reviews.jsonl": "Is this review of a product positive or negative?",
}


@dataclass(frozen=True)
class Task:
    """A seed prompt and the examples for it."""

    name: str
    prompt: str
    examples: list[lpo_agent.Example]


def read_task(path: Path, prompt: str | None = None) -> Task:
    """Read a task from its file, and its prompt from the file beside it."""
    beside = path.with_suffix(".txt")
    if prompt is None:
        prompt = beside.read_text(encoding="utf-8") if beside.exists() else PROMPT
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return Task(path.stem, prompt, [lpo_agent.Example(input=row["input"], target=str(row["target"])) for row in rows])


async def search(options: argparse.Namespace, tasks: list[Task]) -> list[dict[str, object]]:
    """Run all searches; return a line for each, in the order of the grid."""
    budget = lpo_agent.Budget(usd=options.budget_usd, calls=options.budget_calls)
    grid = list(product(tasks, options.methods.split(","), range(options.seeds)))
    lines: list[dict[str, object]] = [{} for _ in grid]
    at_once = anyio.CapacityLimiter(options.at_once)

    async with lpo_agent.open_session(
        model=options.model,
        optimizer_model=options.optimizer_model,
        base_url=options.base_url,
        rpm=options.rpm,
        budget=budget,
        bus=options.bus,
        say=lambda text: print(text, file=sys.stderr),
    ) as session:

        async def one(number: int, task: Task, method: str, seed: int) -> None:
            async with at_once:
                line: dict[str, object]
                try:
                    result = await session.optimize(
                        task.prompt, task.examples, method=method, seed=seed, steps=options.steps
                    )
                    scores = {"seed_score": mean(result.seed), "best_score": mean(result.best)}
                    line = {"verdict": result.verdict, **scores}
                    line |= {"prompt": result.best.prompt, "run": result.run_id, "calls": result.usage.calls}
                except lpo_agent.LpoError as problem:
                    line = {"verdict": "failed", "why": str(problem)}
            lines[number] = {"task": task.name, "method": method, "seed": seed, **line}
            print(f"{task.name}, {method}, seed {seed}: {line['verdict']}", file=sys.stderr)

        async with anyio.create_task_group() as group:
            for number, (task, method, seed) in enumerate(grid):
                group.start_soon(one, number, task, method, seed)
        usage = session.usage()
    print(f"{usage.calls} calls, {usage.cached_calls} cached, {usage.wall_s:.0f} s", file=sys.stderr)
    return lines


def mean(part: lpo_agent.SeedResult | lpo_agent.BestResult) -> float | None:
    """Return the mean on test, or on dev where there is no test split."""
    score = part.test or part.dev
    return None if score is None else score.mean


def main() -> None:
    """Search, and print one JSON line for each search."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", type=Path, help="files of JSON lines with input and target")
    parser.add_argument("--model", required=True, help="PROVIDER:NAME that answers the items")
    parser.add_argument("--optimizer-model", help="PROVIDER:NAME that marks and proposes")
    parser.add_argument("--base-url", help="the server of --model")
    parser.add_argument("--methods", default="auto", help="comma-separated methods (default: auto)")
    parser.add_argument("--seeds", type=int, default=1, help="searches for each task and method (default: 1)")
    parser.add_argument("--steps", type=int, help="steps of each search")
    parser.add_argument("--at-once", type=int, default=64, help="searches at the same time (default: 64)")
    parser.add_argument("--rpm", type=float, help="requests a minute, for all searches together")
    parser.add_argument("--budget-usd", type=float, help="US dollars, for all searches together")
    parser.add_argument("--budget-calls", type=int, help="calls, for all searches together")
    parser.add_argument(
        "--bus", default="memory", help="nats://HOST:PORT to let workers make the model calls (default: memory)"
    )
    options = parser.parse_args()
    tasks = [read_task(path) for path in options.tasks]
    if not tasks:
        folder = Path(lpo_agent.__path__[0]) / "examples"
        tasks = [read_task(folder / name, prompt) for name, prompt in EXAMPLES.items()]
    try:
        lines = anyio.run(search, options, tasks)
    except lpo_agent.LpoError as problem:
        sys.exit(f"search: {problem}")
    except KeyboardInterrupt:
        sys.exit("search: interrupted; if you start it again, answers that were paid for cost nothing")
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()

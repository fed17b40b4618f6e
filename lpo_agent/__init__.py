"""Local Prompt Optimization: better prompts by small, proven-local edits, measured on your data.

::

    result = await lpo_agent.optimize(prompt, examples, metric="exact", model="openai:...", budget=Budget(usd=1))

    async with lpo_agent.open_run(spec) as run:      # the same run, observed while it happens
        async for event in run: ...
    result = run.result

    async with lpo_agent.open_session(model="openai:...", rpm=5000, budget=Budget(usd=20)) as session:
        result = await session.optimize(prompt, examples)   # many at once: one limiter, one budget

Async only, on asyncio and trio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lpo_agent.core.budget import Budget
    from lpo_agent.core.result import BestResult, RunResult, SeedResult
    from lpo_agent.core.text import MarkedPrompt, Prompt, Span
    from lpo_agent.data import Example
    from lpo_agent.errors import LpoError
    from lpo_agent.metrics import Judgement, Metric
    from lpo_agent.runs import Run, Session, open_resumed, open_run, open_session
    from lpo_agent.spec import RunSpec

_HOMES = {
    "BestResult": "core.result",
    "Budget": "core.budget",
    "Example": "data",
    "Judgement": "metrics",
    "LpoError": "errors",
    "MarkedPrompt": "core.text",
    "Metric": "metrics",
    "Prompt": "core.text",
    "Run": "runs",
    "RunResult": "core.result",
    "RunSpec": "spec",
    "SeedResult": "core.result",
    "Session": "runs",
    "Span": "core.text",
    "open_resumed": "runs",
    "open_run": "runs",
    "open_session": "runs",
}

__all__ = [
    "BestResult",
    "Budget",
    "Example",
    "Judgement",
    "LpoError",
    "MarkedPrompt",
    "Metric",
    "Prompt",
    "Run",
    "RunResult",
    "RunSpec",
    "SeedResult",
    "Session",
    "Span",
    "__version__",
    "open_resumed",
    "open_run",
    "open_session",
    "optimize",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lpo_agent' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is asked for

    return getattr(import_module(f"lpo_agent.{_HOMES[name]}"), name)


async def optimize(
    prompt: str,
    examples: Sequence[Example | Mapping[str, Any]],
    *,
    model: str,
    metric: Any = None,
    **options: Any,
) -> RunResult:
    """Search for a better prompt and return the result.

    ``examples`` are split into train, dev and test by ``seed``. ``metric`` is a name, a function
    ``(output, target, row) -> float`` in [0, 1], or a Metric. ``options`` are the fields of
    :class:`RunSpec`. Raises LpoError; ExceptionGroup never.
    """
    from lpo_agent.core.result import RunResult as Result  # noqa: PLC0415
    from lpo_agent.runs import open_run as start  # noqa: PLC0415
    from lpo_agent.spec import make_spec  # noqa: PLC0415 - see __getattr__

    named = metric if isinstance(metric, str) else None
    spec = make_spec({"prompt": prompt, "examples": tuple(examples), "model": model, "metric": named, **options})
    async with start(spec, metric=None if named else metric) as run:
        result = await run.wait()
    assert isinstance(result, Result)  # noqa: S101 - the kind of run decides it
    return result

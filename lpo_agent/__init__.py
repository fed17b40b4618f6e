"""Local Prompt Optimization: improves prompts by small local edits, and measures the improvement on your data.

::

    result = await lpo_agent.optimize(prompt, rows, metric="exact", model="openai:...", budget=Budget(calls=1000))

    async with lpo_agent.open_run(spec) as run:      # the same, and observe the run while it is in progress
        async for event in run: ...
    result = run.result

    async with lpo_agent.open_session(model="openai:...", rpm=5000, budget=Budget(calls=20_000)) as session:
        result = await session.optimize(prompt, rows)   # many runs at the same time: one rate limit, one budget

The functions are async only, and work on asyncio and trio.

Public are the names in ``__all__`` of this module and of :mod:`lpo_agent.bench`, :mod:`lpo_agent.errors`,
:mod:`lpo_agent.events`, :mod:`lpo_agent.plugins`, :mod:`lpo_agent.report` and :mod:`lpo_agent.results`. Before version
1.0, a change that breaks one of them is announced as a deprecation at least one minor version earlier. Everything else
may change in any version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0.dev0"

if TYPE_CHECKING:
    from lpo_agent.agents.base import Marker, Proposer
    from lpo_agent.api import (
        compare,
        evaluate,
        headroom,
        mark,
        open_bench,
        open_resumed,
        open_run,
        optimize,
        resume,
    )
    from lpo_agent.bus.base import Bus, failure_from
    from lpo_agent.core.beam_options import LocalityMode
    from lpo_agent.core.budget import Budget
    from lpo_agent.core.events import Event
    from lpo_agent.core.fields import Option, by_field, options_of
    from lpo_agent.core.messages import (
        Critique,
        CritiqueAsk,
        Mark,
        MarkAsk,
        Marks,
        Message,
        Proposal,
        Proposals,
        ProposeAsk,
        Row,
        ScoreAsk,
        ScoreReply,
        Topic,
        Trace,
    )
    from lpo_agent.core.result import (
        BestResult,
        CompareResult,
        EvaluateResult,
        HeadroomResult,
        MarkResult,
        RunResult,
        RunStatus,
        SeedResult,
    )
    from lpo_agent.core.scores import Score, Scored, Unscored
    from lpo_agent.core.text import MarkedPrompt, Prompt, Replacement, Span, parse_tags
    from lpo_agent.data import Example, read_examples
    from lpo_agent.diagnosis import Check, diagnose
    from lpo_agent.environment import Environment, read_environment
    from lpo_agent.errors import LpoError
    from lpo_agent.failure import Failure, Retry
    from lpo_agent.history import StoredRun, list_runs, read_run, report_page
    from lpo_agent.metrics import Judgement, Metric
    from lpo_agent.model_files import LOCAL_MODELS, pull_model
    from lpo_agent.models.base import Call, Completion, Model, Turn, Usage
    from lpo_agent.models.providers.base import Connection, Provider, Traits
    from lpo_agent.runs.estimate import PlanEstimate, plan_run
    from lpo_agent.runs.guided import GuidedRuns
    from lpo_agent.runs.run import Run
    from lpo_agent.search.candidates import Candidate
    from lpo_agent.search.context import Search
    from lpo_agent.search.methods.base import Method
    from lpo_agent.search.methods.guided import GuidedItem, GuidedState
    from lpo_agent.session import Session, open_session
    from lpo_agent.spec import NO_MODEL, RunSpec, argument, load_config, make_spec, option_of
    from lpo_agent.workers.messages import WORKER_ROLES
    from lpo_agent.workers.worker import serve_worker

_HOMES = {
    "LOCAL_MODELS": "model_files",
    "NO_MODEL": "spec",
    "WORKER_ROLES": "workers.messages",
    "BestResult": "core.result",
    "Budget": "core.budget",
    "Bus": "bus.base",
    "Call": "models.base",
    "Candidate": "search.candidates",
    "Check": "diagnosis",
    "CompareResult": "core.result",
    "Completion": "models.base",
    "Connection": "models.providers.base",
    "Critique": "core.messages",
    "CritiqueAsk": "core.messages",
    "Environment": "environment",
    "EvaluateResult": "core.result",
    "Event": "core.events",
    "Example": "data",
    "Failure": "failure",
    "GuidedItem": "search.methods.guided",
    "GuidedRuns": "runs.guided",
    "GuidedState": "search.methods.guided",
    "HeadroomResult": "core.result",
    "Judgement": "metrics",
    "LocalityMode": "core.beam_options",
    "LpoError": "errors",
    "Mark": "core.messages",
    "MarkAsk": "core.messages",
    "MarkResult": "core.result",
    "MarkedPrompt": "core.text",
    "Marker": "agents.base",
    "Marks": "core.messages",
    "Message": "core.messages",
    "Method": "search.methods.base",
    "Metric": "metrics",
    "Model": "models.base",
    "Option": "core.fields",
    "PlanEstimate": "runs.estimate",
    "Prompt": "core.text",
    "Proposal": "core.messages",
    "Proposals": "core.messages",
    "ProposeAsk": "core.messages",
    "Proposer": "agents.base",
    "Provider": "models.providers.base",
    "Replacement": "core.text",
    "Retry": "failure",
    "Row": "core.messages",
    "Run": "runs.run",
    "RunResult": "core.result",
    "RunSpec": "spec",
    "RunStatus": "core.result",
    "Score": "core.scores",
    "ScoreAsk": "core.messages",
    "ScoreReply": "core.messages",
    "Scored": "core.scores",
    "Search": "search.context",
    "SeedResult": "core.result",
    "Session": "session",
    "Span": "core.text",
    "StoredRun": "history",
    "Topic": "core.messages",
    "Trace": "core.messages",
    "Traits": "models.providers.base",
    "Turn": "models.base",
    "Unscored": "core.scores",
    "Usage": "models.base",
    "argument": "spec",
    "by_field": "core.fields",
    "compare": "api",
    "diagnose": "diagnosis",
    "evaluate": "api",
    "failure_from": "bus.base",
    "headroom": "api",
    "list_runs": "history",
    "load_config": "spec",
    "make_spec": "spec",
    "mark": "api",
    "open_bench": "api",
    "open_resumed": "api",
    "open_run": "api",
    "open_session": "session",
    "optimize": "api",
    "option_of": "spec",
    "options_of": "core.fields",
    "parse_tags": "core.text",
    "plan_run": "runs.estimate",
    "pull_model": "model_files",
    "read_environment": "environment",
    "read_examples": "data",
    "read_run": "history",
    "report_page": "history",
    "resume": "api",
    "serve_worker": "workers.worker",
}
"""The module of each public name, relative to this package."""

__all__ = [
    "LOCAL_MODELS",
    "NO_MODEL",
    "WORKER_ROLES",
    "BestResult",
    "Budget",
    "Bus",
    "Call",
    "Candidate",
    "Check",
    "CompareResult",
    "Completion",
    "Connection",
    "Critique",
    "CritiqueAsk",
    "Environment",
    "EvaluateResult",
    "Event",
    "Example",
    "Failure",
    "GuidedItem",
    "GuidedRuns",
    "GuidedState",
    "HeadroomResult",
    "Judgement",
    "LocalityMode",
    "LpoError",
    "Mark",
    "MarkAsk",
    "MarkResult",
    "MarkedPrompt",
    "Marker",
    "Marks",
    "Message",
    "Method",
    "Metric",
    "Model",
    "Option",
    "PlanEstimate",
    "Prompt",
    "Proposal",
    "Proposals",
    "ProposeAsk",
    "Proposer",
    "Provider",
    "Replacement",
    "Retry",
    "Row",
    "Run",
    "RunResult",
    "RunSpec",
    "RunStatus",
    "Score",
    "ScoreAsk",
    "ScoreReply",
    "Scored",
    "Search",
    "SeedResult",
    "Session",
    "Span",
    "StoredRun",
    "Topic",
    "Trace",
    "Traits",
    "Turn",
    "Unscored",
    "Usage",
    "__version__",
    "argument",
    "by_field",
    "compare",
    "diagnose",
    "evaluate",
    "failure_from",
    "headroom",
    "list_runs",
    "load_config",
    "make_spec",
    "mark",
    "open_bench",
    "open_resumed",
    "open_run",
    "open_session",
    "optimize",
    "option_of",
    "options_of",
    "parse_tags",
    "plan_run",
    "pull_model",
    "read_environment",
    "read_examples",
    "read_run",
    "report_page",
    "resume",
    "serve_worker",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package is fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lpo_agent' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when a name is asked for

    return getattr(import_module(f"lpo_agent.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return all names of the module, including those that were not imported yet."""
    return sorted({*globals(), *_HOMES})

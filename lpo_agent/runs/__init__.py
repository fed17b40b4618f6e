"""The composition root: the only package that knows everybody."""

from lpo_agent.bench.running import open_bench
from lpo_agent.runs.estimate import PlanEstimate, plan_run
from lpo_agent.runs.marking import mark_prompt
from lpo_agent.runs.resume import open_resumed
from lpo_agent.runs.run import Run, open_run
from lpo_agent.runs.session import Session, open_session

__all__ = [
    "PlanEstimate",
    "Run",
    "Session",
    "mark_prompt",
    "open_bench",
    "open_resumed",
    "open_run",
    "open_session",
    "plan_run",
]

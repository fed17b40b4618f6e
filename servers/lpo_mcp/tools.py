"""The MCP tools, with their descriptions for models. They check arguments, call the run manager, and return views."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

from anyio import to_thread
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

import lpo_agent
from lpo_agent import LocalityMode
from lpo_agent.errors import ConfigError, LpoError
from lpo_mcp.arguments import ExampleIn, RunArguments, budget_of, needs_approval, spec_of
from lpo_mcp.authorization import owner_of
from lpo_mcp.manager import RunManager
from lpo_mcp.settings import METRICS
from lpo_mcp.views import MOST_RUNS, EstimateView, MarksView, RunList, RunView, marks_view

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mcp.server import MCPServer

    from lpo_mcp.settings import Settings

Ctx = Context[RunManager]
Prompt = Annotated[
    str,
    Field(
        description="The prompt's text, exactly. {input} (or the variables' names) marks where the example goes; "
        "<keep>...</keep> never changes, and where there are <edit>...</edit> tags only their text may change."
    ),
]
Examples = Annotated[
    list[ExampleIn] | None,
    Field(description="Examples with input and target, best 50 or more; they are split by the seed. Or dataset_path."),
]
Dataset = Annotated[
    str | None,
    Field(description="A JSON lines or CSV file with input and target, under a folder that the operator allows."),
]
MetricName = Annotated[str | None, lpo_agent.argument("metric", f"how answers are scored: {', '.join(METRICS)}")]
ModelName = Annotated[str | None, lpo_agent.argument("model", unset="the server's")]
OptimizerName = Annotated[str | None, lpo_agent.argument("optimizer_model", unset="the server's")]
Method = Annotated[str, lpo_agent.argument("method")]
Steps = Annotated[int | None, lpo_agent.argument("steps")]
Proposals = Annotated[int | None, lpo_agent.argument("proposals")]
Seed = Annotated[int, lpo_agent.argument("seed")]
Calls = Annotated[int | None, lpo_agent.argument("budget_calls", unset="the server's (2000 unless changed)")]
Usd = Annotated[float | None, lpo_agent.argument("budget_usd")]
Wait = Annotated[
    float | None,
    Field(ge=0, le=3600, description="Seconds to wait for the end, 0 to 3600; then it returns and the run goes on."),
]
RunId = Annotated[str, Field(min_length=1, max_length=64, description="The run's id, as a tool returned it.")]
Approved = Annotated[
    int | None,
    Field(ge=1, description="Model calls that the person has agreed to, where a run needs approval. Ask them first."),
]

WRITES: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)
READS: Final = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
STOPS: Final = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


class Approve(BaseModel):
    """The user's answer."""

    approve: bool = Field(description="Agree to this spending?")


@contextmanager
def errors_for_model() -> Iterator[None]:
    """Turn errors of the package into tool errors, whose text the model sees; other errors stay hidden."""
    try:
        yield
    except LpoError as problem:
        raise ToolError(f"{problem}") from None


def manager_of(ctx: Ctx) -> RunManager:
    """Return the run manager of this server."""
    return ctx.request_context.lifespan_context


async def consent(
    ctx: Ctx, budget_calls: Calls = None, budget_usd: Usd = None, approved_calls: Approved = None
) -> Approve | Elicit[Approve]:
    """Ask the user to approve large spending if the client can; otherwise ``approved_calls`` must be high enough."""
    settings = manager_of(ctx).settings
    given = RunArguments("", None, None, None, None, budget_calls=budget_calls, budget_usd=budget_usd)
    try:
        budget = budget_of(settings, given)
    except ConfigError:
        return Approve(approve=True)  # the tool itself says what is wrong
    wanted = needs_approval(settings, budget)
    if wanted is None or (approved_calls is not None and approved_calls >= (budget.calls or 0)):
        return Approve(approve=True)
    capabilities = ctx.client_capabilities
    if capabilities is None or not capabilities.elicitation:
        return Approve(approve=False)
    return Elicit(f"This run may cost {wanted}. Continue?", Approve)


Approval = Annotated[Approve, Resolve(consent)]


def _agreed(approval: Approve, settings: Settings, budget_calls: int | None) -> None:
    if not approval.approve:
        raise ToolError(
            f"This run needs the person's approval: above {settings.approve_calls:,} calls or "
            f"${settings.approve_usd:g}. Ask them, then pass approved_calls={budget_calls or settings.default_calls}; "
            "or lower budget_calls."
        )


async def optimize_prompt(
    ctx: Ctx,
    approval: Approval,
    prompt: Prompt,
    examples: Examples = None,
    dataset_path: Dataset = None,
    metric: MetricName = None,
    model: ModelName = None,
    optimizer_model: OptimizerName = None,
    method: Method = "auto",
    locality: Annotated[LocalityMode, lpo_agent.argument("locality")] = "enforce",
    steps: Steps = None,
    proposals: Proposals = None,
    seed: Seed = 0,
    budget_calls: Calls = None,
    budget_usd: Usd = None,
    approved_calls: Approved = None,  # noqa: ARG001 - read by the approval's resolver
    wait_seconds: Wait = None,
) -> RunView:
    """Find a better version of a prompt by small local edits, measured on examples.

    Use this when somebody has a prompt and examples (or failures) and wants it better. It takes minutes and
    model calls; it returns after wait_seconds with status "running" and a run_id if it is not done, and goes on by
    itself: call get_run later. The end has a verdict from untouched test items; "no_significant_improvement" means
    that best is the person's own prompt. Show what changed; do not apply it unasked.
    """
    manager, owner = manager_of(ctx), owner_of()
    with errors_for_model():
        given = RunArguments(prompt, examples, dataset_path, metric, model, optimizer_model, budget_calls, budget_usd)
        options = {"method": method, "locality": locality, "steps": steps, "proposals": proposals, "seed": seed}
        spec = spec_of(manager.settings, given, **options)
        _agreed(approval, manager.settings, budget_calls)
        run_id = await manager.start(spec, owner)
        return await manager.wait(run_id, owner, _seconds(manager, wait_seconds), ctx.report_progress)


async def evaluate_prompt(
    ctx: Ctx,
    approval: Approval,
    prompt: Prompt,
    examples: Examples = None,
    dataset_path: Dataset = None,
    metric: MetricName = None,
    model: ModelName = None,
    budget_calls: Calls = None,
    budget_usd: Usd = None,
    approved_calls: Approved = None,  # noqa: ARG001 - read by the approval's resolver
    wait_seconds: Wait = None,
) -> RunView:
    """Score one prompt on every example.

    Use this to know how good a prompt is before or after a change. Returns the mean with a 95 % interval, or status
    "running" and a run_id after wait_seconds.
    """
    manager, owner = manager_of(ctx), owner_of()
    with errors_for_model():
        given = RunArguments(prompt, examples, dataset_path, metric, model, None, budget_calls, budget_usd)
        spec = spec_of(manager.settings, given)
        _agreed(approval, manager.settings, budget_calls)
        run_id = await manager.start(spec, owner, kind="evaluate")
        return await manager.wait(run_id, owner, _seconds(manager, wait_seconds), ctx.report_progress)


async def compare_prompts(
    ctx: Ctx,
    approval: Approval,
    prompt: Annotated[str, Field(description="Prompt A.")],
    other_prompt: Annotated[str, Field(description="Prompt B.")],
    examples: Examples = None,
    dataset_path: Dataset = None,
    metric: MetricName = None,
    model: ModelName = None,
    budget_calls: Calls = None,
    budget_usd: Usd = None,
    approved_calls: Approved = None,  # noqa: ARG001 - read by the approval's resolver
    wait_seconds: Wait = None,
) -> RunView:
    """Score two prompts on the same examples and test whether B is better than A, item by item.

    Use this when somebody has two versions. delta is B minus A with a 95 % interval and a p-value.
    """
    manager, owner = manager_of(ctx), owner_of()
    with errors_for_model():
        given = RunArguments(prompt, examples, dataset_path, metric, model, None, budget_calls, budget_usd)
        spec = spec_of(manager.settings, given)
        _agreed(approval, manager.settings, budget_calls)
        run_id = await manager.start(spec, owner, kind="compare", other_prompt=other_prompt)
        return await manager.wait(run_id, owner, _seconds(manager, wait_seconds), ctx.report_progress)


async def mark_prompt(
    ctx: Ctx,
    prompt: Prompt,
    examples: Examples = None,
    dataset_path: Dataset = None,
    metric: MetricName = None,
    model: ModelName = None,
    optimizer_model: OptimizerName = None,
    budget_calls: Calls = 200,
) -> MarksView:
    """Show which words of a prompt would be edited first, and why.

    Use this to see where a prompt is weak before changing it. Asks models up to budget_calls times.
    """
    manager, owner = manager_of(ctx), owner_of()
    with errors_for_model():
        given = RunArguments(prompt, examples, dataset_path, metric, model, optimizer_model, budget_calls)
        spec = spec_of(manager.settings, given)
        if needs_approval(manager.settings, spec.budget):
            raise ConfigError(f"mark_prompt may use at most {manager.settings.approve_calls:,} calls")
        run_id = await manager.start(spec, owner, kind="mark")
        marks = await manager.result(run_id, owner, ctx.report_progress)
    if not isinstance(marks, lpo_agent.MarkResult):
        raise TypeError(f"a run that marks returned a {type(marks).__name__}")
    return marks_view(marks)


async def get_run(ctx: Ctx, run_id: RunId, wait_seconds: Wait = 0) -> RunView:
    """Return a run's status, and its result once it has ended.

    Use this after a tool returned status "running". With wait_seconds it waits for the end that long, so that one
    call every minute or so is enough; other work may be done meanwhile.
    """
    manager, owner = manager_of(ctx), owner_of()
    with errors_for_model():
        return await manager.wait(run_id, owner, wait_seconds or 0, ctx.report_progress)


async def list_runs(
    ctx: Ctx, limit: Annotated[int, Field(ge=1, le=MOST_RUNS, description="How many, newest first.")] = 10
) -> RunList:
    """List runs, newest first. Use this to find a run_id again."""
    with errors_for_model():
        return await manager_of(ctx).runs(owner_of(), limit)


async def cancel_run(ctx: Ctx, run_id: RunId) -> RunView:
    """Stop a run where it is. What was paid for is kept, and resume_run goes on from there."""
    with errors_for_model():
        return await manager_of(ctx).cancel(run_id, owner_of())


async def resume_run(ctx: Ctx, run_id: RunId, wait_seconds: Wait = None) -> RunView:
    """Go on with a run that was interrupted or cancelled. Nothing is paid for twice."""
    manager, owner = manager_of(ctx), owner_of()
    with errors_for_model():
        await manager.resume(run_id, owner)
        return await manager.wait(run_id, owner, _seconds(manager, wait_seconds), ctx.report_progress)


async def estimate_cost(
    ctx: Ctx,
    prompt: Prompt,
    examples: Examples = None,
    dataset_path: Dataset = None,
    metric: MetricName = None,
    model: ModelName = None,
    method: Method = "auto",
    steps: Steps = None,
    proposals: Proposals = None,
    budget_calls: Calls = None,
    budget_usd: Usd = None,
) -> EstimateView:
    """Say what optimize_prompt would take: calls, tokens, dollars. Asks no model and costs nothing."""
    manager = manager_of(ctx)
    with errors_for_model():
        given = RunArguments(prompt, examples, dataset_path, metric, model, None, budget_calls, budget_usd)
        spec = spec_of(manager.settings, given, method=method, steps=steps, proposals=proposals)
        plan = await to_thread.run_sync(lpo_agent.plan_run, spec)
    kept = plan.model_dump(include=set(EstimateView.model_fields) - {"notes", "needs_approval"})
    return EstimateView(
        **kept, notes=[note[:200] for note in plan.notes], needs_approval=needs_approval(manager.settings, spec.budget)
    )


def _seconds(manager: RunManager, wanted: float | None) -> float:
    return manager.settings.wait if wanted is None else wanted


ALL: Final[dict[str, tuple[Callable[..., object], str, ToolAnnotations]]] = {
    "optimize_prompt": (optimize_prompt, "Optimize a prompt", WRITES),
    "mark_prompt": (mark_prompt, "Mark a prompt's weak words", WRITES),
    "evaluate_prompt": (evaluate_prompt, "Score a prompt", WRITES),
    "compare_prompts": (compare_prompts, "Compare two prompts", WRITES),
    "get_run": (get_run, "Look at a run", READS),
    "list_runs": (list_runs, "List runs", READS),
    "cancel_run": (cancel_run, "Stop a run", STOPS),
    "resume_run": (resume_run, "Go on with a run", WRITES),
    "estimate_cost": (estimate_cost, "Estimate a run's cost", READS),
}


def arguments_of(function: Callable[..., object]) -> frozenset[str]:
    """Return the arguments that a caller may give to a tool."""
    return frozenset(inspect.signature(function).parameters) - {"ctx", "approval"}


def add_tools(mcp: MCPServer[RunManager], settings: Settings) -> None:
    """Register the tools that the settings offer."""
    for name in settings.offered():
        if name not in ALL:
            continue
        function, title, annotations = ALL[name]
        register = partial(mcp.tool, name=name, title=title, annotations=annotations)
        register()(function)

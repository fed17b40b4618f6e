"""MCP resources (runs, their reports and prompts), MCP prompts that a user can select, and argument completion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.types import Completion, PromptReference, ResourceTemplateReference

import lpo_agent
from lpo_agent.errors import LpoError
from lpo_mcp.authorization import owner_of
from lpo_mcp.manager import RunManager

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mcp.server import MCPServer
    from mcp.types import CompletionArgument, CompletionContext

    from lpo_agent import RunResult, StoredRun
    from lpo_mcp.settings import Settings

Ctx = Context[RunManager]
MOST: Final = 50


async def _read(ctx: Ctx, run_id: str) -> StoredRun:
    try:
        stored = await ctx.request_context.lifespan_context.read(run_id, owner_of())
    except LpoError:
        raise ResourceNotFoundError("there is no such run") from None
    if stored.unreadable is not None:
        raise ResourceNotFoundError(stored.unreadable)
    return stored


async def _result(ctx: Ctx, run_id: str) -> RunResult:
    result = (await _read(ctx, run_id)).result
    if not isinstance(result, lpo_agent.RunResult):
        raise ResourceNotFoundError("the run has no prompt yet")
    return result


def add_resources(mcp: MCPServer[RunManager]) -> None:
    """Register a run's result, report and prompt."""

    @mcp.resource("lpo://runs/{run_id}", name="run", title="Run", mime_type="application/json")
    async def run(run_id: str, ctx: Ctx) -> str:
        """The run's whole result as JSON, or how far it is if it has none yet."""
        stored = await _read(ctx, run_id)
        if stored.result is not None:
            return stored.result.model_dump_json(by_alias=True)
        return (await ctx.request_context.lifespan_context.view(run_id, owner_of())).model_dump_json()

    @mcp.resource("lpo://runs/{run_id}/report", name="report", title="Report", mime_type="text/markdown")
    async def report(run_id: str, ctx: Ctx) -> str:
        """The result as a person reads it."""
        return report_of(await _result(ctx, run_id))

    @mcp.resource("lpo://runs/{run_id}/prompt", name="prompt", title="Best prompt", mime_type="text/plain")
    async def prompt(run_id: str, ctx: Ctx) -> str:
        """The best prompt, whole and exact."""
        return (await _result(ctx, run_id)).best.prompt


def report_of(result: RunResult) -> str:
    """Return a finished run as Markdown, with prompts in code blocks."""
    rows = [("seed", result.seed.dev, result.seed.test), ("best", result.best.dev, result.best.test)]
    lines = ["| prompt | dev | test |", "| --- | --- | --- |"]
    for name, *parts in rows:
        scores = [("-" if s is None or s.mean is None else f"{s.mean:.3f} (n={s.n})") for s in parts]
        lines.append(f"| {name} | {' | '.join(scores)} |")
    delta = result.test_delta
    evidence = ""
    if delta is not None:
        low, high = delta.ci95
        evidence = f" Best minus seed on test: {delta.mean:+.3f} ({low:+.3f}..{high:+.3f}), p = {delta.p_value:.3g}."
    blocks = [
        f"# Run {result.run_id}",
        f"Verdict: {result.verdict.replace('_', ' ')}.{evidence}",
        "\n".join(lines),
        f"Seed prompt:\n\n{_fenced(result.seed.prompt)}",
        f"Best prompt:\n\n{_fenced(result.best.prompt)}",
        f"Method {result.method}; {result.usage.calls} calls, {result.usage.cached_calls} cached.",
    ]
    return "\n\n".join(blocks) + "\n"


def _fenced(text: str) -> str:
    fence = "~~~~"
    while fence in text:
        fence += "~"
    return f"{fence}text\n{text}\n{fence}"


def add_prompts(mcp: MCPServer[RunManager]) -> None:
    """Register prompts that a user can select."""

    @mcp.prompt(name="optimize_this_prompt", title="Make a prompt better")
    async def optimize_this_prompt(prompt: str, dataset_path: str = "") -> str:
        """Make a prompt better step by step: examples, estimate, run, verdict."""
        data = (
            f"The examples are in {dataset_path}."
            if dataset_path
            else ("Ask me for examples with inputs and wanted answers, 50 or more if there are any, or find them here.")
        )
        return (
            "Make the prompt below better with the lpo tools. "
            f"{data} Say what estimate_cost tells before you spend anything large, start optimize_prompt, and look at "
            "the run with get_run until it ends. Then show me the verdict as it is, with its interval, and what "
            "changed in the prompt. Do not replace my prompt before I agree.\n\nThe prompt, which is data here:\n\n"
            f"{_fenced(prompt)}"
        )

    @mcp.prompt(name="explain_run", title="Explain a run")
    async def explain_run(run_id: str) -> str:
        """Have a run's result explained."""
        return (
            f"Read the resource lpo://runs/{run_id} (or call get_run) and explain it to me in plain words: what was "
            "changed, how sure it is that the best prompt is better, what it cost, and what I could do next."
        )


def add_completion(mcp: MCPServer[RunManager], settings: Settings, run_ids: Callable[[], Awaitable[list[str]]]) -> None:
    """Complete run ids, methods and models; ``run_ids`` returns those of the caller."""

    async def complete(
        _ref: PromptReference | ResourceTemplateReference,
        argument: CompletionArgument,
        _context: CompletionContext | None,
    ) -> Completion | None:
        choices: list[str] = []
        if argument.name == "run_id":
            choices = await run_ids()
        elif argument.name == "method":
            choices = list(lpo_agent.option_of("method").choices)
        elif argument.name in {"model", "optimizer_model"}:
            choices = [name for name in settings.models if not name.endswith("*")]
        values = [choice for choice in choices if choice.startswith(argument.value)]
        return Completion(values=values[:MOST], total=len(values), has_more=len(values) > MOST) if choices else None

    register: Any = mcp.completion
    register()(complete)

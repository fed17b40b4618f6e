"""A test-only server: the product's, with the tools that the official suite's tasks scenarios call.

python tests/mcp/task_fixtures.py PORT
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import anyio
from lpo_mcp.manager import RunManager
from lpo_mcp.server import build_server
from lpo_mcp.settings import Settings
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from lpo_agent.config import Environment

Ctx = Context[RunManager]


class Name(BaseModel):
    """Asked by multi_input and test_tool_with_task."""

    name: str = "nobody"


class Confirm(BaseModel):
    """Asked by confirm_delete and multi_input."""

    confirm: bool = True


async def greet(name: str) -> str:
    """Answer at once."""
    return f"Hello, {name}!"


async def slow_compute(seconds: float, ctx: Ctx, label: str = "") -> str:
    """Take some time, and tell how far it is."""
    for tenth in range(10 if seconds else 0):
        await anyio.sleep(seconds / 10)
        await ctx.report_progress(tenth + 1, 10, label)
    return f"computed {label}"


async def failing_job() -> str:
    """Fail as tools do."""
    await anyio.sleep(0.5)
    raise ToolError("the job failed")


async def protocol_error_job() -> str:
    """Fail as the protocol does."""
    await anyio.sleep(0.5)
    raise MCPError(-32603, "the protocol failed")


async def confirm_delete(filename: str, ctx: Ctx) -> str:
    """Ask once."""
    answer = await ctx.elicit(f"Delete {filename}?", Confirm)
    return f"{answer.action} {filename}"


async def multi_input(ctx: Ctx) -> str:
    """Ask twice at the same time."""
    actions: dict[str, str] = {}

    async def ask(message: str, form: type[BaseModel]) -> None:
        actions[message] = (await ctx.elicit(message, form)).action

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "Which name?", Name)
        tasks.start_soon(ask, "Really?", Confirm)
    return ", ".join(actions.values())


async def who() -> Elicit[Name]:
    """Ask before the tool begins."""
    return Elicit("Your name?", Name)


async def test_tool_with_task(name: Annotated[Name, Resolve(who)]) -> str:
    """Take some time with an answer that was asked for before."""
    await anyio.sleep(0.6)
    return f"Hello, {name.name}!"


def main(port: int) -> None:
    """Serve on loopback."""
    tasks = dict.fromkeys(("slow_compute", "protocol_error_job", "confirm_delete", "multi_input"), "optional")
    tasks |= dict.fromkeys(("failing_job", "test_tool_with_task"), "required")
    server = build_server(Settings(), env=Environment(Path(tempfile.mkdtemp())), tasks=tasks)  # type: ignore[arg-type]
    for tool in (slow_compute, failing_job, protocol_error_job, confirm_delete, multi_input, test_tool_with_task):
        server.tool()(tool)
    server.tool(structured_output=False)(greet)
    server.run("streamable-http", port=port)


if __name__ == "__main__":
    main(int(sys.argv[1]))

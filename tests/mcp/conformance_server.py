"""The product's server with what the official conformance suite calls beside it; for tests only.

The suite drives a server through tools, resources and prompts with agreed names ("fixtures"). Here they are
added to the server that ``build_server`` makes, with the tasks extension, so that the protocol's edges
(errors, input requests, tasks) are tested on the product's own composition of the SDK. Run as a program it
serves HTTP at /mcp on a free port of the loopback interface, and prints the port.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from typing import TYPE_CHECKING, Annotated, Any, Final

import uvicorn
from lpo_mcp.server import build_server
from lpo_mcp.settings import Settings
from mcp.server.mcpserver import Context, Elicit, Resolve, UserMessage
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from collections.abc import Callable

    from lpo_mcp.manager import RunManager
    from lpo_mcp.tasks import Mode
    from mcp.server import MCPServer
    from mcp.types import InputRequests

PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV: Final = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
TASKS: Final[dict[str, Mode]] = {
    "slow_compute": "optional",
    "failing_job": "required",
    "protocol_error_job": "optional",
    "confirm_delete": "optional",
    "multi_input": "optional",
    "test_tool_with_task": "required",
}
JSON_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
DEFAULTS: Final = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
TITLED: Final = [{"const": "value1", "title": "First"}, {"const": "value2", "title": "Second"}]
ENUMS: Final = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2"]},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}


class Name(BaseModel):
    name: str


class Confirm(BaseModel):
    confirm: bool


# --- content, errors, notifications


def text_resource(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


async def test_simple_text() -> str:
    return "This is a simple text response for testing."


async def test_image_content() -> ImageContent:
    return ImageContent(data=PNG, mime_type="image/png")


async def test_audio_content() -> AudioContent:
    return AudioContent(data=WAV, mime_type="audio/wav")


async def test_embedded_resource() -> EmbeddedResource:
    return text_resource("test://embedded-resource", "This is an embedded resource content.")


async def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    mixed = text_resource("test://mixed-content-resource", '{"test":"data","value":123}', "application/json")
    text = TextContent(text="Multiple content types test:")
    return [text, ImageContent(data=PNG, mime_type="image/png"), mixed]


async def test_error_handling() -> str:
    raise ToolError("This tool intentionally returns an error for testing")


async def test_tool_with_progress(ctx: Context) -> str:
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"Completed step {done} of 100")
        await asyncio.sleep(0.05)
    return "done"


async def test_tool_with_logging(ctx: Context) -> str:
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(0.05)
    return "done"


async def test_logging_tool(ctx: Context) -> str:
    await ctx.info("not to be sent unless asked for")
    return "done"


async def test_trigger_tool_change(ctx: Context) -> str:
    await ctx.notify_tools_changed()
    return "done"


async def test_trigger_prompt_change(ctx: Context) -> str:
    await ctx.notify_prompts_changed()
    return "done"


async def test_custom_header(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
    return region


async def json_schema_2020_12_tool(ctx: Context) -> str:
    return "done"


# --- questions to the client, in the era with a channel for them


async def asked(ctx: Context, message: str, properties: dict[str, Any]) -> str:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    result = await ctx.session.elicit_form(message, schema, ctx.request_id)
    return f"User response: action={result.action}, content={json.dumps(result.content)}"


async def test_sampling(prompt: str, ctx: Context) -> str:
    messages = [SamplingMessage(role="user", content=TextContent(text=prompt))]
    result = await ctx.session.create_message(messages, max_tokens=100, related_request_id=ctx.request_id)
    return f"LLM response: {result.content}"


async def test_elicitation(message: str, ctx: Context) -> str:
    return await asked(ctx, message, {"username": {"type": "string"}, "email": {"type": "string"}})


async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    return await asked(ctx, "Who are you?", DEFAULTS)


async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    return await asked(ctx, "Which?", ENUMS)


# --- questions to the client, in the era of input requests


def form(message: str, **properties: str) -> ElicitRequest:
    shape = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "properties": shape, "required": list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(text: str) -> CreateMessageRequest:
    messages = [SamplingMessage(role="user", content=TextContent(text=text))]
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=messages, max_tokens=100))


def needed(ctx: Context, requests: InputRequests, state: str | None = None) -> InputRequiredResult | None:
    """Return what asks for the answers that the call lacks, None where it lacks none."""
    if requests.keys() <= (ctx.input_responses or {}).keys():
        return None
    return InputRequiredResult(input_requests=requests, request_state=state)


def content(ctx: Context, key: str) -> dict[str, Any]:
    answer = (ctx.input_responses or {})[key]
    return dict(answer.content or {}) if isinstance(answer, ElicitResult) else {}


async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    asks = needed(ctx, {"user_name": form("What is your name?", name="string")})
    return asks or f"Hello, {content(ctx, 'user_name').get('name')}!"


async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    return needed(ctx, {"user_name": form("What is your name?", name="string")}) or "done"


async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    return needed(ctx, {"capital_question": sample("What is the capital of France?")}) or "done"


async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    return needed(ctx, {"client_roots": ListRootsRequest()}) or str(ctx.input_responses)


async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    asks = needed(ctx, {"confirm": form("Please confirm", ok="boolean")}, "begun")
    return asks or ("state-ok" if ctx.request_state == "begun" else "state-lost")


async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    return needed(ctx, {"confirm": form("Please confirm", ok="boolean")}, "begun") or "done"


async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    asks: InputRequests = {
        "user_name": form("What is your name?", name="string"),
        "greeting": sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    return needed(ctx, asks, "begun") or "done"


async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    if ctx.request_state is None:
        return needed(ctx, {"step1": form("Step 1: What is your name?", name="string")}, "1") or "done"
    return needed(ctx, {"step2": form("Step 2: What is your favorite color?", color="string")}, "2") or "done"


async def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    capabilities = ctx.client_capabilities
    asks: InputRequests = {}
    if capabilities and capabilities.elicitation:
        asks["user_name"] = form("What is your name?", name="string")
    if capabilities and capabilities.sampling:
        asks["greeting"] = sample("Generate a greeting")
    return needed(ctx, asks) or "done"


async def test_missing_capability(ctx: Context) -> str:
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        data: dict[str, Any] = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(MISSING_REQUIRED_CLIENT_CAPABILITY, "sampling was not declared", data)
    return "done"


# --- tasks


async def greet(name: str) -> str:
    return f"Hello, {name}!"


async def slow_compute(seconds: float, ctx: Context, label: str = "") -> str:
    for step in range(10):
        await ctx.report_progress(step, 10, label)
        await asyncio.sleep(seconds / 10)
    return f"computed {label}"


async def failing_job() -> str:
    await asyncio.sleep(0.5)
    raise ToolError("the job failed")


async def protocol_error_job() -> str:
    await asyncio.sleep(0.5)
    raise MCPError(INTERNAL_ERROR, "the protocol failed")


async def confirm_delete(filename: str, ctx: Context) -> str:
    answer = await ctx.elicit(f"Delete {filename}?", Confirm)
    return f"{answer.action} {filename}"


async def multi_input(ctx: Context) -> str:
    answers = await asyncio.gather(ctx.elicit("Your name?", Name), ctx.elicit("Go on?", Confirm))
    return " ".join(answer.action for answer in answers)


async def ask_name() -> Elicit[Name]:
    return Elicit("What is your name?", Name)


async def test_tool_with_task(who: Annotated[Name, Resolve(ask_name)]) -> str:
    await asyncio.sleep(0.6)
    return f"Hello, {who.name}!"


TOOLS: Final[tuple[Callable[..., Any], ...]] = (
    test_simple_text,
    test_image_content,
    test_audio_content,
    test_embedded_resource,
    test_multiple_content_types,
    test_error_handling,
    test_tool_with_progress,
    test_tool_with_logging,
    test_logging_tool,
    test_trigger_tool_change,
    test_trigger_prompt_change,
    test_custom_header,
    json_schema_2020_12_tool,
    test_sampling,
    test_elicitation,
    test_elicitation_sep1034_defaults,
    test_elicitation_sep1330_enums,
    test_input_required_result_elicitation,
    test_streaming_elicitation,
    test_input_required_result_sampling,
    test_input_required_result_list_roots,
    test_input_required_result_request_state,
    test_input_required_result_tampered_state,
    test_input_required_result_multiple_inputs,
    test_input_required_result_multi_round,
    test_input_required_result_capabilities,
    test_missing_capability,
    greet,
    slow_compute,
    failing_job,
    protocol_error_job,
    confirm_delete,
    multi_input,
    test_tool_with_task,
)


# --- resources and prompts


def add_resources(mcp: MCPServer[RunManager]) -> None:
    @mcp.resource("test://static-text", mime_type="text/plain")
    def static_text() -> str:
        return "This is the content of the static text resource."

    @mcp.resource("test://static-binary", mime_type="image/png")
    def static_binary() -> bytes:
        return base64.b64decode(PNG)

    @mcp.resource("test://watched-resource", mime_type="text/plain")
    def watched() -> str:
        return "Watched resource content"

    @mcp.resource("test://template/{id}/data", mime_type="application/json")
    def template(id: str) -> str:  # noqa: A002 - the suite's name
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def add_prompts(mcp: MCPServer[RunManager]) -> None:
    @mcp.prompt(description="For the conformance suite.")
    def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @mcp.prompt(description="For the conformance suite.")
    def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @mcp.prompt(description="For the conformance suite.")
    def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:  # noqa: N803 - the suite's name
        embedded = text_resource(resourceUri, "Embedded resource content for testing.")
        return [UserMessage(embedded), UserMessage("Please process the embedded resource above.")]

    @mcp.prompt(description="For the conformance suite.")
    def test_prompt_with_image() -> list[UserMessage]:
        image = ImageContent(data=PNG, mime_type="image/png")
        return [UserMessage(image), UserMessage("Please analyze the image above.")]

    @mcp.prompt(description="For the conformance suite.")
    def test_input_required_result_prompt(ctx: Context) -> str | InputRequiredResult:
        asks = needed(ctx, {"user_context": form("What context should the prompt use?", context="string")})
        return asks or f"Context: {content(ctx, 'user_context').get('context')}"


def add_legacy(mcp: MCPServer[RunManager]) -> None:
    """Answer the methods that the era of sessions has, and the product has no use for."""

    async def done(ctx: Any, params: Any) -> EmptyResult:
        return EmptyResult()

    server = mcp._lowlevel_server
    server.add_request_handler("logging/setLevel", SetLevelRequestParams, done)
    server.add_request_handler("resources/subscribe", SubscribeRequestParams, done)
    server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, done)


def fixture_server() -> MCPServer[RunManager]:
    mcp = build_server(Settings(), tasks=TASKS)
    for tool in TOOLS:
        mcp.add_tool(tool, description="For the conformance suite.", structured_output=False)
    found = mcp._tool_manager.get_tool("json_schema_2020_12_tool")
    assert found is not None
    found.parameters = JSON_SCHEMA
    add_resources(mcp)
    add_prompts(mcp)
    add_legacy(mcp)
    return mcp


def main() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        print(bound.getsockname()[1], flush=True)  # noqa: T201 - for who started it
        app = fixture_server().streamable_http_app()
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).run(sockets=[bound])


if __name__ == "__main__":
    main()

"""The JSON schema (draft 2020-12) of what `lpo optimize --json` prints.

``result.schema.json`` in this folder is written by ``python -m lpo_agent.schema``.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Final

from lpo_agent.core.result import SCHEMA, RunResult

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
FILE: Final = "result.schema.json"


def result_schema() -> dict[str, Any]:
    """Return the schema as it follows from the code; what has a default is printed too, so all is required."""
    schema = RunResult.model_json_schema(by_alias=True, mode="serialization")
    schema["properties"]["schema"]["const"] = SCHEMA
    for part in schema["$defs"].values():
        part["required"] = list(part["properties"])
    return {"$schema": DIALECT, **schema, "required": list(schema["properties"])}


def to_text(schema: dict[str, Any]) -> str:
    """Return the schema as the file holds it."""
    return json.dumps(schema, indent=2) + "\n"


def committed_text() -> str:
    """Return what the file holds."""
    return files(__name__).joinpath(FILE).read_text(encoding="utf-8")

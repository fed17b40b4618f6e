"""Write the schema's file: ``python -m lpo_agent.schema``."""

from pathlib import Path

from lpo_agent.schema import FILE, result_schema, to_text

if __name__ == "__main__":
    Path(__file__).with_name(FILE).write_text(to_text(result_schema()), encoding="utf-8")

"""`lpo-mcp`, `python -m lpo_mcp`, `lpo mcp`: starts the server on stdio, or over HTTP."""

from __future__ import annotations

import sys

from lpo_mcp.serving import main

if __name__ == "__main__":
    sys.exit(main())

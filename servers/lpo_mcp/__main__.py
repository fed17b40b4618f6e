"""`python -m lpo_mcp`: starts the server, as `lpo-mcp` and `lpo mcp` do."""

from __future__ import annotations

import sys

from lpo_mcp.command_line import main

if __name__ == "__main__":
    sys.exit(main())

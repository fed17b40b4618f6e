"""The MCP server: an assistant optimizes, scores and compares prompts through tools. Its runs are kept in the journal.

:func:`lpo_mcp.server.build_server` makes the server; the command `lpo mcp`, or `lpo-mcp`, starts it.
"""

"""The MCP server: an assistant finds better prompts by tools, with durable runs behind them.

``build_server(settings)`` in :mod:`lpo_mcp.server` makes it; ``lpo mcp`` or ``lpo-mcp`` starts it.
"""

"""Local Prompt Optimization as an async library."""

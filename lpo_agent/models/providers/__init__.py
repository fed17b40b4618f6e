"""The built-in providers of models: OpenAI, Anthropic, a llama.cpp server in this process, and Python functions.

A model is opened by its name, ``PROVIDER:NAME``.
"""

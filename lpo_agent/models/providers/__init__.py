"""The built-in providers: each opens models by name (``PROVIDER:NAME``)."""

"""The local search of the methods ``lpo`` and ``local-search``: concurrent branches that make small edits."""

"""The local search of ``lpo`` and ``local-search``: concurrent branches of small edits."""

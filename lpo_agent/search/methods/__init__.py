"""The search methods, each in a file or folder of its own; :mod:`lpo_agent.search.methods.base` says what one is.

``lpo`` follows the paper: a critic reads failures, a token marker tags spans, a proposer fills them; the tags are
enforced. ``local-search`` is the same search with agents that need no model which follows instructions: spans are
chosen by measured influence and filled by edit operators. ``ape``, ``apo`` and ``pe2`` search by a beam.
"""

"""The search methods, each in a file or folder of its own; :mod:`lpo_agent.search.methods.base` says what one is.

``lpo`` follows the LPO paper: a critic explains failures, a token marker tags spans, and a proposer fills
them; text outside of tags cannot change. ``local-search`` is the same search with agents that need no model
which follows instructions: spans are chosen by measured influence and filled by edit operators. ``ape``,
``apo`` and ``pe2`` are beam methods; their options are in :mod:`lpo_agent.core.beam_options`.
"""

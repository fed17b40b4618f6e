"""The search methods, each in a module or package of its own; :mod:`lpo_agent.search.methods.base` has the interface.

``lpo`` follows the LPO paper: a critic explains failures, a token marker tags spans, and a proposer fills
them; text outside of tags cannot change. ``local-search`` is the same search for models that cannot follow such
instructions: spans are chosen by measured influence and filled by edit operators. ``ape``,
``apo`` and ``pe2`` are beam methods; their options are in :mod:`lpo_agent.core.beam_options`.
"""

"""The search methods, each in a module or package of its own; :mod:`lpo_agent.search.methods.base` has the interface.

``lpo`` searches over a pool of local edits. Some come from agents as in the LPO paper: a critic explains failures, a
token marker tags spans, and a proposer fills them; others from edit operators. ``local-search`` is the same search
with operators alone, for models that cannot follow such instructions. ``ape``, ``apo`` and ``pe2`` are beam methods;
their options are in :mod:`lpo_agent.core.beam_options`.
"""

"""The agents that answer the requests of the search: token marker, critic, proposer and scorer.

Each agent has one method, which renders a meta-prompt, calls a model, and parses the reply; some agents work
without a model.
"""

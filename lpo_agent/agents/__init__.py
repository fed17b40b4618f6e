"""The agents: token marker, critic, proposer, scorer. Each has one method: render, complete, parse."""

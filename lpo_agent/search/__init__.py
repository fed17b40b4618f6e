"""The search for a better prompt: the methods, the scoring of prompts, and the coordinator that runs a method."""

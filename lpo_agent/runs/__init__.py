"""Runs: checking their input, carrying them out, observing and stopping them, and resuming them from the journal."""

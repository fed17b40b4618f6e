"""Runs whose agents work in other processes, over NATS: the worker's side and the coordinator's side."""

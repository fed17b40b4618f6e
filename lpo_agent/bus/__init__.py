"""How requests reach agents: one request/serve contract, in memory or across machines."""

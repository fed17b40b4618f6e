"""The bus: carries requests to the agents that answer them, within one process or over NATS to other machines."""

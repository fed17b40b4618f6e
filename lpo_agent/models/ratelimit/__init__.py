"""Rate limiting: how many calls a model service gets, so that its limits are used but not exceeded.

``adaptive`` decides when a call may start and ``outage`` whether the service is down; ``limiter`` queues the calls of
one process, and ``shared`` divides a limit among processes.
"""

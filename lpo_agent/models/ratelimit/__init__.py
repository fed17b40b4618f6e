"""Rate limiting: how many calls a model service gets, so that its limits are used but not exceeded.

``adaptive`` decides, ``limiter`` queues the calls of one process, ``shared`` divides a limit among processes.
"""

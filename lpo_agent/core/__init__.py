"""The pure heart: text, scores, statistics, decisions. No await, no I/O, no clock."""

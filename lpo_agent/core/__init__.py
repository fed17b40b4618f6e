"""Pure values and decisions: prompt text, scores, statistics, messages, events, results. No I/O and no async code."""

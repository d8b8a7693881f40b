"""Greedy algorithms: every rule, eager or lazy, exact or racing."""

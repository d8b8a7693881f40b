"""Benchmarks; each module is a command that prints a table and names the device."""

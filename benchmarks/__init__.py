"""Measurements: each prints a table with the device."""

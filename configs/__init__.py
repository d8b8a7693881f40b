"""Configs of searches, one file for each experiment."""

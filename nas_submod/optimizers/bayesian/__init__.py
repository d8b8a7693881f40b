"""Bayesian optimisation of set functions."""

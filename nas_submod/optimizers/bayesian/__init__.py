"""Bayesian optimisation of set functions: `surrogate` fits a Gaussian process and asks by it."""

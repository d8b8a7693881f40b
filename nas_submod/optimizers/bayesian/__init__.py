"""Bayesian optimisation of set functions: `surrogate` chooses sets by a Gaussian process."""

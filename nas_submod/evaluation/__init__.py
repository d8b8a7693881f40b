"""Evaluates sets: trains the network of a set briefly and scores it."""

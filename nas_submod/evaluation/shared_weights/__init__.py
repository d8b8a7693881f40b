"""Shared weights: one training serves all networks of a space, and scoring each one is quick.

- `sampling`: which network each step trains.
- `store`: the parameters of every block of the space, and how to take one network's.
- `train`: the training of a store.
- `score`: the loss of a network with the weights of a store, as a set function.
"""

"""Shared weights: one training serves all networks of a space, and each is scored in a moment.

- `sampling`: which network each step trains.
- `store`: the parameters of every block of the space, and those of one network.
- `train`: the training of a store.
- `score`: the loss of a network with the weights of a store, as a set function.
"""

"""The value of a set: a network trained briefly and scored."""

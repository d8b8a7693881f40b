"""The drivers: one for a traceable set function, one for a set function on the host."""

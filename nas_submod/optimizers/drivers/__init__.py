"""The drivers: one for a traceable function, one for a function on the host."""

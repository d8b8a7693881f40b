"""What a person reads: before, during and after a search."""

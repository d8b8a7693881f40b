"""Command lines: search, train, sweep."""

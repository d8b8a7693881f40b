"""Texts, pages and displays for a person: before, during and after a search."""

"""Texts, pages and displays for people, before, during and after a search."""

"""Trainings of networks that were found, or published."""

"""Final trainings of published or found networks."""

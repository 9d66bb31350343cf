"""Predictions: a job, its probabilities, and the table of them."""

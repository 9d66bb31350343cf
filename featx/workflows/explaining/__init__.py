"""Explanations: what each position of an image adds to the decision score of a model."""

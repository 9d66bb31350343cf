"""Sweeps: measure which layer, pooling and image size suit a set of images best."""

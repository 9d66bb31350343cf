"""Matrices of codes: how they are read, joined, normalised and made smaller.

`matrix` reads codes in blocks, and `joining` uses several stores as one. `gram` replaces codes
by coordinates with the same inner products, which `products` computes. `scaling` normalises
rows, `components` projects them, and `pixels` makes the baseline of raw pixels.
"""

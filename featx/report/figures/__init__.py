"""Figures for notebooks and for reports: results come in, Matplotlib's axes go out.

The axes can be changed, for example to set another title. Without `ax` a figure is made,
which a notebook shows if it is the result of a cell; ``ax.figure.savefig("name.png")``
writes it. No figure knows how its results were computed.
"""

"""Explanations: images and a bundle in, what each place of an image adds to a decision out.

Where the decision is a sum over places, the network runs once an image and the sum
is taken apart (`featx.fitting.attribution`). Elsewhere a grey square is moved
over the image, and the network runs once a cell more. Nothing is drawn here.
"""

from featx.workflows.explaining.prepare import ExplanationJob, prepare_explanation
from featx.workflows.explaining.results import Explanation
from featx.workflows.explaining.run import explain, explanations

__all__ = ["Explanation", "ExplanationJob", "explain", "explanations", "prepare_explanation"]

"""Weights of VGG19: found, verified, read by layer name, inspected, downloaded.

What the user typed after --weights comes in; NumPy arrays by layer name go out.
This package knows no TensorFlow and no Keras: a file is HDF5, a zip and JSON,
read as data and never run.
"""

from featx.network.weights.arrays import read_weights
from featx.network.weights.download import cached_imagenet, fetch_imagenet
from featx.network.weights.inventory import WeightsGroup, WeightsInventory, inspect_weights
from featx.network.weights.renaming import RenameProposal
from featx.network.weights.sources import BUNDLED_SHA256, WeightsSource, find_weights

__all__ = [
    "BUNDLED_SHA256",
    "RenameProposal",
    "WeightsGroup",
    "WeightsInventory",
    "WeightsSource",
    "cached_imagenet",
    "fetch_imagenet",
    "find_weights",
    "inspect_weights",
    "read_weights",
]

"""Weights of VGG19: found, checked, read by layer name, listed, downloaded.

The value of --weights comes in; NumPy arrays by layer name go out. This package imports
neither TensorFlow nor Keras: a file is read as data (HDF5, zip and JSON) and never run.
"""

from featx.network.weights.download import cached_imagenet, fetch_imagenet
from featx.network.weights.matching import WeightsGroup, WeightsInventory, inspect_weights
from featx.network.weights.sources import (
    BUNDLED_SHA256,
    WeightsSource,
    find_weights,
    read_weights,
)

__all__ = [
    "BUNDLED_SHA256",
    "WeightsGroup",
    "WeightsInventory",
    "WeightsSource",
    "cached_imagenet",
    "fetch_imagenet",
    "find_weights",
    "inspect_weights",
    "read_weights",
]

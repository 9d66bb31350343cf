"""Arrays of weights by layer name: read from a file, or drawn at random.

A source comes in; float32 kernels and biases go out, for the layers that the network
needs and no others. This file does not know how the source was found.
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from featx.errors import WeightsError
from featx.hdf5 import check_held, inside
from featx.layers import LAYERS, weight_shapes
from featx.network.weights.files import READ_FAILURES
from featx.network.weights.layouts import open_layout
from featx.network.weights.matching import match_entries, needed_layers, require
from featx.network.weights.sources import WeightsSource
from featx.text import counted

__all__ = ["read_weights"]

logger = logging.getLogger(__name__)


def read_weights(
    source: WeightsSource, layers: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the weights of the network up to the deepest of `layers`.

    Parameters
    ----------
    source : WeightsSource
        The result of `find_weights`, with its renames.
    layers : sequence of str
        Layers that codes are taken from.

    Returns
    -------
    dict of str to tuple of ndarray
        Layer -> kernel and bias, float32 and C-contiguous, in the network's
        order. Kernels are (height, width, in, out), or (in, out) for fc1 and fc2.

    Raises
    ------
    WeightsError
        The file is damaged, does not match VGG19, or holds values that are not finite.

    Examples
    --------
    >>> source = WeightsSource("random:0", None, "random:0")
    >>> weights = read_weights(source, ["block1_pool"])
    >>> [(name, kernel.shape, bias.shape) for name, (kernel, bias) in weights.items()]
    [('block1_conv1', (3, 3, 3, 64), (64,)), ('block1_conv2', (3, 3, 64, 64), (64,))]
    """
    names = needed_layers(layers)
    path = source.path
    if path is None:
        seed = int(source.identity.removeprefix("random:"))
        return {name: _draw(name, seed) for name in names}
    with open_layout(path) as contents:
        match = match_entries(contents.entries, source.rename, path)
        require(match, contents.entries, layers, path)
        if match.matched_by == "order and shapes":
            logger.warning(
                "%s has no layer names of VGG19. Its 16 convolutions were matched by their order "
                "and shapes.",
                path,
            )
        weights = {}
        for name in names:
            kernel, bias = match.fits[name].datasets
            weights[name] = (
                _read_array(contents.file, kernel, name, path),
                _read_array(contents.file, bias, name, path),
            )
        return weights


def _draw(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a layer's kernel as in He et al. 2015; the bias is zero.

    Every layer has its own random stream, so a deeper network has the same early layers.
    NumPy draws the numbers, so they are the same on every backend.
    """
    kernel_shape, bias_shape = weight_shapes(name) or ((), ())
    index = [layer.name for layer in LAYERS].index(name)
    generator = np.random.default_rng(np.random.SeedSequence([seed, index]))
    spread = np.float32(math.sqrt(2 / math.prod(kernel_shape[:-1])))
    kernel = generator.standard_normal(kernel_shape, dtype=np.float32) * spread
    return kernel, np.zeros(bias_shape, np.float32)


def _read_array(file: h5py.File, dataset: str, name: str, path: Path) -> np.ndarray:
    """Read one array as float32; refuse integers and values that are not finite."""
    try:
        stored = inside(file, dataset)
        if stored.dtype.kind != "f" and stored.dtype != "V2":
            message = (
                f"{name} of {path} has the data type {stored.dtype}. Expected floating point. "
                "Save the network before quantisation, or use --weights bundled."
            )
            raise WeightsError(message)
        check_held(file, stored)
        array = _as_float32(stored[...])
    except WeightsError:
        raise
    except READ_FAILURES as error:
        message = (
            f"{name} of {path} cannot be read: that part of the file is damaged, or compressed "
            "with a filter that h5py lacks. Copy or download the file again, or use --weights "
            "bundled."
        )
        raise WeightsError(message) from error
    n_bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if n_bad:
        message = (
            f"{name} of {path} has {counted(n_bad, 'value that is', 'values that are')} NaN or "
            f"infinite in float32, of {array.size:,}. Expected finite weights; the training may "
            "have diverged. Use the weights of an earlier epoch, or --weights bundled."
        )
        raise WeightsError(message)
    return array


def _as_float32(raw: np.ndarray) -> np.ndarray:
    if raw.dtype == "V2":  # bfloat16 is the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite, an error later
        return np.ascontiguousarray(raw, dtype=np.float32)

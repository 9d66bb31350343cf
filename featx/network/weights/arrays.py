"""Arrays of weights by layer name: read from a file, or drawn at random.

A source comes in; float32 kernels and biases go out, for the layers up to the
cut and no others. This file does not know where a source came from.
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
from featx.network.weights.layouts import Entry, open_layout
from featx.network.weights.matching import match_entries, needed_layers, require
from featx.network.weights.renaming import find_renamed
from featx.network.weights.sources import WeightsSource
from featx.text import counted

__all__ = ["read_weights"]

logger = logging.getLogger(__name__)


def read_weights(
    source: WeightsSource, layers: Sequence[str]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the weights that the network needs, cut after the deepest of `layers`.

    Parameters
    ----------
    source : WeightsSource
        What `find_weights` found, renames included.
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
        The file is damaged, does not fit, or holds numbers that are not finite.

    Examples
    --------
    >>> source = WeightsSource("random:0", None, "random:0")
    >>> weights = read_weights(source, ["block1_pool"])
    >>> [(name, kernel.shape, bias.shape) for name, (kernel, bias) in weights.items()]
    [('block1_conv1', (3, 3, 3, 64), (64,)), ('block1_conv2', (3, 3, 64, 64), (64,))]
    """
    names = needed_layers(layers)
    if source.path is None:
        seed = int(source.identity.removeprefix("random:"))
        return {name: _draw(name, seed) for name in names}
    with open_layout(source.path) as contents:
        renamed = find_renamed(contents.entries, source.rename, source.path)
        match = match_entries(contents.entries, renamed)
        require(match, contents.entries, layers, source.path)
        if match.how == "by order and shapes":
            logger.warning(
                "%s names no layer of VGG19: its 16 convolutions were matched by order and shapes.",
                source.path,
            )
        return {name: _read(contents.file, match.fits[name], name, source.path) for name in names}


def _draw(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a layer's kernel after He et al. 2015; the bias is zero.

    Every layer has a stream of its own, so a deeper cut has the same early
    layers; NumPy draws, so every backend has the same numbers.
    """
    kernel_shape, bias_shape = weight_shapes(name) or ((), ())
    index = [layer.name for layer in LAYERS].index(name)
    generator = np.random.default_rng(np.random.SeedSequence([seed, index]))
    spread = np.float32(math.sqrt(2 / math.prod(kernel_shape[:-1])))
    kernel = generator.standard_normal(kernel_shape, dtype=np.float32) * spread
    return kernel, np.zeros(bias_shape, np.float32)


def _read(file: h5py.File, entry: Entry, name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a layer's kernel and bias."""
    kernel, bias = (_read_array(file, dataset, name, path) for dataset in entry.datasets)
    return kernel, bias


def _read_array(file: h5py.File, dataset: str, name: str, path: Path) -> np.ndarray:
    """Read one array as float32, and refuse what cannot be a trained weight."""
    try:
        numbers = inside(file, dataset)
        _check_numbers(numbers, name, path)
        check_held(file, numbers)
        array = _as_float32(numbers[...])
    except WeightsError:
        raise
    except READ_FAILURES as error:
        message = (
            f"{name} of {path} cannot be read: its part of the file is damaged, or packed in a way "
            "that h5py does not know. Copy or download the file again, or use --weights bundled."
        )
        raise WeightsError(message) from error
    n_bad = array.size - np.count_nonzero(np.isfinite(array))
    if n_bad:
        message = (
            f"{name} of {path} holds "
            f"{counted(int(n_bad), 'number that is', 'numbers that are')} NaN or infinite in "
            f"float32, of {array.size:,}. Expected finite weights; probably a training diverged. "
            "Use the weights of an earlier epoch, or --weights bundled."
        )
        raise WeightsError(message)
    return array


def _check_numbers(dataset: h5py.Dataset, name: str, path: Path) -> None:
    """Refuse integers."""
    if dataset.dtype.kind != "f" and dataset.dtype != "V2":
        message = (
            f"{name} of {path} holds {dataset.dtype} numbers. Expected floating point. "
            "Save the network before it is quantised, or use --weights bundled."
        )
        raise WeightsError(message)


def _as_float32(raw: np.ndarray) -> np.ndarray:
    if raw.dtype == "V2":  # bfloat16: the upper half of a float32
        return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # a float64 too large becomes infinite, and is refused
        return np.ascontiguousarray(raw, dtype=np.float32)

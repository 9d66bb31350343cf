"""The value of --weights: found and checked, then read as arrays by layer name.

A text comes in; a path and an identity go out, or an error before any slow work begins. From
those come float32 kernels and biases of the layers that the network needs, and no others.
One kind of source is never replaced by another.
"""

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from featx.errors import OptionError, WeightsError
from featx.hdf5 import check_held, inside, read_errors
from featx.layers import LAYERS, find_layer, weight_shapes
from featx.network.weights.download import fetch_imagenet
from featx.network.weights.layouts import open_layout
from featx.network.weights.matching import (
    Renames,
    check_rename,
    match_entries,
    needed_layers,
)
from featx.network.weights.mismatches import require
from featx.text import counted, did_you_mean

__all__ = ["BUNDLED_SHA256", "WeightsSource", "find_weights", "read_weights"]

logger = logging.getLogger(__name__)

#: sha256 of the file that comes with featx: the weights trained in Oxford, 16 convolutions,
#: every channel scaled to a mean activation of 1 (Gatys et al. 2016).
BUNDLED_SHA256 = "6c5d5d327e01d4a392aa1946d3a1d4804308cdfd538965a2e3735511603f58e0"

_BUNDLED = Path(__file__).parents[1] / "vgg19_oxford_normalised.h5"


@dataclass(frozen=True)
class WeightsSource:
    """Weights that were found and are not read yet.

    Parameters
    ----------
    spec : str
        The value of --weights: "bundled", "imagenet", "random:SEED", or a file.
    path : Path or None
        The file. None if the weights are random.
    identity : str
        sha256 of the file in hexadecimal, or "random:SEED"; a recipe's `weights`. With
        renames it is the sha256 of the JSON text ``["DIGEST", [["OLD", "NEW"], ...]]``
        of the file's sha256 and the sorted pairs, because the same file then has other
        weights for the same layers.
    rename : tuple of (str, str), default=()
        Names in the file and the corresponding layers of VGG19, sorted.
    """

    spec: str
    path: Path | None
    identity: str
    rename: Renames = ()


def find_weights(
    spec: str,
    layers: Iterable[str],
    *,
    rename: Mapping[str, str] | None = None,
    progress: bool = False,
) -> WeightsSource:
    """Find the weights that `layers` need, and check them.

    Parameters
    ----------
    spec : str
        "bundled" for the file that comes with featx; "imagenet" for Keras's release,
        which is downloaded once; "random:SEED"; or a file.
    layers : iterable of str
        Layers that codes are taken from.
    rename : mapping of str to str, optional
        Name of a layer in the file -> name of the layer in VGG19. All other layers are
        then matched by name and none by order. Shapes are checked in any case.
    progress : bool, default=False
        Show a progress bar on stderr if "imagenet" is downloaded.

    Returns
    -------
    WeightsSource
        The weights, not read yet.

    Raises
    ------
    WeightsError
        The weights are missing, are damaged or do not cover these layers, or the file
        does not have a renamed layer.
    UnknownLayerError
        VGG19 does not have one of the layers.
    OptionError
        A rename is not allowed.

    Examples
    --------
    >>> find_weights("random:7", ["block1_pool"]).identity
    'random:7'
    """
    layers = tuple(layers)
    dense = [name for name in layers if find_layer(name).kind == "dense"]
    renames = check_rename(rename)
    if renames and (spec in {"bundled", "imagenet"} or spec.startswith("random:")):
        old, new = renames[0]
        message = (
            f"--rename {old}={new} cannot be used with --weights {spec}, whose layers already "
            "have the names of VGG19. Use --rename with your own file: --weights FILE"
        )
        raise OptionError(message)
    if spec == "bundled":
        return _bundled(spec, dense)
    if spec == "imagenet":
        path = fetch_imagenet(top=bool(dense), progress=progress)
        return WeightsSource(spec, path, _sha256(path))
    if spec.startswith("random:"):
        seed = spec.removeprefix("random:")
        if not (seed.isascii() and seed.isdecimal()):
            message = (
                f"The seed in --weights {spec} is not a whole number, 0 or greater. "
                "Use --weights random:0"
            )
            raise WeightsError(message)
        return WeightsSource(spec, None, f"random:{int(seed)}")
    return _own_file(spec, layers, renames)


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
        require(match, contents, layers)
        if match.matched_by == "order and shapes":
            logger.warning(
                "%s has no layer names of VGG19. Its 16 convolutions were matched by their order "
                "and shapes.",
                path,
            )
        weights = {}
        for name in names:
            datasets = match.fits[name].datasets
            kernel, bias = (_read_array(contents.file, each, name, path) for each in datasets)
            weights[name] = kernel, bias
        return weights


def _bundled(spec: str, dense: list[str]) -> WeightsSource:
    if dense:
        message = (
            f"The bundled weights hold only the 16 convolutions of VGG19, not {dense[0]}. "
            "Use --weights imagenet (575 MB, downloaded once), or a layer up to block5_pool."
        )
        raise WeightsError(message)
    found = _sha256(_BUNDLED) if _BUNDLED.is_file() else "missing"
    if found != BUNDLED_SHA256:
        message = (
            f"The installation of featx is damaged: the sha256 of {_BUNDLED} is {found}, "
            f"expected {BUNDLED_SHA256}. Install it again: pip install --force-reinstall featx"
        )
        raise WeightsError(message)
    return WeightsSource(spec, _BUNDLED, found)


def _own_file(spec: str, layers: Iterable[str], rename: Renames) -> WeightsSource:
    path = Path(spec).expanduser()
    if path.is_dir():
        message = (
            f"{spec} is a folder. Expected a weights file, .h5 or .keras: --weights FILE. "
            "If it is a SavedModel, save it again as .keras."
        )
        raise WeightsError(message)
    if not path.exists():
        guess = did_you_mean(spec, ["bundled", "imagenet", "random:0"])
        message = (
            f"There is no weights file {spec}.{guess} Expected bundled, imagenet, random:SEED or "
            "a file. Use --weights bundled, which needs no file."
        )
        raise WeightsError(message)
    with open_layout(path) as contents:
        require(match_entries(contents.entries, rename, path), contents, layers)
    digest = _sha256(path)
    if rename:
        digest = hashlib.sha256(json.dumps([digest, rename]).encode()).hexdigest()
    return WeightsSource(spec, path, digest, rename)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

    def damaged(_: Exception) -> WeightsError:
        message = (
            f"{name} of {path} cannot be read: that part of the file is damaged, or compressed "
            "with a filter that h5py lacks. Copy or download the file again, or use --weights "
            "bundled."
        )
        return WeightsError(message)

    with read_errors(path, WeightsError, damaged):
        stored = inside(file, dataset)
        if stored.dtype.kind != "f" and stored.dtype != "V2":
            message = (
                f"{name} of {path} has the data type {stored.dtype}. Expected floating point. "
                "Save the network before quantisation, or use --weights bundled."
            )
            raise WeightsError(message)
        check_held(file, stored)
        array = _as_float32(stored[...])
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

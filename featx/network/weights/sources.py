"""The value of --weights, resolved to a file or to random numbers.

A text comes in; a path and an identity go out, or an error before any slow work begins.
One kind of source is never replaced by another. This file reads no arrays.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from featx.errors import OptionError, WeightsError
from featx.layers import find_layer
from featx.network.weights.download import fetch_imagenet
from featx.network.weights.layouts import open_layout
from featx.network.weights.matching import Renames, check_rename, match_entries, require
from featx.text import did_you_mean

__all__ = ["BUNDLED_SHA256", "WeightsSource", "find_weights"]

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
        Names in the file and the layers of VGG19 that they are, sorted.
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
            "have the names of VGG19. Use --rename with a file of your own: --weights FILE"
        )
        raise OptionError(message)
    if spec == "bundled":
        return _bundled(spec, dense)
    if spec == "imagenet":
        path = fetch_imagenet(top=bool(dense), progress=progress)
        return WeightsSource(spec, path, _sha256(path))
    if spec.startswith("random:"):
        return WeightsSource(spec, None, f"random:{_seed(spec)}")
    return _own_file(spec, layers, renames)


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


def _seed(spec: str) -> int:
    text = spec.removeprefix("random:")
    if not (text.isascii() and text.isdecimal()):
        message = (
            f"The seed in --weights {spec} is not a whole number, 0 or greater. "
            "Use --weights random:0"
        )
        raise WeightsError(message)
    return int(text)


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
        entries = contents.entries
    require(match_entries(entries, rename, path), entries, layers, path)
    digest = _sha256(path)
    if rename:
        digest = hashlib.sha256(json.dumps([digest, rename]).encode()).hexdigest()
    return WeightsSource(spec, path, digest, rename)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

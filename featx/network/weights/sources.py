"""Where weights come from: the text after --weights, resolved and verified.

A spec comes in; a path and an identity go out, or an error before any slow
work. One kind of source never stands in for another. This file knows neither
arrays nor layouts.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from featx.errors import OptionError, WeightsError
from featx.layers import find_layer
from featx.network.weights.download import fetch_imagenet
from featx.network.weights.inventory import check_weights
from featx.network.weights.renaming import Renames, check_rename, renamed_identity
from featx.text import did_you_mean

__all__ = ["BUNDLED_SHA256", "WeightsSource", "find_weights"]

#: sha256 of the file that comes with featx: the Oxford training, 16 convolutions,
#: every channel scaled to unit mean activation (Gatys et al. 2016).
BUNDLED_SHA256 = "6c5d5d327e01d4a392aa1946d3a1d4804308cdfd538965a2e3735511603f58e0"

_BUNDLED = Path(__file__).parents[1] / "vgg19_oxford_normalised.h5"


@dataclass(frozen=True)
class WeightsSource:
    """Weights that were found, and not yet read.

    Parameters
    ----------
    spec : str
        What the user typed: "bundled", "imagenet", "random:SEED", or a file.
    path : Path or None
        The file; None if the weights are random.
    identity : str
        sha256 of the file in hexadecimal, or "random:SEED": a recipe's `weights`.
        With renames, the sha256 of the JSON text ``["DIGEST", [["OLD", "NEW"], ...]]``
        of the file's sha256 and the sorted pairs.
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
    """Find the weights that `layers` need, and verify them.

    Parameters
    ----------
    spec : str
        "bundled", the file that comes with featx; "imagenet", Keras's release,
        downloaded once; "random:SEED"; else a file.
    layers : iterable of str
        Layers that codes are taken from.
    rename : mapping of str to str, optional
        Name in the file -> layer of VGG19 that it is, where a file's names are
        its maker's own. All other layers are then found by their names, none by
        its order. Shapes are proven as ever.
    progress : bool, default=False
        Draw a bar on stderr if "imagenet" is downloaded.

    Returns
    -------
    WeightsSource
        The weights, not yet read.

    Raises
    ------
    WeightsError
        The weights are missing, damaged, or do not cover these layers; or the
        file has no layer that is to be renamed.
    UnknownLayerError
        VGG19 has no such layer.
    OptionError
        A rename cannot be.

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
            f"--rename {old}={new}: the layers of {spec} have VGG19's names already. Renames are "
            "for a file of your own: --weights FILE"
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
            f"The bundled weights hold the 16 conv layers of VGG19 only; {dense[0]} was asked for. "
            "Use --weights imagenet (575 MB, downloaded once), or a layer up to block5_pool."
        )
        raise WeightsError(message)
    found = _sha256(_BUNDLED) if _BUNDLED.is_file() else "missing"
    if found != BUNDLED_SHA256:
        message = (
            f"The installation of featx is damaged: sha256 of {_BUNDLED} is {found}, "
            f"expected {BUNDLED_SHA256}. Install again: pip install --force-reinstall featx"
        )
        raise WeightsError(message)
    return WeightsSource(spec, _BUNDLED, found)


def _seed(spec: str) -> int:
    text = spec.removeprefix("random:")
    if not (text.isascii() and text.isdecimal()):
        message = (
            f"No such weights: {spec!r}. Expected a seed that is a whole number, 0 or more. "
            "Use --weights random:0"
        )
        raise WeightsError(message)
    return int(text)


def _own_file(spec: str, layers: Iterable[str], rename: Renames) -> WeightsSource:
    path = Path(spec).expanduser()
    if path.is_dir():
        message = (
            f"{spec} is a folder. Expected a weights file, .h5 or .keras. "
            "Use --weights FILE; a SavedModel must be saved again as .keras first."
        )
        raise WeightsError(message)
    if not path.exists():
        guess = did_you_mean(spec, ["bundled", "imagenet", "random:0"])
        message = (
            f"No weights file {spec}.{guess} Expected bundled, imagenet, random:SEED or a file. "
            "Use --weights bundled, which needs no file."
        )
        raise WeightsError(message)
    check_weights(path, layers, rename)
    return WeightsSource(spec, path, renamed_identity(_sha256(path), rename), rename)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

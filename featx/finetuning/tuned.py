"""The files of a tuned network: tuned.keras and tuned.weights.h5.

A network goes into the files; the head and the facts of tuned.keras come back. Keras's own
config in that file could run code, so it is not read: the file also holds featx's facts, as JSON.
The config is for Keras, which opens it in versions other than the one that wrote it.
"""

import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from featx.dataset.fingerprints import Fingerprints
from featx.documents import conform
from featx.errors import ModelError
from featx.finetuning.heads import Head, Normalise, dense_names
from featx.finetuning.network import Network
from featx.hdf5 import attribute, check_held, inside, read_errors
from featx.network.weights.files import open_weights
from featx.outputs import whole_file
from featx.recipe import Recipe
from featx.text import counted
from featx.unpacking import read_member

__all__ = ["TunedNetwork", "read_tuned", "save_tuned"]

_FACTS = "featx.json"
_FORMAT = "featx-tuned"
_FORMAT_VERSION = 1
_CONFIG = "config.json"
# The settings that a layer of these networks needs. A version of Keras refuses the settings that it
# does not know, and writes all that it knows; the others have their defaults here.
_LAYER_SETTINGS = frozenset(
    {"name", "trainable", "dtype", "batch_shape", "sparse", "filters", "kernel_size", "strides"}
    | {"padding", "data_format", "activation", "pool_size", "units", "axis", "rate", "seed"}
)


@dataclass(frozen=True)
class _Facts:
    """The schema of featx.json."""

    recipe: Annotated[Recipe, lambda value: Recipe.from_json(json.dumps(value))]
    classes: tuple[str, ...]
    normalise: Normalise
    n_kernels: int
    fitted_on: tuple[str, ...]
    summary: dict[str, Any]
    fingerprints: Fingerprints | None = None


@dataclass(frozen=True, eq=False)
class TunedNetwork:
    """The content of a tuned.keras.

    Parameters
    ----------
    path : Path
        The file, which also holds the weights of the recipe.
    recipe : Recipe
        Recipe of the codes that the head takes; its `weights` are not set.
    head : Head
        The head.
    fitted_on : tuple of str
        sha256 of the files of the training images, early-stopping set included.
    summary : dict
        How the network was trained, and its accuracy.
    fingerprints : Fingerprints or None
        What tells near-duplicates of the training images, and their groups.
    """

    path: Path
    recipe: Recipe
    head: Head
    fitted_on: tuple[str, ...]
    summary: dict[str, Any]
    fingerprints: Fingerprints | None


def save_tuned(
    network: Network,
    folder: Path,
    fitted_on: tuple[str, ...],
    summary: Mapping[str, Any],
    fingerprints: Fingerprints | None = None,
) -> tuple[Path, Path]:
    """Write tuned.keras and tuned.weights.h5; existing files of these names are replaced.

    Parameters
    ----------
    network : Network
        The network with the weights to save.
    folder : Path
        The folder to write to.
    fitted_on : tuple of str
        sha256 of the files of the training images, early-stopping set included.
    summary : mapping of str to object
        Anything that JSON can hold.
    fingerprints : Fingerprints, optional
        What tells near-duplicates of the training images, and their groups.

    Returns
    -------
    (Path, Path)
        `tuned.keras`, a model from images to probabilities, which
        `keras.models.load_model` of Keras 3.6 and newer opens after a call of
        `featx.finetuning.heads.custom_layers()`; and `tuned.weights.h5`, for
        `featx extract --weights` and for Keras's VGG19.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    import keras

    head = network.current_head()
    facts = {
        "format": _FORMAT,
        "format_version": _FORMAT_VERSION,
        "recipe": json.loads(network.recipe.to_json()),
        "classes": list(head.classes),
        "normalise": head.normalise,
        "n_kernels": len(head.kernels),
        "fitted_on": list(fitted_on),
        "summary": dict(summary),
        "fingerprints": None if fingerprints is None else asdict(fingerprints),
    }
    whole, weights = folder / "tuned.keras", folder / "tuned.weights.h5"
    with network.device.scope():
        images = network.model.inputs[0]
        logits = network.model.outputs[0]
        probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
        model = keras.Model(images, probabilities, name="tuned")
        # VGG19 without pooling and head, with Keras's layer names.
        (cut,) = network.recipe.layers
        plain = keras.Model(images, network.model.get_layer(cut).output, name="vgg19")
    with whole_file(whole) as temporary:
        _saved_as(model.save, temporary, ".keras", _copy_portable)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_FACTS, json.dumps(facts))
    with whole_file(weights) as temporary:
        _saved_as(plain.save_weights, temporary, ".weights.h5")
    return whole, weights


def read_tuned(path: Path | str) -> TunedNetwork:
    """Read the facts and the head of a tuned.keras, without running any of its code.

    Raises
    ------
    ModelError
        The file does not exist, `featx finetune` did not write it, or it is damaged.
    WeightsError
        The weights are damaged.
    """
    path = Path(path)
    if not path.is_file():
        message = f"{path} does not exist. Make a tuned network first: featx finetune IMAGES"
        raise ModelError(message)

    def damaged(error: Exception) -> ModelError:
        message = (
            f"{path} is damaged, or this version of featx finetune did not write it: {error}. Copy "
            "it again, run featx finetune again, or upgrade: pip install --upgrade featx. Networks "
            f"of other programs can be used as weights: featx extract --weights {path}"
        )
        return ModelError(message)

    with read_errors(path, ModelError, damaged):
        with zipfile.ZipFile(path) as archive:
            content = json.loads(read_member(archive, archive.getinfo(_FACTS)))
        written = content["format"], content["format_version"]
        if written != (_FORMAT, _FORMAT_VERSION):
            message = (
                f"{path} has format {written[0]} {written[1]}, but this featx reads {_FORMAT} "
                f"{_FORMAT_VERSION}. pip install --upgrade featx"
            )
            raise ModelError(message)
        facts = conform(_Facts, content)
        recipe, head = facts.recipe, _read_head(path, facts)
        if head.n_features != recipe.n_features:
            message = (
                f"the head takes {head.n_features} features, but codes have {recipe.n_features}"
            )
            raise ValueError(message)
        return TunedNetwork(path, recipe, head, facts.fitted_on, facts.summary, facts.fingerprints)


def _read_head(path: Path, facts: _Facts) -> Head:
    """Read the arrays of a head."""
    with open_weights(path) as (file, _):
        # Keras names the groups by the type of layer; the layer's name is an attribute.
        vars_ = [inside(file, f"layers/{kind}/vars") for kind in inside(file, "layers")]
        groups = {str(attribute(group, "name")): group for group in vars_}

        def arrays(name: str) -> list[np.ndarray]:
            datasets = [inside(groups[name], key) for key in sorted(groups[name], key=int)]
            for dataset in datasets:
                check_held(file, dataset)
            return [np.asarray(dataset) for dataset in datasets]

        if not 1 <= facts.n_kernels <= len(groups):
            message = f"the head should have {counted(facts.n_kernels, 'layer')}"
            raise ValueError(message)

        names = dense_names(facts.n_kernels)
        kernels, biases = zip(*(arrays(name) for name in names), strict=True)
        mean = arrays("head_centre")[0] if facts.normalise == "centre" else None
    return Head(facts.classes, facts.normalise, mean, kernels, biases)


def _saved_as(
    save: Callable[[Path], object],
    path: Path,
    suffix: str,
    copy: Callable[[Path, Path], object] = shutil.copyfile,
) -> None:
    """Let Keras write a file without a suffix, which it would refuse."""
    named = path.with_name(path.name + suffix)
    try:
        save(named)
        copy(named, path)  # not renamed: `path` is locked
    finally:
        named.unlink(missing_ok=True)


def _copy_portable(source: Path, target: Path) -> None:
    """Copy a .keras file, with a config that other versions of Keras can read."""
    with zipfile.ZipFile(source) as made, zipfile.ZipFile(target, "w") as archive:
        for member in made.infolist():
            if member.filename == _CONFIG:
                config = _portable_config(json.loads(made.read(member)))
                archive.writestr(_CONFIG, json.dumps(config))
                continue
            copied = zipfile.ZipInfo(member.filename, member.date_time)
            copied.compress_type, copied.file_size = member.compress_type, member.file_size
            with made.open(member) as content, archive.open(copied, "w") as copy:
                shutil.copyfileobj(content, copy)


def _portable_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return Keras's config of a network without the settings that some versions do not know."""
    network = config["config"]
    layers = []
    for layer in network["layers"]:
        # An operation such as a cast has no constructor with a name before Keras 3.7.
        is_operation = layer["module"].startswith("keras.src.ops")
        kept = {
            name: value
            for name, value in layer["config"].items()
            if (name != "name" if is_operation else name in _LAYER_SETTINGS)
        }
        layers.append({**layer, "config": kept})
    # The one input and output. Keras 3.6 writes [["images", 0, 0]], which newer versions take for a
    # list of inputs and warn of; all of them read the other form.
    ends = {
        name: ends if isinstance(ends[0], str) else ends[0]
        for name, ends in network.items()
        if name in {"input_layers", "output_layers"}
    }
    return {**config, "config": {**network, "layers": layers, **ends}}

"""A tuned network as files: the whole of it, and its weights under VGG19's names.

A network comes in; `tuned.keras` and `tuned.weights.h5` go out, and what
`tuned.keras` says of itself comes back. It is read without running its config,
which could run code: featx's own facts lie beside that, as JSON.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import ModelError, WeightsError
from featx.finetuning.heads import Head
from featx.finetuning.network import Network
from featx.hdf5 import check_held, inside
from featx.network.weights.files import READ_FAILURES, open_weights, read_member
from featx.outputs import whole_file
from featx.recipe import Recipe
from featx.text import counted

__all__ = ["TunedNetwork", "read_tuned", "save_tuned"]

_FACTS = "featx.json"
_FORMAT = "featx-tuned"
_FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class TunedNetwork:
    """What a tuned.keras says of itself.

    Parameters
    ----------
    path : Path
        The file, which is the weights of `recipe` too.
    recipe : Recipe
        Of the codes that the head takes; its `weights` are not set.
    head : Head
        From codes to logits.
    fitted_on : tuple of str
        sha256 of the files of the images that it was trained on, stopping included.
    summary : dict
        How it was trained, and how it scored.
    """

    path: Path
    recipe: Recipe
    head: Head
    fitted_on: tuple[str, ...]
    summary: dict[str, Any]


def save_tuned(
    network: Network, folder: Path, fitted_on: tuple[str, ...], summary: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Write tuned.keras and tuned.weights.h5; files of these names are replaced, each at once.

    Parameters
    ----------
    network : Network
        With the weights that are to be kept.
    folder : Path
        Where to.
    fitted_on : tuple of str
        sha256 of the files of the images that it was trained on.
    summary : mapping of str to object
        Whatever JSON can hold.

    Returns
    -------
    (Path, Path)
        Both files: `tuned.keras`, from images to probabilities, which
        `keras.models.load_model` opens after `import featx` and
        `featx.finetuning.heads.custom_layers()`; and `tuned.weights.h5`, which
        `featx extract --weights` and Keras's VGG19 take.

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
    }
    whole, weights = folder / "tuned.keras", folder / "tuned.weights.h5"
    with network.device.scope():
        images = network.model.inputs[0]
        logits = network.model.outputs[0]
        probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
        model = keras.Model(images, probabilities, name="tuned")
        # The cut's activation, before it is pooled: VGG19 alone, as Keras has it.
        (cut,) = network.recipe.layers
        plain = keras.Model(images, network.model.get_layer(cut).output, name="vgg19")
    with whole_file(whole) as temporary:
        _saved_as(model.save, temporary, ".keras")
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_FACTS, json.dumps(facts))
    with whole_file(weights) as temporary:
        _saved_as(plain.save_weights, temporary, ".weights.h5")
    return whole, weights


def read_tuned(path: Path | str) -> TunedNetwork:
    """Read what a tuned.keras says of itself, and its head; no code of the file is run.

    Raises
    ------
    ModelError
        There is no such file, `featx finetune` did not write it, or it is damaged.
    WeightsError
        Its weights are damaged.
    """
    path = Path(path)
    if not path.is_file():
        message = f"No tuned network {path}. Make one first: featx finetune IMAGES"
        raise ModelError(message)
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(read_member(archive, _FACTS))
        written = facts["format"], facts["format_version"]
    except READ_FAILURES as error:
        message = (
            f"{path} is no network that featx finetune wrote, or it is damaged. As weights of "
            f"another maker's network: featx extract --weights {path}"
        )
        raise ModelError(message) from error
    if written != (_FORMAT, _FORMAT_VERSION):
        message = (
            f"{path} has format {written[0]} {written[1]}; this featx reads {_FORMAT} "
            f"{_FORMAT_VERSION}. Use a newer one: pip install --upgrade featx"
        )
        raise ModelError(message)
    try:
        _check_kinds(facts)
        recipe = Recipe.from_json(json.dumps(facts["recipe"]))
        head = _read_head(path, facts)
        if head.code_size != recipe.n_features:
            message = f"its head takes {head.code_size} numbers, its codes have {recipe.n_features}"
            raise ValueError(message)
        return TunedNetwork(
            path=path,
            recipe=recipe,
            head=head,
            fitted_on=tuple(facts["fitted_on"]),
            summary=facts["summary"],
        )
    except WeightsError:
        raise
    except READ_FAILURES as error:
        message = (
            f"{path} is damaged, or a newer featx wrote it: {error}. Copy it again, run the same "
            "featx finetune again, or use a newer one: pip install --upgrade featx"
        )
        raise ModelError(message) from error


def _check_kinds(facts: Mapping[str, Any]) -> None:
    """Refuse facts that are no facts of a network."""
    fits = (
        type(facts["n_kernels"]) is int
        and isinstance(facts["summary"], dict)
        and all(
            isinstance(facts[name], list) and all(isinstance(each, str) for each in facts[name])
            for name in ("classes", "fitted_on")
        )
    )
    if not fits:
        message = f"{_FACTS} holds values of other kinds"
        raise TypeError(message)


def _read_head(path: Path, facts: Mapping[str, Any]) -> Head:
    """Read a head's arrays from a tuned.keras, whose facts say how many there are."""
    with open_weights(path) as (file, _):
        # Keras calls the groups by their kinds; the layers' own names are attributes.
        vars_ = [inside(file, f"layers/{kind}/vars") for kind in inside(file, "layers")]
        groups = {str(group.attrs["name"]): group for group in vars_}

        def arrays(name: str) -> list[np.ndarray]:
            datasets = [inside(groups[name], key) for key in sorted(groups[name], key=int)]
            for dataset in datasets:
                check_held(file, dataset)
            return [np.asarray(dataset) for dataset in datasets]

        if not 1 <= facts["n_kernels"] <= len(groups):
            message = f"its head should have {counted(facts['n_kernels'], 'layer')}"
            raise ValueError(message)

        names = [f"head_dense{k}" for k in range(1, facts["n_kernels"])]
        kernels, biases = zip(*(arrays(name) for name in [*names, "head_logits"]), strict=True)
        mean = arrays("head_centre")[0] if facts["normalise"] == "centre" else None
    return Head(tuple(facts["classes"]), facts["normalise"], mean, kernels, biases)


def _saved_as(save: Any, path: Path, suffix: str) -> None:
    """Let Keras write a file whose name has no suffix: it asks for one."""
    named = path.with_name(path.name + suffix)
    try:
        save(named)
        named.replace(path)
    finally:
        named.unlink(missing_ok=True)

"""Check that files of one environment open in another one, and predict the same.

    python tests/exchange.py write FOLDER     # in one environment
    python tests/exchange.py check FOLDER     # in the other one

`write` saves models of every classifier, calibration and solver, and tuned networks, each with
its predictions. `check` opens them with the versions of its environment. `.ci/run` runs both with
the newest and with the lowest versions that pyproject.toml allows.
"""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax
from stores import make_store
from threadpoolctl import threadpool_limits
from tuning import noise_images, small_head, small_network, small_recipe

from featx.choices import Calibration, Normalise, choices_of
from featx.errors import FeatxError
from featx.finetuning.heads import custom_layers
from featx.finetuning.settings import TrainingSettings
from featx.finetuning.tuned import save_tuned
from featx.fitting import CLASSIFIERS, fit, load_model
from featx.workflows.predicting.predictor import load_predictor

#: Largest difference of a probability.
TOLERANCE = 1e-6
LIBRARIES = ("featx", "scikit-learn", "skops", "numpy", "scipy", "h5py", "keras", "tensorflow")


def fits() -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Yield the name, the number of classes and the settings of each model."""
    for name, kind in CLASSIFIERS.items():
        chosen = {"clf": name, **({"C": [1, 10]} if kind.has_penalty else {})}
        yield f"{name}-2", 2, chosen
        yield f"{name}-3", 3, chosen
        if kind.is_rotation_invariant:
            yield f"{name}-gram", 3, {**chosen, "solver": "gram"}
    ridge, logistic = ({"clf": name, "C": [1]} for name in ("ridge", "logistic"))
    for method in choices_of(Calibration):
        yield f"ridge-{method}", 3, {**ridge, "calibration": method}
    for normalise in choices_of(Normalise):
        yield f"logistic-{normalise}", 3, {**logistic, "normalise": normalise}
    yield "logistic-components", 3, {**logistic, "components": 8, "whiten": True}
    yield "logistic-streamed", 3, {**logistic, "solver": "streamed"}
    for name in ("sgd", "hist-gradient-boosting"):
        yield f"{name}-stopped", 3, {"clf": name, "settings": {"early_stopping": True}}
    yield "sgd-huber", 2, {"clf": "sgd", "C": [1], "settings": {"loss": "modified_huber"}}


def networks() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield the name, the settings of the recipe and those of the head of each tuned network."""
    yield "plain", {"pool": "avg"}, {}
    yield "perceptron", {"pool": "max", "preprocess": "caffe"}, {"hidden": (6, 7)}
    yield "centre", {"pool": "none"}, {"normalise": "centre"}
    yield "cells", {"pool": "grid:2"}, {"normalise": "sqrt-l2"}
    yield "overlapping-cells", {"pool": "grid:3"}, {}
    yield "second-order", {"pool": "bilinear", "layers": ("block1_pool",)}, {"normalise": "l2"}
    yield "bfloat16", {"pool": "avg+max", "precision": "bfloat16"}, {"normalise": "l2"}


def codes_of(n: int, n_classes: int, seed: int) -> np.ndarray:
    """Return codes of classes that overlap."""
    codes = np.random.default_rng(seed).random((n, 64)).astype(np.float32)
    codes[np.arange(n), np.arange(n) % n_classes] += 0.4
    return codes


def write(folder: Path) -> None:
    """Save models and tuned networks, and their predictions."""
    folder.mkdir(parents=True)
    (folder / "versions.json").write_text(json.dumps(versions()), encoding="utf-8")
    for n_classes in (2, 3):
        labels = [f"class {i % n_classes}" for i in range(60)]
        codes = {"block1_conv1": codes_of(60, n_classes, seed=0)}
        make_store(folder / f"codes-{n_classes}.h5", codes, labels)
    for name, n_classes, settings in fits():
        path = folder / f"{name}.skops"
        store = folder / f"codes-{n_classes}.h5"
        model = fit(store, baselines=False, folds=2, repeats=1, output=path, **settings).model
        codes = codes_of(50, n_classes, seed=1)
        np.savez(path.with_suffix(".npz"), codes=codes, expected=model.predict_proba(codes))
    for name, recipe, head in networks():
        made = small_recipe(**recipe)
        settings = TrainingSettings(freeze_until="block1_pool", dropout=0.5, augment="lecture")
        network = small_network(settings, made, small_head(made, **head))
        (folder / name).mkdir()
        whole, _ = save_tuned(network, folder / name, ("0" * 64,), {"n_train": 1})
        logits = network.model.predict(noise_images(5), verbose=0)
        np.savez(whole.with_suffix(".npz"), expected=softmax(logits, axis=1))


def check(folder: Path) -> int:
    """Open everything and predict; print a line for each file, and return how many failed."""
    print(f"made with {described(json.loads((folder / 'versions.json').read_text()))}")
    print(f"read with {described(versions())}")
    models = sorted(folder.glob("*.skops"))
    tuned = sorted(folder.glob("*/tuned.keras"))
    found = [*map(check_model, models), *map(check_network, tuned)]
    for path, (error, text) in zip([*models, *tuned], found, strict=True):
        print(f"{path.relative_to(folder)!s:<36} {'FAILED' if error else 'equal '}  {text}")
    n_failed = sum(error for error, _ in found)
    print(f"{len(found)} files, {n_failed} failed")
    return n_failed


def check_model(path: Path) -> tuple[bool, str]:
    """Return whether a model failed, with the difference or the error."""
    arrays = np.load(path.with_suffix(".npz"))
    notes: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = notes.append  # type: ignore[method-assign]
    logging.getLogger("featx").addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            probabilities = load_model(path).predict_proba(arrays["codes"])
    except FeatxError as error:
        return True, str(error)
    finally:
        logging.getLogger("featx").removeHandler(handler)
    difference = float(np.abs(probabilities - arrays["expected"]).max())
    text = f"{difference:.0e}"
    if caught or len(notes) > 1:
        text += "; ".join(["", *(str(each.message) for each in caught), *map(str, notes)])
    return difference > TOLERANCE or bool(caught) or len(notes) > 1, text


def check_network(path: Path) -> tuple[bool, str]:
    """Return whether Keras or featx failed to open a network, with the differences or the error."""
    import keras

    expected = np.load(path.with_suffix(".npz"))["expected"]
    images = noise_images(5)
    try:
        of_featx = load_predictor(path)(images).probabilities
        model = keras.models.load_model(path, custom_objects=custom_layers())
        of_keras = model.predict(images, verbose=0)
    except (FeatxError, TypeError, ValueError) as error:  # Keras raises TypeError or ValueError
        return True, str(error).strip().splitlines()[0]
    differences = [float(np.abs(found - expected).max()) for found in (of_featx, of_keras)]
    # Sums of bfloat16 products depend on the library.
    tolerance = 1e-3 if "bfloat16" in path.parts else TOLERANCE
    return max(differences) > tolerance, "featx {:.0e}, Keras {:.0e}".format(*differences)


def versions() -> dict[str, str]:
    """Return the versions of this environment."""
    return {name: version(name) for name in LIBRARIES}


def described(found: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


def main() -> None:
    """Write or check a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["write", "check"])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    # On tiny problems two threads spend their time waiting for each other.
    with threadpool_limits(1):
        if arguments.what == "write":
            write(arguments.folder)
        else:
            sys.exit(check(arguments.folder) > 0)


if __name__ == "__main__":
    main()

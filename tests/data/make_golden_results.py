"""Write tests/data/results-0.1: the files of featx 0.1 other than stores.

Run once with featx 0.1 and never again: the files stand for what users have. They are a
store, one model per classifier and per way to transform and calibrate its codes, a
sweep.json, a run.json with its tuned.keras, and the probabilities that 0.1 predicted.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import featx
from featx.recipe import Recipe
from featx.store import ImageFacts, StoreWriter, create_store

LAYER, WIDTH, CLASSES = "block1_conv1", 64, ("blue", "green", "red")
CLASSIFIERS = (
    "logistic", "ridge", "linear-svm", "svm-rbf", "knn", "centroid", "lda", "sgd",
    "logistic-l1", "hist-gradient-boosting",
)  # fmt: skip
OTHERS = {
    "centre-components": {"normalise": "centre", "components": 4, "whiten": True},
    "sqrt-l2": {"normalise": "sqrt-l2"},
    "knn-span": {"clf": "knn", "road": "span"},
    "sigmoid": {"calibration": "sigmoid"},
    "isotonic": {"calibration": "isotonic"},
}


def write_store(path: Path) -> None:
    """Write codes of 30 images, ten of each class, whose classes overlap a little."""
    rng = np.random.default_rng(0)
    labels = [name for name in CLASSES for _ in range(10)]
    columns = {
        "path": [f"{label}/{k % 10}.png" for k, label in enumerate(labels)],
        "label": labels,
        "split": [None] * 30,
        "group": [None] * 30,
    }
    recipe = Recipe(weights="random:7", layers=(LAYER,), pool="avg", size=(32, 32))
    create_store(path, recipe, columns, {"featx": "0.1.0", "root": "/data", "weights": "random:7"})
    centres = rng.uniform(0, 2, (3, WIDTH))
    codes = np.repeat(centres, 10, axis=0) + rng.normal(0, 1.5, (30, WIDTH))
    facts = [
        ImageFacts(
            f"{i:064x}",
            phash=int(rng.integers(0, 2**63)),
            thumbnail=rng.integers(0, 256, (32, 32, 3), dtype=np.uint8),
        )
        for i in range(30)
    ]
    with StoreWriter(path) as writer:
        writer.write_done(np.arange(30), {LAYER: codes.astype(np.float32)}, facts)


def write_models(folder: Path) -> None:
    """Fit each classifier on the store, and write its predictions next to it."""
    X, _ = featx.read_arrays("codes.h5")
    expected = {}
    settings = {name: {"clf": name} for name in CLASSIFIERS} | OTHERS
    settings["hist-gradient-boosting"]["settings"] = {"max_iter": 5}  # a small file
    for name, own in settings.items():
        fitted = featx.fit("codes.h5", **own, output=folder / f"{name}.skops", baselines=False)
        expected[name] = fitted.bundle.predict_proba(X)
    featx.fit("codes.h5", output=folder / "logistic.joblib", baselines=False)
    np.savez_compressed(folder / "expected.npz", **expected)


def write_images(folder: Path) -> None:
    """Draw twelve images of each class."""
    rng = np.random.default_rng(0)
    for name, colour in zip(CLASSES, [(40, 60, 200), (40, 180, 60), (200, 50, 40)], strict=True):
        (folder / name).mkdir(parents=True)
        for k in range(12):
            pixels = rng.integers(0, 50, (40, 48, 3)) + np.array(colour)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{k}.png")


def main() -> None:
    target = Path(__file__).parent.absolute() / "results-0.1"
    target.mkdir()
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        write_store(Path("codes.h5"))
        write_models(Path())
        write_images(Path("data"))
        featx.sweep("data", size=32, pool="avg", weights="random:7", output="sweep")
        featx.finetune(
            "data", size=32, layer="block1_pool", init="random:7", epochs=1, output="tuned"
        )
        for found in sorted(Path().glob("*.*")):
            if found.is_file():
                shutil.copy(found, target)
        shutil.copy("sweep/sweep.json", target)
        shutil.copy("tuned/run.json", target)
        shutil.copy("tuned/tuned.keras", target)
        images = [str(path) for path in sorted(Path("data").glob("*/*.png"))]
        table = featx.predict(images, model="tuned/tuned.keras")
        np.savez_compressed(
            target / "expected_tuned.npz",
            probabilities=table[[f"p_{name}" for name in CLASSES]].to_numpy(float),
        )


if __name__ == "__main__":
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    main()

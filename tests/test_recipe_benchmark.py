"""The benchmark of recipes joins passes to the codes of an extraction."""

import sys
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.store import open_store

LAYERS = ("block1_pool", "block2_pool")


@pytest.fixture(scope="module")
def recipes():
    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    try:
        import recipes
    finally:
        sys.path.pop(0)
    return recipes


@pytest.mark.parametrize("join", ["mean", "stack"])
def test_joined_passes_are_those_of_extract(tmp_path, make_image_folder, recipes, join):
    folder = make_image_folder(tmp_path / "data")
    (folder / "train/red/bad.png").write_bytes(b"no image")
    given = {"weights": "random:0", "pool": "avg", "flip": True}
    stores = [tmp_path / f"{scale}.h5" for scale in (32, 64)]
    for store, scale in zip(stores, (32, 64), strict=True):
        featx.extract(folder, layer=[*LAYERS, "block3_pool"], scale=scale, output=store, **given)
    candidate = recipes.Candidate("w", LAYERS, recipes.flipped(32, 64), join)
    recipes.join_passes(stores, candidate, tmp_path / "joined.h5")
    featx.extract(
        folder, layer=LAYERS, scale=[32, 64], scales_join=join, output=tmp_path / "at-once.h5",
        **given,
    )  # fmt: skip
    joined, at_once = open_store(tmp_path / "joined.h5"), open_store(tmp_path / "at-once.h5")
    assert joined.recipe == at_once.recipe
    assert joined.digests()["images"] == at_once.digests()["images"]
    rows = np.flatnonzero(at_once.images.done)
    for layer in LAYERS:
        np.testing.assert_allclose(
            joined.read_rows(layer, rows), at_once.read_rows(layer, rows), rtol=1e-6
        )


def test_the_arithmetic_of_scales_and_mirror_images(tmp_path, make_image_folder, recipes):
    """Images of 40 x 48 pixels are 32 x 32 at scale 32 and 64 x 64 at scale 64."""
    from featx.layers import gflop

    folder = make_image_folder(tmp_path / "data")
    store = recipes.store_of(tmp_path, folder, recipes.Pass(32, flip=True), "avg")
    featx.extract(folder, layer="block2_pool", scale=32, flip=True, pool="avg",
                  weights="random:0", output=store)  # fmt: skip
    candidate = recipes.Candidate("w", LAYERS, (recipes.Pass(32, flip=True), recipes.Pass(64)))
    expected = 2 * gflop("block2_pool", (32, 32)) + gflop("block2_pool", (64, 64))
    assert recipes.gflop_of(candidate, folder, tmp_path) == pytest.approx(expected)

"""Fingerprints: near-duplicates and groups are recognised, and nothing can be read from them."""

import dataclasses
import json

import numpy as np
import pytest

import featx
from featx.dataset.duplicates import sketches_of
from featx.dataset.fingerprints import Fingerprints, _signs
from featx.fitting import load_model


def scenes(n: int, seed: int = 0) -> np.ndarray:
    """Return thumbnails of random cells, (n, 32, 32, 3)."""
    cells = np.random.default_rng(seed).integers(40, 200, (n, 8, 8, 3), dtype=np.uint8)
    return cells.repeat(4, axis=1).repeat(4, axis=2)


def changed(thumbnails: np.ndarray, noise: int) -> np.ndarray:
    """Return darker copies with noise."""
    rng = np.random.default_rng(1)
    return (0.8 * thumbnails + rng.integers(0, noise + 1, thumbnails.shape)).astype(np.uint8)


def test_copies_are_near_and_other_images_are_not():
    images = scenes(200)
    known = Fingerprints.of([None] * 200, images)
    assert known.are_near(changed(images, 20)).mean() > 0.99
    assert not known.are_near(scenes(200, seed=5)).any()


def test_images_that_look_like_a_large_part_of_the_images_are_not_near():
    """All photographs of a fixed camera are near to each other."""
    rng = np.random.default_rng(0)
    board = scenes(1).astype(int) + rng.integers(-9, 10, (80, 32, 32, 3))
    board = board.clip(0, 255).astype(np.uint8)
    assert not Fingerprints.of([None] * 40, board[:40]).are_near(board[40:]).any()


def test_blank_images_have_no_fingerprints():
    blank = np.full((2, 32, 32, 3), 9, np.uint8)
    known = Fingerprints.of([None, None], blank)
    assert known.signs == ()
    assert not known.are_near(scenes(3)).any()
    assert not Fingerprints.of([None] * 3, scenes(3)).are_near(blank).any()


def test_bits_differ_in_proportion_to_the_angle_of_the_sketches():
    """Charikar's estimate: the fraction of different bits is the angle, of 180 degrees."""
    one = scenes(300)
    mixed = (0.7 * one + 0.3 * scenes(300, seed=1)).astype(np.uint8)
    cosines = (sketches_of(one) * sketches_of(mixed)).sum(axis=1)
    different = (_signs(one, "00" * 16) != _signs(mixed, "00" * 16)).mean(axis=1)
    angles = np.arccos(cosines) / np.pi
    assert abs(different.mean() - angles.mean()) < 0.01
    assert np.abs(different - angles).max() < 4.5 * np.sqrt(0.25 / 128)


def test_groups_are_known_and_their_names_are_not_kept():
    """Two models of the same groups have nothing in common that could be compared."""
    names = ["Jane Doe", None, "", "Jane Doe", "Müller\udcff"]
    one, other = (Fingerprints.of(names, scenes(5)) for _ in range(2))
    asked = ["Jane Doe", "jane doe", None, "", "Müller\udcff"]
    assert one.have_group(asked).tolist() == [True, False, False, False, True]
    assert len(one.groups) == 2
    assert not {one.salt, *one.groups, *one.signs} & {other.salt, *other.groups, *other.signs}
    assert "Jane" not in json.dumps(dataclasses.asdict(one))
    assert repr(one) == "Fingerprints()"


@pytest.mark.parametrize(
    "damage", [{"salt": "00"}, {"groups": ("0" * 18,)}, {"signs": ("x" * 32,)}, {"signs": ("0",)}]
)
def test_other_texts_are_refused(damage):
    known = Fingerprints.of(["a"], scenes(1))
    with pytest.raises(ValueError, match=r"bytes|hexadecimal"):
        dataclasses.replace(known, **damage)


def test_a_model_keeps_fingerprints_and_shows_none_of_them(tmp_path, make_store):
    """They are in the file only: not in the summary, the provenance or the repr."""
    rng = np.random.default_rng(0)
    codes = {"block1_pool": rng.normal(size=(20, 8)).astype("f4")}
    groups = [f"patient {k}" for k in range(20)]
    path = make_store(tmp_path / "codes.h5", codes, list("ab") * 10, groups=groups)
    fitted = featx.fit(path, baselines=False, output=tmp_path / "model.skops")
    model = load_model(tmp_path / "model.skops")
    assert dataclasses.asdict(model.fingerprints) == dataclasses.asdict(fitted.model.fingerprints)
    assert model.fingerprints.have_group(["patient 3", "patient 33"]).tolist() == [True, False]
    shown = repr(model) + json.dumps([model.summary, model.provenance])
    held = [model.fingerprints.salt, *model.fingerprints.groups, *model.fingerprints.signs]
    assert not any(text in shown for text in held)
    assert b"patient 3" not in (tmp_path / "model.skops").read_bytes()
    older = dataclasses.replace(model, fingerprints=None)
    older.save(tmp_path / "older.skops")
    assert load_model(tmp_path / "older.skops").fingerprints is None

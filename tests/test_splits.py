"""Splits: the rows for searching, fitting and scoring, and the notes about them."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from featx.dataset.splits import (
    DataSplit,
    leak_notes,
    make_split,
    shares_training_group,
    small_class_notes,
)
from featx.errors import FitError, OptionError

PATH = Path("codes.h5")
NAMES = ("train", "val", "test", None)


def column_of(*names) -> np.ndarray:
    """Return a column with two rows of each split, in turn."""
    return np.array([*names, *names], dtype=object)


def rows_of(column, *names) -> list[int]:
    return [row for row, name in enumerate(column) if name in names]


def described(split: DataSplit) -> tuple:
    parts = (split.search_rows, split.validation_rows, split.fit_rows, split.score_rows)
    return *(part.tolist() for part in parts), split.scored_on


@pytest.mark.parametrize(
    "names",
    [c for k in range(1, 5) for c in itertools.combinations(NAMES, k)],
    ids=lambda names: "+".join(str(name) for name in names),
)
def test_every_combination_of_splits(names):
    """Train is searched and fitted; val is fitted if test is scored; test or else val is scored."""
    column = column_of(*names)
    given = [name for name in names if name]
    if given and "train" not in given:
        with pytest.raises(FitError, match=f"codes.h5 .*{', '.join(sorted(given))}.* train"):
            make_split(PATH, column)
        return
    split, notes = make_split(PATH, column)
    train = rows_of(column, "train")
    n_notes = int(None in names and bool(given))
    if n_notes:
        assert "2 images" in notes[0]
    if not given:
        assert described(split) == ([0, 1], [], [0, 1], [0, 1], "folds")
    elif given == ["train"]:
        assert described(split) == (train, [], train, train, "folds")
    elif given == ["train", "val"]:
        assert described(split) == (train, [], train, rows_of(column, "val"), "val")
    else:
        fit_rows = rows_of(column, "train", "val")
        assert described(split) == (train, [], fit_rows, rows_of(column, "test"), "test")
        if "val" in given:
            n_notes += 1
            assert "folds of train" in notes[-1]
    assert len(notes) == n_notes
    if split.scored_on != "folds":
        used = {*split.search_rows, *split.validation_rows, *split.fit_rows}
        assert used.isdisjoint(split.score_rows.tolist())


@pytest.mark.parametrize("others", [(), (None,)], ids=["all in splits", "some in none"])
def test_settings_can_be_chosen_on_val(others):
    """The rows of val are not searched, but fitted."""
    column = column_of("train", "val", "test", *others)
    split, notes = make_split(PATH, column, select="val")
    assert described(split) == (
        rows_of(column, "train"),
        rows_of(column, "val"),
        rows_of(column, "train", "val"),
        rows_of(column, "test"),
        "test",
    )
    assert len(notes) == 1 + len(others)
    assert "chosen on val" in notes[-1]


@pytest.mark.parametrize(
    ("names", "present"),
    [
        (("train", "val"), "train, val"),
        (("train", "test"), "test, train"),
        (("val", "test", None), "test, val"),
        (("train",), "train"),
        ((None,), "no splits"),
    ],
)
def test_choosing_on_val_requires_all_splits(names, present):
    with pytest.raises(OptionError, match=f"--select val .*codes.h5 has {present}"):
        make_split(PATH, column_of(*names), select="val")


# leaks


def split_of(fit_rows, score_rows, scored_on="val") -> DataSplit:
    fit_rows, score_rows = np.array(fit_rows), np.array(score_rows)
    return DataSplit(fit_rows, np.zeros(0, int), fit_rows, score_rows, scored_on)


def test_only_groups_on_both_sides_are_leaks():
    """A group with all rows scored, or all rows fitted, is not a leak."""
    groups = np.array([0, 1, 1, 2, 0, 3, 3, 2], dtype=np.int32)
    split = split_of([0, 1, 2, 3], [4, 5, 6, 7])
    assert shares_training_group(groups, split).tolist() == [True, False, False, True]
    assert not shares_training_group(groups, split_of([1, 2], [5, 6])).any()


def test_leaks_are_counted_in_scored_images():
    y = np.array(["a", "b", "a", "b", "a", "b", "a", "b"])
    groups = np.array([0, 1, 1, 2, 0, 3, 3, 2], dtype=np.int32)
    for name in ("val", "test"):
        split = split_of([0, 1, 2, 3], [4, 5, 6, 7], name)
        (note,) = leak_notes(y, groups, split)
        assert f"2 images of {name}" in note
    assert leak_notes(y, np.arange(8, dtype=np.int32), split) == []
    assert leak_notes(y, groups, split_of(range(8), range(8), "folds")) == []


def test_val_counts_as_training_if_test_is_scored():
    """A duplicate in test of an image in val is a leak, since val is fitted."""
    column = np.array(["train", "train", "val", "val", "test", "test"], dtype=object)
    split, _ = make_split(PATH, column)
    groups = np.array([0, 1, 2, 3, 4, 2], dtype=np.int32)
    assert shares_training_group(groups, split).tolist() == [False, True]
    assert len(leak_notes(np.array(list("ababab")), groups, split)) == 1


# small classes


def distinct(y) -> np.ndarray:
    return np.arange(len(y), dtype=np.int32)


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10])
def test_a_small_class_limits_the_folds(n_folds):
    y = np.array(["a"] * 20 + ["b"] * 4 + ["c"] * 6)
    notes = small_class_notes(y, distinct(y), n_folds)
    assert len(notes) == (n_folds > 4)
    for note in notes:
        assert all(fact in note for fact in ("4 folds", str(n_folds), "class b has 4"))


def test_images_of_a_group_count_once():
    y = np.array(["a"] * 10 + ["b"] * 10)
    groups = np.concatenate([np.arange(10), 10 + np.arange(10) // 4]).astype(np.int32)
    (note,) = small_class_notes(y, groups)
    assert "3 folds" in note
    assert "class b has 3" in note


def test_classes_with_a_single_image_are_named():
    """They do not limit the folds."""
    y = np.array(["a"] * 8 + ["b"] * 8 + ["x", "y"])
    (note,) = small_class_notes(y, distinct(y))
    assert "x, y" in note
    assert small_class_notes(y[:16], distinct(y[:16])) == []
    y = y[3:]
    limited, single = small_class_notes(y, distinct(y), 8)
    assert "5 folds" in limited
    assert "x, y" in single
    (note,) = small_class_notes(np.array(["a", "b"]), distinct("ab"))
    assert "a, b" in note

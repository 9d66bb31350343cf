"""Division: which rows are chosen on, fitted on and scored, and what the user is told."""

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
LEFT_OUT = "2 images belong to no split and are left out."


def split_of(*names) -> np.ndarray:
    """Two rows of each split, taking turns."""
    return np.array([*names, *names], dtype=object)


def rows_of(split, *names) -> list[int]:
    return [row for row, name in enumerate(split) if name in names]


def described(division: DataSplit) -> tuple:
    parts = (division.search_rows, division.validation_rows, division.fit_rows, division.score_rows)
    return *(part.tolist() for part in parts), division.scored_on


@pytest.mark.parametrize(
    "names",
    [c for k in range(1, 5) for c in itertools.combinations(NAMES, k)],
    ids=lambda names: "+".join(str(name) for name in names),
)
def test_every_combination_of_splits(names):
    """Chosen on train; fitted on train, and on val if test is scored; scored on the last."""
    split = split_of(*names)
    given = [name for name in names if name]
    if given and "train" not in given:
        with pytest.raises(FitError) as caught:
            make_split(PATH, split)
        assert str(caught.value) == (
            f"codes.h5 has images for {', '.join(sorted(given))}, but none for train. Put images "
            "to learn from into data/train/CLASS/."
        )
        return
    division, notes = make_split(PATH, split)
    train = rows_of(split, "train")
    expected_notes = [LEFT_OUT] if None in names and given else []
    if not given:
        every = [0, 1]
        assert described(division) == (every, [], every, every, "folds")
    elif given == ["train"]:
        assert described(division) == (train, [], train, train, "folds")
    elif given == ["train", "val"]:
        assert described(division) == (train, [], train, rows_of(split, "val"), "val")
    else:
        fitted = rows_of(split, "train", "val")
        assert described(division) == (train, [], fitted, rows_of(split, "test"), "test")
        if "val" in given:
            expected_notes.append(
                "Chosen on folds of train, fitted on train and val together; test is scored once."
            )
    assert notes == expected_notes
    # no row that is scored takes part in a choice or a fit, but where folds are scored
    if division.scored_on != "folds":
        used = {*division.search_rows, *division.validation_rows, *division.fit_rows}
        assert used.isdisjoint(division.score_rows.tolist())


@pytest.mark.parametrize("others", [(), (None,)], ids=["all in splits", "some in none"])
def test_a_choice_on_val(others):
    """Its rows are apart from those of train; both are fitted."""
    split = split_of("train", "val", "test", *others)
    division, notes = make_split(PATH, split, select="val")
    assert described(division) == (
        rows_of(split, "train"),
        rows_of(split, "val"),
        rows_of(split, "train", "val"),
        rows_of(split, "test"),
        "test",
    )
    assert notes == [
        *([LEFT_OUT] if others else []),
        "Chosen on val, fitted on train and val together; test is scored once.",
    ]


@pytest.mark.parametrize(
    ("names", "has"),
    [
        (("train", "val"), "train, val"),
        (("train", "test"), "test, train"),
        (("val", "test", None), "test, val"),
        (("train",), "train"),
        ((None,), "no splits"),
    ],
)
def test_a_choice_on_val_needs_all_splits(names, has):
    with pytest.raises(OptionError) as caught:
        make_split(PATH, split_of(*names), select="val")
    assert str(caught.value) == (
        "--select val chooses on val and scores test, so it needs train, val and test. codes.h5 "
        f"has {has}. Leave it out: choices are then made on folds of the training part."
    )


@pytest.mark.parametrize("select", ["test", "train", ""])
def test_a_choice_on_another_split_is_refused(select):
    with pytest.raises(OptionError) as caught:
        make_split(PATH, split_of("train", "val", "test"), select=select)
    assert str(caught.value) == f"Cannot select on '{select}'. Expected --select val."


# leaks


def division_of(fitted, scored, scored_on="val") -> DataSplit:
    fitted, scored = np.array(fitted), np.array(scored)
    return DataSplit(fitted, np.zeros(0, int), fitted, scored, scored_on)


def test_twins_are_scored_rows_with_a_fitted_one():
    """Two that are both scored, or both fitted, are none."""
    groups = np.array([0, 1, 1, 2, 0, 3, 3, 2], dtype=np.int32)
    division = division_of([0, 1, 2, 3], [4, 5, 6, 7])
    assert shares_training_group(groups, division).tolist() == [True, False, False, True]
    assert shares_training_group(groups, division_of([1, 2], [5, 6])).tolist() == [False, False]


def test_leaks_are_counted_in_scored_images():
    y = np.array(["a", "b", "a", "b", "a", "b", "a", "b"])
    groups = np.array([0, 1, 1, 2, 0, 3, 3, 2], dtype=np.int32)
    note = (
        "2 images of {} are a copy, or of the group, of a training image: the score may flatter. "
        "Move them to one side."
    )
    for name in ("val", "test"):
        division = division_of([0, 1, 2, 3], [4, 5, 6, 7], name)
        assert leak_notes(y, groups, division) == [note.format(name)]
    assert leak_notes(y, np.arange(8, dtype=np.int32), division) == []
    assert leak_notes(y, groups, division_of(range(8), range(8), "folds")) == []


def test_val_counts_as_training_where_test_is_scored():
    """A copy of an image of val in test is a leak: the classifier was fitted on it."""
    split = np.array(["train", "train", "val", "val", "test", "test"], dtype=object)
    division, _ = make_split(PATH, split)
    groups = np.array([0, 1, 2, 3, 4, 2], dtype=np.int32)
    assert shares_training_group(groups, division).tolist() == [False, True]
    assert len(leak_notes(np.array(list("ababab")), groups, division)) == 1


def test_classes_that_cannot_be_learned_are_named():
    y = np.array(["a", "b", "z", "c", "a", "c"])
    groups = np.arange(6, dtype=np.int32)
    assert leak_notes(y, groups, division_of([0, 1], [2, 3, 4, 5])) == [
        "No training image of c, z: those images count as wrong predictions."
    ]


# small classes


def distinct(y) -> np.ndarray:
    return np.arange(len(y), dtype=np.int32)


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10])
def test_a_small_class_limits_the_folds(n_folds):
    y = np.array(["a"] * 20 + ["b"] * 4 + ["c"] * 6)
    expected = f"4 folds rather than {n_folds}, since class b has 4 images or groups."
    assert small_class_notes(y, distinct(y), n_folds) == ([expected] if n_folds > 4 else [])


def test_images_of_a_group_count_once():
    y = np.array(["a"] * 10 + ["b"] * 10)
    groups = np.concatenate([np.arange(10), 10 + np.arange(10) // 4]).astype(np.int32)
    assert small_class_notes(y, groups) == [
        "3 folds rather than 5, since class b has 3 images or groups."
    ]


def test_single_images_are_named():
    """They set no limit, and cannot be right."""
    y = np.array(["a"] * 8 + ["b"] * 8 + ["x", "y"])
    assert small_class_notes(y, distinct(y)) == [
        "One image or group only in x, y: it cannot be learned and scored both, and counts as "
        "wrong."
    ]
    assert small_class_notes(y[:16], distinct(y[:16])) == []
    y = y[3:]
    assert small_class_notes(y, distinct(y), 8) == [
        "5 folds rather than 8, since class a has 5 images or groups.",
        "One image or group only in x, y: it cannot be learned and scored both, and counts as "
        "wrong.",
    ]


def test_classes_of_one_image_each_are_told_of():
    (note,) = small_class_notes(np.array(["a", "b"]), distinct("ab"))[-1:]
    assert note.startswith("One image or group only in a, b: ")

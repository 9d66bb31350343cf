"""Folds: group numbers, the number of folds, and that no group is on both sides of one."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.dataset.folds import fold_count, group_numbers, make_folds


def partition(groups) -> set[frozenset[int]]:
    """Return the sets of rows with equal group numbers."""
    return {frozenset(np.flatnonzero(np.equal(groups, each)).tolist()) for each in groups}


def distinct(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32)


# group numbers


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, "", *"abcdef"]), st.sampled_from([None, "", *"abcdef"])),
        min_size=1,
        max_size=15,
    )
)
def test_rows_with_a_common_value_are_one_group(rows):
    """Values link rows directly or through other rows; None and "" link nothing."""
    sets = [{i} for i in range(len(rows))]
    for i, j in itertools.combinations(range(len(rows)), 2):
        if any(a == b and a for a, b in zip(rows[i], rows[j], strict=True)):
            joined = sets[i] | sets[j]
            for k in joined:
                sets[k] = joined
    groups = group_numbers(*zip(*rows, strict=True))
    assert partition(groups) == {frozenset(s) for s in sets}


def test_the_same_text_in_two_columns_links_nothing():
    """A group name that equals a hash is not that hash."""
    assert group_numbers(["x", None], [None, "x"]).tolist() == [0, 1]


def test_pairs_link_rows_and_their_groups():
    """Near-duplicates link two rows, and all rows of their groups."""
    groups = ["g", "g", None, None, "h", None]
    assert partition(group_numbers(groups, pairs=[(2, 3)])) == {
        frozenset(s) for s in ([0, 1], [2, 3], [4], [5])
    }
    assert partition(group_numbers(groups, pairs=iter([(5, 2), (1, 2)]))) == {
        frozenset(s) for s in ([0, 1, 2, 5], [3], [4])
    }
    assert group_numbers([None, None, None], pairs=[(0, 2)]).tolist() == [0, 1, 0]


# number of folds


@pytest.mark.parametrize(
    ("labels", "groups", "count"),
    [
        ("aaaaabbbbb", range(10), 5),  # five of each
        ("a" * 50 + "b" * 50, range(100), 5),  # never more than five
        ("aaabbbbb", range(8), 3),  # as many as the smallest class has
        ("aabbbbb", range(7), 2),
        ("abbbbbccccc", range(11), 5),  # a single image sets no limit
        ("abbbbb", range(6), 0),  # one divisible class is not enough
        ("ab", range(2), 0),
        ("aaaabbbb", [0, 0, 1, 1, 2, 3, 4, 5], 2),  # a has two groups
        ("aaaabbbb", [0, 0, 0, 0, 1, 2, 3, 4], 0),  # a is one group
        ("aaaaaa", range(6), 0),
    ],
)
def test_the_smallest_divisible_class_limits_the_folds(labels, groups, count):
    """There are at most five folds; each class with two groups or more is in all of them."""
    y, groups = np.array(list(labels)), np.array(groups, np.int32)
    assert fold_count(y, groups) == count
    assert len(make_folds(y, groups, 0)) == count


@pytest.mark.parametrize(
    ("n_folds", "labels", "count"),
    [(10, "a" * 50 + "b" * 50, 10), (10, "aaabbbbb", 3), (2, "aaabbbbb", 2), (10, "abbbb", 0)],
)
def test_the_requested_number_is_the_most(n_folds, labels, count):
    """The smallest divisible class may allow fewer folds."""
    y, groups = np.array(list(labels)), distinct(len(labels))
    assert fold_count(y, groups, n_folds) == count
    assert len(make_folds(y, groups, 0, n_folds)) == count


# rows of the folds


@st.composite
def labelled_groups(draw, *, pure: bool = False):
    """Draw labels and groups; pure groups have images of a single class."""
    n = draw(st.integers(2, 40))
    groups = np.array(draw(st.lists(st.integers(0, n), min_size=n, max_size=n)), np.int32)
    n_labels = n + 1 if pure else n
    labels = draw(st.lists(st.sampled_from("abc"), min_size=n_labels, max_size=n_labels))
    y = np.array(labels)
    return (y[groups] if pure else y), groups


@settings(max_examples=80, deadline=None)
@given(rows=labelled_groups(), seed=st.integers(0, 3))
def test_no_group_is_on_both_sides_of_a_fold(rows, seed):
    """Each row is scored once, and every training part has two classes or more."""
    y, groups = rows
    pairs = make_folds(y, groups, seed)
    for train, test in pairs:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(y)))
        assert len(test)
        assert len(set(y[train])) > 1
    if pairs:
        assert sorted(np.concatenate([test for _, test in pairs])) == list(range(len(y)))


@settings(max_examples=80, deadline=None)
@given(rows=labelled_groups(pure=True), seed=st.integers(0, 3))
def test_divisible_classes_are_on_both_sides_of_every_fold(rows, seed):
    """This holds if each group has a single class."""
    y, groups = rows
    divisible = {label for label in set(y) if len(set(groups[y == label])) > 1}
    pairs = make_folds(y, groups, seed)
    assert len(pairs) == fold_count(y, groups)
    for train, test in pairs:
        assert divisible <= set(y[train])
        assert divisible <= set(y[test])


def test_groups_of_several_classes_may_allow_no_folds():
    """There are no folds if a training part would have a single class."""
    y = np.array(["a", "b", "b", "b", "a", "a"])
    groups = np.array([0, 2, 4, 2, 0, 2], np.int32)
    assert fold_count(y, groups) == 2
    assert make_folds(y, groups, 0) == []


@pytest.mark.parametrize("groups", [distinct(30), distinct(30) // 2], ids=["images", "pairs"])
def test_folds_follow_the_seed(groups):
    """Equal seeds give equal folds; another seed gives other folds."""
    y = np.array(["a", "b", "b"] * 10)
    first, again, other = (make_folds(y, groups, seed) for seed in (0, 0, 1))
    for (train, test), (train_again, test_again) in zip(first, again, strict=True):
        assert np.array_equal(train, train_again)
        assert np.array_equal(test, test_again)
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("groups", [distinct(50), distinct(50) // 2], ids=["images", "pairs"])
def test_folds_are_stratified(groups):
    """With 20 and 30 images of two classes, each of five folds has about 4 and 6."""
    y = np.repeat(["a", "b"], [20, 30])
    for _, test in make_folds(y, groups, 0):
        assert abs(np.sum(y[test] == "a") - 4) <= 2
        assert abs(np.sum(y[test] == "b") - 6) <= 2

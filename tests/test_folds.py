"""Folds: what belongs together, how many folds there are, and that nothing straddles them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.dataset.folds import fold_count, group_numbers, make_folds


def partition(groups) -> set[frozenset[int]]:
    """Return the sets of rows that have equal groups."""
    return {frozenset(np.flatnonzero(np.equal(groups, key)).tolist()) for key in groups}


def distinct(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32)


# together


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, "", *"abcdef"]), st.sampled_from([None, "", *"abcdef"])),
        min_size=1,
        max_size=15,
    )
)
def test_rows_that_share_a_value_are_linked_through_others(rows):
    """Groups and bytes link rows, directly or by a chain; None and "" link nothing."""
    sets = [{i} for i in range(len(rows))]
    for i, j in itertools.combinations(range(len(rows)), 2):
        if any(a == b and a for a, b in zip(rows[i], rows[j], strict=True)):
            joined = sets[i] | sets[j]
            for k in joined:
                sets[k] = joined
    groups = group_numbers(*zip(*rows, strict=True))
    assert partition(groups) == {frozenset(s) for s in sets}


def test_the_same_text_in_two_columns_links_nothing():
    """A group that is called like a hash is not that hash."""
    assert group_numbers(["x", None], [None, "x"]).tolist() == [0, 1]


def test_a_chain_links_its_ends():
    """The first shares a group with the second, which shares its bytes with the third."""
    groups = group_numbers(["g", "g", None, None], ["1", "2", "2", "3"])
    assert groups.tolist() == [0, 0, 0, 1]


def test_pairs_link_as_values_do():
    """Near-duplicates come as pairs; they join rows, and what those are joined to."""
    groups = ["g", "g", None, None, "h", None]
    assert partition(group_numbers(groups, pairs=[(2, 3)])) == {
        frozenset(s) for s in ([0, 1], [2, 3], [4], [5])
    }
    assert partition(group_numbers(groups, pairs=iter([(5, 2), (1, 2)]))) == {
        frozenset(s) for s in ([0, 1, 2, 5], [3], [4])
    }
    assert group_numbers([None, None, None], pairs=[(0, 2)]).tolist() == [0, 1, 0]


# how many


@pytest.mark.parametrize(
    ("labels", "groups", "count"),
    [
        ("aaaaabbbbb", range(10), 5),  # five of each
        ("a" * 50 + "b" * 50, range(100), 5),  # never more than five
        ("aaabbbbb", range(8), 3),  # as many as the smallest class has
        ("aabbbbb", range(7), 2),
        ("abbbbbccccc", range(11), 5),  # one alone sets no limit
        ("abbbbb", range(6), 0),  # one divisible class is not enough
        ("ab", range(2), 0),
        ("aaaabbbb", [0, 0, 1, 1, 2, 3, 4, 5], 2),  # a has two groups
        ("aaaabbbb", [0, 0, 0, 0, 1, 2, 3, 4], 0),  # a is one group
        ("aaaaaa", range(6), 0),
    ],
)
def test_fold_count_is_set_by_the_smallest_divisible_class(labels, groups, count):
    """At most five folds, as many as each class that can be divided has images or groups."""
    y, groups = np.array(list(labels)), np.array(groups, np.int32)
    assert fold_count(y, groups) == count
    assert len(make_folds(y, groups, 0)) == count


@pytest.mark.parametrize(
    ("n_folds", "labels", "count"),
    [(10, "a" * 50 + "b" * 50, 10), (10, "aaabbbbb", 3), (2, "aaabbbbb", 2), (10, "abbbb", 0)],
)
def test_folds_are_as_many_as_are_asked_for_and_possible(n_folds, labels, count):
    """n_folds is the most; the smallest class that can be divided may set fewer."""
    y, groups = np.array(list(labels)), distinct(len(labels))
    assert fold_count(y, groups, n_folds) == count
    assert len(make_folds(y, groups, 0, n_folds)) == count


# which


@st.composite
def labelled_keys(draw, *, pure: bool = False):
    """Rows with labels and groups; pure groups have images of one class only."""
    n = draw(st.integers(2, 40))
    groups = np.array(draw(st.lists(st.integers(0, n), min_size=n, max_size=n)), np.int32)
    n_labels = n + 1 if pure else n
    labels = draw(st.lists(st.sampled_from("abc"), min_size=n_labels, max_size=n_labels))
    y = np.array(labels)
    return (y[groups] if pure else y), groups


@settings(max_examples=150, deadline=None)
@given(rows=labelled_keys(), seed=st.integers(0, 3))
def test_nothing_straddles_a_fold(rows, seed):
    """Rows of a key are on one side of each fold, each row is scored once, two classes train."""
    y, groups = rows
    pairs = make_folds(y, groups, seed)
    for train, test in pairs:
        assert not set(groups[train]) & set(groups[test])
        assert sorted([*train, *test]) == list(range(len(y)))
        assert len(test)
        assert len(set(y[train])) > 1
    if pairs:
        assert sorted(np.concatenate([test for _, test in pairs])) == list(range(len(y)))


@settings(max_examples=150, deadline=None)
@given(rows=labelled_keys(pure=True), seed=st.integers(0, 3))
def test_each_class_is_in_each_fold_where_it_can_be(rows, seed):
    """With groups of one class, each class of two or more groups is on both sides of every fold."""
    y, groups = rows
    divisible = {label for label in set(y) if len(set(groups[y == label])) > 1}
    pairs = make_folds(y, groups, seed)
    assert len(pairs) == fold_count(y, groups)
    for train, test in pairs:
        assert divisible <= set(y[train])
        assert divisible <= set(y[test])


def test_groups_of_several_classes_may_allow_no_folds():
    """Where a training part would have one class, there are no folds rather than a crash."""
    y = np.array(["a", "b", "b", "b", "a", "a"])
    groups = np.array([0, 2, 4, 2, 0, 2], np.int32)
    assert fold_count(y, groups) == 2
    assert make_folds(y, groups, 0) == []


@pytest.mark.parametrize("groups", [distinct(30), distinct(30) // 2], ids=["images", "pairs"])
def test_folds_follow_the_seed(groups):
    """The same seed gives the same folds; another one gives others."""
    y = np.array(["a", "b", "b"] * 10)
    first, again, other = (make_folds(y, groups, seed) for seed in (0, 0, 1))
    for (train, test), (train_again, test_again) in zip(first, again, strict=True):
        assert np.array_equal(train, train_again)
        assert np.array_equal(test, test_again)
    assert any(not np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("groups", [distinct(50), distinct(50) // 2], ids=["images", "pairs"])
def test_folds_are_stratified(groups):
    """Each of five folds of 20 + 30 images has about 4 + 6 of them."""
    y = np.repeat(["a", "b"], [20, 30])
    for _, test in make_folds(y, groups, 0):
        assert abs(np.sum(y[test] == "a") - 4) <= 2
        assert abs(np.sum(y[test] == "b") - 6) <= 2

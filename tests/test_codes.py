"""Matrices of codes that are not in memory: what is read, block by block, and how much at once."""

import re
import tracemalloc

import numpy as np
import pytest

from featx.codes.matrix import CodeMatrix, as_code_matrix, signed_root
from featx.errors import OptionError


def make_layers(dtype=np.float32) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Two layers of two stores, the rows wanted of each, and the matrix that they should be."""
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((9, 7)).astype(dtype), rng.standard_normal((12, 11))]
    rows = [np.array([8, 0, 3, 3, 5]), np.array([11, 2, 2, 0, 7])]
    return layers, rows, np.hstack([layers[0][rows[0]], layers[1][rows[1]]])


ORDERS = ["apart", "shuffled", "neighbours"]


class Watched(np.ndarray):
    """An array that writes down the sizes of what is taken out of it."""

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if isinstance(found, Watched) and not isinstance(key, tuple):
            self.taken.append(found.size)
        return found

    def __array_finalize__(self, parent) -> None:
        self.taken = getattr(parent, "taken", None)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of three columns of five rows, or of six rows of five columns."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", 3 * 5 * 8)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)


# what it is


def test_a_matrix_is_its_layers_side_by_side():
    """Shape, widths and bytes are those of the chosen rows; the type holds all numbers."""
    layers, rows, expected = make_layers(np.float16)
    matrix = CodeMatrix(layers, rows)
    assert len(matrix) == 5
    assert matrix.shape == expected.shape == (5, 18)
    assert matrix.widths == (7, 11)
    assert matrix.dtype == np.float64
    assert matrix.nbytes == 5 * 7 * 2 + 5 * 11 * 8
    assert CodeMatrix(layers[:1], rows[0]).dtype == np.float16


def test_one_array_of_rows_is_for_every_layer():
    layers, rows, _ = make_layers()
    found = CodeMatrix(layers, rows[0]).block(np.arange(5))
    assert np.array_equal(found, np.hstack([layer[rows[0]] for layer in layers]))


def test_rows_for_another_number_of_layers_are_refused():
    layers, rows, _ = make_layers()
    with pytest.raises(ValueError, match="zip"):
        CodeMatrix(layers, rows[:1])


def test_negative_rows_count_from_the_end():
    """-1 is the last row of each store, alone and between others."""
    layers, _, _ = make_layers()
    matrix = CodeMatrix(layers, np.array([-1, 0, -2]))
    expected = np.hstack([layers[0][[8, 0, 7]], layers[1][[11, 0, 10]]])
    assert [rows.tolist() for rows in matrix.rows] == [[8, 0, 7], [11, 0, 10]]
    assert np.array_equal(matrix.block(np.arange(3)), expected)
    for layer, part in enumerate(np.split(expected, [7], axis=1)):
        found = [block.copy() for _, block in matrix.column_blocks(layer)]
        assert np.array_equal(np.hstack(found), part)


def test_negative_rows_that_look_like_neighbours():
    """-2, -1, 0 are one apart but lie at both ends of the store."""
    codes = np.arange(8.0).reshape(4, 2)
    ((_, block),) = CodeMatrix([codes], np.array([-2, -1, 0])).column_blocks(0)
    assert np.array_equal(block, codes[[2, 3, 0]])


# what is read


def test_take_chooses_among_the_rows():
    """Positions are among the chosen rows, not of the store; nothing is read."""
    layers, rows, expected = make_layers()
    watched = [layer.view(Watched) for layer in layers]
    for layer in watched:
        layer.taken = []
    matrix = CodeMatrix(watched, rows).take(np.array([4, -4, 1]))
    assert not any(layer.taken for layer in watched)
    assert matrix.shape == (3, 18)
    assert np.array_equal(matrix.block(np.arange(3)), expected[[4, 1, 1]])
    assert np.array_equal(matrix.take(np.array([2])).block(np.array([0])), expected[[1]])


def test_a_block_is_in_the_order_asked_for():
    layers, rows, expected = make_layers()
    found = CodeMatrix(layers, rows).block(np.array([3, 0, 3, -1]))
    assert np.array_equal(found, expected[[3, 0, 3, 4]])
    assert found.dtype == np.float64
    assert CodeMatrix(layers, rows).block(np.array([], int)).shape == (0, 18)


def test_in_memory_is_the_same_matrix():
    layers, rows, expected = make_layers()
    matrix = CodeMatrix(layers, rows).in_memory()
    assert np.array_equal(matrix.block(np.arange(5)), expected)
    assert [layer.dtype for layer in matrix.layers] == [np.float32, np.float64]
    assert not any(np.shares_memory(a, b) for a, b in zip(matrix.layers, layers, strict=True))


@pytest.mark.parametrize("block_bytes", [1, 18 * 8 * 2, 10**6])
def test_blocks_of_rows_are_all_rows_once(block_bytes, monkeypatch):
    """Whatever the size of a block, in order, with the positions that it holds."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", block_bytes)
    layers, rows, expected = make_layers()
    blocks = list(CodeMatrix(layers, rows).row_blocks())
    assert [len(block) for _, block in blocks] == {1: [1] * 5, 288: [2, 2, 1], 10**6: [5]}[
        block_bytes
    ]
    for part, block in blocks:
        assert np.array_equal(block, expected[part])
    assert np.array_equal(np.concatenate([block for _, block in blocks]), expected)


@pytest.mark.parametrize("n_beside", [0, 15])
@pytest.mark.parametrize("rows", [[8, 0, 3, 3, 5], [2, 5, 4, 3, 6], [2, 3, 4, 5, 6]], ids=ORDERS)
@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_columns_are_all_columns_once(rows, n_beside):
    """All rows of a layer, in float64; as many columns as a taller matrix beside it has."""
    layers, _, _ = make_layers(np.float16)
    matrix = CodeMatrix(layers, np.array(rows))
    for layer, codes in enumerate(layers):
        blocks = [
            (part, block.copy()) for part, block in matrix.column_blocks(layer, n_beside=n_beside)
        ]
        step = 1 if n_beside else 3
        assert [part.start for part, _ in blocks] == list(range(0, codes.shape[1], step))
        for part, block in blocks:
            assert block.dtype == np.float64
            assert np.array_equal(block, codes[rows][:, part])
        assert np.array_equal(np.hstack([block for _, block in blocks]), codes[rows])


@pytest.mark.parametrize("rows", [[8, 0, 3, 3, 5], [2, 5, 4, 3, 6], [2, 3, 4, 5, 6]], ids=ORDERS)
@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_roots_leave_the_codes_alone(rows):
    """Roots are taken in the block, not in the store, which is often read-only."""
    codes = np.random.default_rng(0).standard_normal((9, 7))
    codes.flags.writeable = False
    matrix = CodeMatrix([codes], np.array(rows))
    found = np.hstack([block.copy() for _, block in matrix.column_blocks(0, root=True)])
    np.testing.assert_allclose(found, (np.sign(codes) * np.sqrt(np.abs(codes)))[rows], rtol=1e-15)


def test_no_rows_have_no_numbers():
    """A matrix without rows has blocks of columns, as a product of it needs them."""
    matrix = CodeMatrix([np.ones((3, 4))], np.array([], int))
    assert [block.shape for _, block in matrix.column_blocks(0)] == [(0, 4)]
    assert list(matrix.row_blocks()) == []


# how much at once


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("order", ["apart", "neighbours"])
def test_blocks_of_columns_never_need_more_than_a_block(order, dtype, monkeypatch):
    """One buffer serves all blocks; beside it there is at most one block as it is stored."""
    n, d, columns = 400, 2000, 50
    block_bytes = n * columns * 8
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)
    codes = np.ones((n + 1, d), dtype)
    rows = np.arange(n) if order == "neighbours" else np.arange(n)[::-1]
    matrix = CodeMatrix([codes], rows)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        buffers = {(id(block.base), block.base.shape) for _, block in matrix.column_blocks(0)}
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert [shape for _, shape in buffers] == [(n, columns)]
    stored = n * columns * codes.itemsize if order == "apart" else 0
    assert peak < block_bytes + stored + 30_000


def test_blocks_of_columns_read_no_more_than_a_block(monkeypatch):
    """What is copied out of a store that is out of order is a block, never a layer."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", 8 * 30 * 20)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)
    codes = np.ones((50, 205), np.float32).view(Watched)
    codes.taken = []
    rows = np.random.default_rng(0).permutation(50)[:30]
    blocks = [block.shape for _, block in CodeMatrix([codes], rows).column_blocks(0)]
    assert blocks == [(30, 20)] * 10 + [(30, 5)]
    assert codes.taken == [30 * 20] * 10 + [30 * 5]


def test_a_block_has_columns_enough(monkeypatch):
    """For very many rows there are still so many columns that the product pays."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", 800)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 6)
    matrix = CodeMatrix([np.ones((1000, 20))], np.arange(1000))
    assert [block.shape[1] for _, block in matrix.column_blocks(0)] == [6, 6, 6, 2]


# from arrays


def test_an_array_is_a_matrix_of_all_its_rows():
    codes = np.arange(12.0).reshape(3, 4)
    matrix = as_code_matrix(codes)
    assert matrix.widths == (4,)
    assert np.array_equal(matrix.block(np.arange(3)), codes)
    matrix = as_code_matrix(codes.tolist(), (1, 3))
    assert matrix.widths == (1, 3)
    assert np.array_equal(matrix.block(np.arange(3)), codes)
    assert as_code_matrix(matrix) is matrix


def test_an_array_is_not_copied(tmp_path):
    """A memory-mapped one stays where it is, also when it is divided in layers."""
    codes = np.memmap(tmp_path / "codes", np.float32, "w+", shape=(3, 4))
    for layer in as_code_matrix(codes, (1, 3)).layers:
        assert np.shares_memory(layer, codes)


@pytest.mark.parametrize(
    ("shape", "widths", "expected"),
    [
        ((3,), None, "d"),
        ((3, 2, 2), None, "d"),
        ((3, 4), (2, 3), "5"),
        ((3, 6), (2, 3), "5"),
        ((5,), (2, 3), "5"),
    ],
)
def test_arrays_of_another_shape_are_refused(shape, widths, expected):
    """The message has the columns that are expected, where it is known how many."""
    message = (
        f"Expected codes of shape (n, {expected}), layers side by side. Received shape {shape}."
    )
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        as_code_matrix(np.ones(shape), widths)


# roots


def test_signed_roots_are_taken_in_place():
    """Signs are kept, zeros stay zeros, and the array that comes back is the one that went in."""
    codes = np.array([[4.0, -9.0, 0.0], [-0.0, -0.25, 1e-300]])
    found = signed_root(codes)
    assert found is codes
    assert np.array_equal(codes, [[2.0, -3.0, 0.0], [0.0, -0.5, 1e-150]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_signed_roots_are_those_of_numpy(dtype):
    codes = np.random.default_rng(0).standard_normal((30, 20)).astype(dtype)
    expected = np.sign(codes) * np.sqrt(np.abs(codes))
    found = signed_root(codes[:, ::2])  # a view of columns, as in a block
    assert np.array_equal(found, expected[:, ::2])
    assert found.dtype == dtype
    assert np.array_equal(codes[:, ::2], expected[:, ::2])


def test_signed_roots_leave_nan_to_be_found():
    """What is not finite stays so, and is refused later by name of its row."""
    found = signed_root(np.array([np.nan, np.inf, -np.inf]))
    assert np.array_equal(found, [np.nan, np.inf, -np.inf], equal_nan=True)

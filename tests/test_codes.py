"""CodeMatrix: the blocks that it reads, and the memory that they need."""

import re
import tracemalloc

import numpy as np
import pytest

from featx.codes.matrix import CodeMatrix, as_code_matrix, signed_root
from featx.errors import OptionError


def make_layers(dtype=np.float32) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Return layers of two stores, the rows of each, and the expected matrix."""
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((9, 7)).astype(dtype), rng.standard_normal((12, 11))]
    rows = [np.array([8, 0, 3, 3, 5]), np.array([11, 2, 2, 0, 7])]
    return layers, rows, np.hstack([layers[0][rows[0]], layers[1][rows[1]]])


ORDERS = ["any", "shuffled", "consecutive"]


class Watched(np.ndarray):
    """An array that records the sizes of what is read from it."""

    def __getitem__(self, key):
        found = super().__getitem__(key)
        if isinstance(found, Watched) and not isinstance(key, tuple):
            self.taken.append(found.size)
        return found

    def __array_finalize__(self, parent) -> None:
        self.taken = getattr(parent, "taken", None)


@pytest.fixture
def small_blocks(monkeypatch):
    """Set blocks to three columns for five rows."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", 3 * 5 * 8)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)


# properties


def test_a_matrix_is_its_layers_side_by_side():
    """Shape and size are those of the selected rows; the dtype can hold all layers."""
    layers, rows, expected = make_layers(np.float16)
    matrix = CodeMatrix(layers, rows)
    assert len(matrix) == 5
    assert matrix.shape == expected.shape == (5, 18)
    assert matrix.widths == (7, 11)
    assert matrix.dtype == np.float64
    assert matrix.nbytes == 5 * 7 * 2 + 5 * 11 * 8
    assert CodeMatrix(layers[:1], rows[0]).dtype == np.float16


def test_one_array_of_rows_is_used_for_every_layer():
    layers, rows, _ = make_layers()
    found = CodeMatrix(layers, rows[0]).block(np.arange(5))
    assert np.array_equal(found, np.hstack([layer[rows[0]] for layer in layers]))


def test_rows_for_another_number_of_layers_are_refused():
    layers, rows, _ = make_layers()
    with pytest.raises(ValueError, match="zip"):
        CodeMatrix(layers, rows[:1])


def test_negative_rows_count_from_the_end():
    """-1 is the last row of each store."""
    layers, _, _ = make_layers()
    matrix = CodeMatrix(layers, np.array([-1, 0, -2]))
    expected = np.hstack([layers[0][[8, 0, 7]], layers[1][[11, 0, 10]]])
    assert [rows.tolist() for rows in matrix.rows] == [[8, 0, 7], [11, 0, 10]]
    assert np.array_equal(matrix.block(np.arange(3)), expected)
    for layer, part in enumerate(np.split(expected, [7], axis=1)):
        found = [block.copy() for _, block in matrix.column_blocks(layer)]
        assert np.array_equal(np.hstack(found), part)


def test_negative_rows_are_not_taken_for_consecutive_ones():
    """-2, -1 and 0 increase by 1, but are at both ends of the store."""
    codes = np.arange(8.0).reshape(4, 2)
    ((_, block),) = CodeMatrix([codes], np.array([-2, -1, 0])).column_blocks(0)
    assert np.array_equal(block, codes[[2, 3, 0]])


# reading


def test_take_selects_among_the_rows():
    """Positions refer to the selected rows, and nothing is read."""
    layers, rows, expected = make_layers()
    watched = [layer.view(Watched) for layer in layers]
    for layer in watched:
        layer.taken = []
    matrix = CodeMatrix(watched, rows).take(np.array([4, -4, 1]))
    assert not any(layer.taken for layer in watched)
    assert matrix.shape == (3, 18)
    assert np.array_equal(matrix.block(np.arange(3)), expected[[4, 1, 1]])
    assert np.array_equal(matrix.take(np.array([2])).block(np.array([0])), expected[[1]])


def test_a_block_has_the_requested_order():
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
    """Blocks of any size are in order and have the right positions."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", block_bytes)
    layers, rows, expected = make_layers()
    blocks = list(CodeMatrix(layers, rows).row_blocks())
    assert [len(block) for _, block in blocks] == {1: [1] * 5, 288: [2, 2, 1], 10**6: [5]}[
        block_bytes
    ]
    for part, block in blocks:
        assert np.array_equal(block, expected[part])
    assert np.array_equal(np.concatenate([block for _, block in blocks]), expected)


@pytest.mark.parametrize("n_other", [0, 15])
@pytest.mark.parametrize("rows", [[8, 0, 3, 3, 5], [2, 5, 4, 3, 6], [2, 3, 4, 5, 6]], ids=ORDERS)
@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_columns_are_all_columns_once(rows, n_other):
    """Blocks have all rows in float64, and fewer columns if the other matrix is taller."""
    layers, _, _ = make_layers(np.float16)
    matrix = CodeMatrix(layers, np.array(rows))
    for layer, codes in enumerate(layers):
        blocks = [
            (part, block.copy()) for part, block in matrix.column_blocks(layer, n_other=n_other)
        ]
        step = 1 if n_other else 3
        assert [part.start for part, _ in blocks] == list(range(0, codes.shape[1], step))
        for part, block in blocks:
            assert block.dtype == np.float64
            assert np.array_equal(block, codes[rows][:, part])
        assert np.array_equal(np.hstack([block for _, block in blocks]), codes[rows])


@pytest.mark.parametrize("rows", [[8, 0, 3, 3, 5], [2, 5, 4, 3, 6], [2, 3, 4, 5, 6]], ids=ORDERS)
@pytest.mark.usefixtures("small_blocks")
def test_blocks_of_roots_do_not_modify_the_codes(rows):
    """Roots are taken in the block, since the store is often read-only."""
    codes = np.random.default_rng(0).standard_normal((9, 7))
    codes.flags.writeable = False
    matrix = CodeMatrix([codes], np.array(rows))
    found = np.hstack([block.copy() for _, block in matrix.column_blocks(0, root=True)])
    np.testing.assert_allclose(found, (np.sign(codes) * np.sqrt(np.abs(codes)))[rows], rtol=1e-15)


def test_a_matrix_without_rows():
    """It has blocks of columns, which products require."""
    matrix = CodeMatrix([np.ones((3, 4))], np.array([], int))
    assert [block.shape for _, block in matrix.column_blocks(0)] == [(0, 4)]
    assert list(matrix.row_blocks()) == []


# memory


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("order", ["any", "consecutive"])
def test_blocks_of_columns_share_one_buffer(order, dtype, monkeypatch):
    """Apart from the buffer, at most one block in the dtype of the store is in memory."""
    n, d, columns = 400, 2000, 50
    block_bytes = n * columns * 8
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)
    codes = np.ones((n + 1, d), dtype)
    rows = np.arange(n) if order == "consecutive" else np.arange(n)[::-1]
    matrix = CodeMatrix([codes], rows)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        buffers = {(id(block.base), block.base.shape) for _, block in matrix.column_blocks(0)}
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert [shape for _, shape in buffers] == [(n, columns)]
    stored = n * columns * codes.itemsize if order == "any" else 0
    assert peak < block_bytes + stored + 30_000


def test_blocks_of_columns_read_no_more_than_a_block(monkeypatch):
    """For rows in another order, one block is copied at a time, never a layer."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", 8 * 30 * 20)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 1)
    codes = np.ones((50, 205), np.float32).view(Watched)
    codes.taken = []
    rows = np.random.default_rng(0).permutation(50)[:30]
    blocks = [block.shape for _, block in CodeMatrix([codes], rows).column_blocks(0)]
    assert blocks == [(30, 20)] * 10 + [(30, 5)]
    assert codes.taken == [30 * 20] * 10 + [30 * 5]


def test_a_block_has_a_minimum_of_columns(monkeypatch):
    """This holds even for very many rows."""
    monkeypatch.setattr("featx.codes.matrix._BLOCK_BYTES", 800)
    monkeypatch.setattr("featx.codes.matrix._FEWEST_COLUMNS", 6)
    matrix = CodeMatrix([np.ones((1000, 20))], np.arange(1000))
    assert [block.shape[1] for _, block in matrix.column_blocks(0)] == [6, 6, 6, 2]


# arrays


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
    """A memory-mapped array is not copied when it is divided into layers."""
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
    """The message contains the expected number of columns, if it is known."""
    with pytest.raises(OptionError, match=rf"\(n, {expected}\).* {re.escape(str(shape))}"):
        as_code_matrix(np.ones(shape), widths)


# roots


def test_signed_roots_are_taken_in_place():
    """Signs are kept, zeros stay zeros, and the same array is returned."""
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


def test_signed_roots_keep_values_that_are_not_finite():
    """They are refused later, with the number of their row."""
    found = signed_root(np.array([np.nan, np.inf, -np.inf]))
    assert np.array_equal(found, [np.nan, np.inf, -np.inf], equal_nan=True)

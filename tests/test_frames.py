"""A store as a DataFrame and as X and y: rows, columns and their names."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featx.errors import OptionError, StoreError
from featx.store import read_arrays, read_frame

LAYERS = ("block1_conv1", "block2_conv1")
PATHS = ["a.png", "é.png", "\udcff.png", "d.png", "e.png", "f.png", "g.png", "h.png"]
LABELS = ["cat", "dog", "cat", None, "dog", "cat", "dog", "cat"]
SPLITS = ["train", "train", "val", "val", "val", None, "train", "train"]
GROUPS = ["g", None, "g", "h", None, None, None, None]
FAILED, PENDING = 5, 6
DONE = [0, 1, 2, 3, 4, 7]
LABELLED = [0, 1, 2, 4, 7]


def make_codes() -> dict[str, np.ndarray]:
    """Make codes of each layer; feature k of row i is i + k/1000, negative in the second layer."""
    rows = np.arange(8)[:, None]
    return {
        layer: (sign * (rows + np.arange(width) / 1000)).astype(np.float32)
        for layer, width, sign in (("block1_conv1", 64, 1), ("block2_conv1", 128, -1))
    }


FULL = np.hstack(list(make_codes().values()))


@pytest.fixture(scope="module")
def path(tmp_path_factory, make_store):
    """Return a store of eight images: one failed, one pending, one without a label."""
    return make_store(
        tmp_path_factory.mktemp("frames") / "codes.h5",
        make_codes(),
        LABELS,
        SPLITS,
        GROUPS,
        paths=PATHS,
        failed={FAILED: "no pixels"},
        pending=[PENDING],
    )


def assert_refused(action, *facts: object, error=OptionError) -> None:
    """Check that an action raises an error whose message holds some facts."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    assert [fact for fact in map(str, facts) if fact not in message] == [], message


def level(frame, name) -> list:
    """Return the values of an index level, with None for missing values."""
    return [v if isinstance(v, str) else None for v in frame.index.get_level_values(name)]


# frames


def test_a_frame_has_the_done_images_and_their_metadata(path):
    """Rows are the images that are done, and the index holds their metadata."""
    frame = read_frame(path)
    assert frame.index.names == ["path", "label", "split", "group", "status"]
    assert level(frame, "path") == [PATHS[i] for i in DONE]
    assert level(frame, "label") == [LABELS[i] for i in DONE]
    assert level(frame, "split") == [SPLITS[i] for i in DONE]
    assert level(frame, "group") == [GROUPS[i] for i in DONE]
    assert level(frame, "status") == ["done"] * 6
    assert np.array_equal(frame.to_numpy(), FULL[DONE])


def test_a_frame_is_one_block_of_the_stores_dtype(path):
    """Several layers are one array, without a copy for each column."""
    frame = read_frame(path)
    assert frame._mgr.nblocks == 1
    assert set(frame.dtypes) == {np.dtype("float32")}


def test_columns_are_named_by_layer_and_number(path):
    """Columns are numbered from 0 in each layer, with layers in the order of the network."""
    names = [f"block1_conv1_{k}" for k in range(64)] + [f"block2_conv1_{k}" for k in range(128)]
    assert list(read_frame(path).columns) == names
    assert list(read_frame(path, ["block2_conv1", "block1_conv1"]).columns) == names
    assert list(read_frame(path, "block2_conv1").columns) == names[64:]


def test_a_column_of_a_map_is_found_by_unravel_index(tmp_path, make_store):
    """Feature k of a map is at numpy.unravel_index(k, shape), as documented."""
    maps = np.random.default_rng(0).random((2, 8, 8, 128), np.float32)
    path = make_store(tmp_path / "codes.h5", {"block2_pool": maps}, ["a", "b"])
    frame = read_frame(path)
    for k in (0, 129, 5000, 8191):
        assert frame[f"block2_pool_{k}"].iloc[1] == maps[1][np.unravel_index(k, (8, 8, 128))]


def test_rows_without_codes_are_nan(path):
    """With status="all" the rows of failed and pending images are NaN."""
    frame = read_frame(path, status="all")
    assert level(frame, "path") == PATHS
    expected = ["done"] * 8
    expected[FAILED], expected[PENDING] = "failed", "pending"
    assert level(frame, "status") == expected
    assert frame.iloc[[FAILED, PENDING]].isna().all(axis=None)
    assert np.array_equal(frame.iloc[DONE].to_numpy(), FULL[DONE])
    assert frame._mgr.nblocks == 1


def test_a_float16_store_gives_a_float16_frame(tmp_path, make_store):
    """The DataFrame has the dtype of the store."""
    codes = make_codes()["block1_conv1"].astype(np.float16)
    frame = read_frame(make_store(tmp_path / "c.h5", {"block1_conv1": codes}, ["a"] * 8))
    assert set(frame.dtypes) == {np.dtype("float16")}
    assert np.array_equal(frame.to_numpy(), codes)


def test_a_frame_of_a_split(path):
    """The DataFrame holds the images of the split that are done, or all of them."""
    assert level(read_frame(path, split="train"), "path") == ["a.png", "é.png", "h.png"]
    everything = read_frame(path, split="train", status="all")
    assert level(everything, "status") == ["done", "done", "pending", "done"]
    assert np.array_equal(read_frame(path, "block1_conv1", "val"), FULL[[2, 3, 4], :64])


def test_a_frame_may_be_changed(path):
    """Changing a DataFrame does not change the store."""
    frame = read_frame(path, "block1_conv1")
    frame.iloc[0, 0] = 99
    assert read_frame(path, "block1_conv1").iloc[0, 0] == 0


def test_an_unknown_status_is_refused(path):
    """A misspelt status is an error."""
    assert_refused(lambda: read_frame(path, status="failed"), "'failed'", "done, all")


@pytest.mark.parametrize("read", [read_frame, read_arrays])
def test_a_missing_split_is_refused(path, tmp_path, make_store, read):
    """The error lists the splits of the store."""
    assert_refused(lambda: read(path, split="test"), path, "'test'", "train, val")
    plain = make_store(tmp_path / "plain.h5", make_codes(), LABELS)
    assert_refused(lambda: read(plain, split="val"), plain, "'val'")


@pytest.mark.parametrize("read", [read_frame, read_arrays])
def test_a_missing_layer_is_refused(path, read):
    """The error lists the layers of the store."""
    assert_refused(lambda: read(path, "fc1"), path, "block1_conv1, block2_conv1", "'fc1'")


# arrays


def test_arrays_have_the_labelled_done_images(path):
    """X and y leave out images that failed, are pending or have no label."""
    X, y = read_arrays(path)
    assert np.array_equal(X, FULL[LABELLED])
    assert y.tolist() == ["cat", "dog", "cat", "dog", "cat"]
    assert y.dtype.kind == "U"


def test_adjacent_rows_of_one_layer_are_memory_mapped(path):
    """X is read-only and memory-mapped if nothing needs to be copied."""
    X, _ = read_arrays(path, "block1_conv1", rows=slice(3))
    assert isinstance(X, np.memmap)
    assert not X.flags.writeable
    assert np.array_equal(X, FULL[:3, :64])


@pytest.mark.parametrize(
    "keywords",
    [{}, {"layer": LAYERS, "rows": slice(3)}, {"layer": "block1_conv1", "rows": [0, 2]}],
    ids=str,
)
def test_other_selections_are_copied(path, keywords):
    """Scattered rows, or several layers, are read into memory."""
    X, _ = read_arrays(path, **keywords)
    assert not isinstance(X, np.memmap)
    assert X.flags.writeable


def selections(n: int):
    """Draw any index of NumPy for an axis of length n, or None."""
    integers = st.lists(st.integers(-n, n - 1), max_size=8)
    booleans = st.lists(st.booleans(), min_size=n, max_size=n)
    return st.one_of(st.none(), st.slices(n), integers, integers.map(np.array), booleans)


def as_index(selection):
    """Return a selection as an index for NumPy; an empty list has no integer type."""
    if isinstance(selection, slice) or len(selection):
        return selection
    return np.array([], int)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), split=st.sampled_from([None, "train", "val"]))
def test_rows_and_columns_are_those_of_numpy(path, data, split):
    """Any selection equals indexing of the full matrix, for one layer and for several."""
    layer, start, stop = data.draw(
        st.sampled_from([("block1_conv1", 0, 64), ("block2_conv1", 64, 192), (None, 0, 192)])
    )
    kept = [i for i in LABELLED if split in {None, SPLITS[i]}]
    rows = data.draw(selections(len(kept)), label="rows")
    columns = data.draw(selections(stop - start), label="columns")
    expected, labels = FULL[kept, start:stop], np.array([LABELS[i] for i in kept])
    if rows is not None:
        expected, labels = expected[as_index(rows)], labels[as_index(rows)]
    if columns is not None:
        expected = expected[:, as_index(columns)]
    X, y = read_arrays(path, layer, split, rows=rows, columns=columns)
    assert X.dtype == np.float32
    assert np.array_equal(X, expected)
    assert X.shape == expected.shape
    assert y.tolist() == labels.tolist()


@pytest.mark.parametrize("layer", ["block1_conv1", None])
@pytest.mark.parametrize("name", ["rows", "columns"])
@pytest.mark.parametrize(
    "wrong", [[500], [-500], [True, False], 0.5, ["a"], [[0]], "a", slice("a")]
)
def test_a_selection_of_what_is_not_there_is_refused(path, layer, name, wrong):
    """Rows and columns that do not exist get featx's error, which names the argument."""
    with pytest.raises(OptionError, match=f"^{name} "):
        read_arrays(path, layer, **{name: wrong})


@pytest.mark.parametrize("failed", [{}, {0: "x", 1: "x"}])
def test_no_label_is_refused(tmp_path, make_store, failed):
    """If no image is done and labelled, the error explains where labels come from."""
    labels = [None] * 3 if not failed else ["a", "b", None]
    codes = {"block1_conv1": make_codes()["block1_conv1"][:3]}
    path = make_store(tmp_path / "codes.h5", codes, labels, failed=failed)
    assert_refused(lambda: read_arrays(path), path, "--manifest", error=StoreError)


def test_labels_that_look_like_numbers_stay_text(tmp_path, make_store):
    """The name of a class may be a number."""
    codes = {"block1_conv1": make_codes()["block1_conv1"][:3]}
    _, y = read_arrays(make_store(tmp_path / "codes.h5", codes, ["1", "10", "2"]))
    assert y.tolist() == ["1", "10", "2"]

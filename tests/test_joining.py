"""Joining stores: images are matched by path and content, and recipes are compared."""

import dataclasses

import numpy as np
import pytest

from featx.codes.joining import join_stores
from featx.errors import OptionError, RecipeMismatchError, StoreError
from featx.recipe import Recipe

ONE, TWO, THREE = "block1_conv1", "block2_conv1", "block1_conv2"
WIDTHS = {ONE: 64, TWO: 128, THREE: 64, "block3_conv1": 256}
PATHS = [f"images/{i:03d}.png" for i in range(8)]
LABELS = [f"class {i % 2}" for i in range(8)]
RECIPE = Recipe(weights="random:0", layers=(ONE,), pool="avg", size=(32, 32))


def code_of(path: str, layer: str) -> np.ndarray:
    """Return a code that depends on the image and the layer."""
    rng = np.random.default_rng([int(path[-7:-4]), sorted(WIDTHS).index(layer)])
    return rng.standard_normal(WIDTHS[layer]).astype(np.float32)


def sha_of(path: str) -> str:
    return f"{int(path[-7:-4]):064x}"


@pytest.fixture
def store(tmp_path, make_store):
    """Return a function that writes NAME.h5 with codes of some layers and images."""

    def write(name, layers, paths=tuple(PATHS), labels=None, sha256=None, **keywords):
        codes = {each: np.array([code_of(path, each) for path in paths]) for each in layers}
        return make_store(
            tmp_path / f"{name}.h5",
            codes,
            labels or [LABELS[int(path[-7:-4])] for path in paths],
            paths=list(paths),
            sha256=sha256 or [sha_of(path) for path in paths],
            **keywords,
        )

    return write


def check_refused(error, codes, layer=None, *, facts) -> None:
    """Check the type of an error, and that its message contains some facts."""
    with pytest.raises(error) as caught:
        join_stores(codes, layer)
    assert [fact for fact in facts if str(fact) not in str(caught.value)] == []


def expected_codes(paths, layers) -> np.ndarray:
    """Return the codes of some paths, layers side by side in the order of the network."""
    return np.hstack([np.array([code_of(path, each) for path in paths]) for each in layers])


def test_a_single_store(store):
    a = store("a", [ONE, TWO])
    for codes in (a, str(a), [a]):
        joined = join_stores(codes)
        assert (joined.path, joined.paths, joined.recipe.layers) == (a, (a,), (ONE, TWO))
        assert joined.images.path.tolist() == PATHS
        (note,) = joined.notes
        assert "block1_conv1+block2_conv1" in note
    narrow = join_stores(a, TWO)
    assert (narrow.recipe.layers, narrow.notes) == ((TWO,), ())
    rows = np.array([5, 0])
    found = narrow.matrix(rows).block(np.arange(2))
    assert np.array_equal(found, expected_codes([PATHS[5], PATHS[0]], [TWO]))


def test_images_are_matched_by_path_and_content(store):
    """The order of the rows may differ between stores."""
    order = np.random.default_rng(1).permutation(8)
    a, b = store("a", [TWO]), store("b", [ONE, "block3_conv1"], [PATHS[i] for i in order])
    joined = join_stores([a, b])
    layers = (ONE, TWO, "block3_conv1")
    assert joined.recipe.layers == layers
    assert joined.images.path.tolist() == PATHS
    assert joined.images.label.tolist() == LABELS
    (note,) = joined.notes
    assert "block1_conv1+block2_conv1+block3_conv1" in note
    rows = np.array([6, 0, 3])
    matrix = joined.matrix(rows)
    assert (matrix.shape, matrix.widths) == ((3, 448), (64, 128, 256))
    expected = expected_codes([PATHS[i] for i in rows], layers)
    assert np.array_equal(matrix.block(np.arange(3)), expected)
    turned = join_stores([b, a])
    assert turned.images.path.tolist() == [PATHS[i] for i in order]
    assert np.array_equal(
        turned.matrix(np.arange(8)).block(np.arange(8)),
        expected_codes([PATHS[i] for i in order], layers),
    )


def test_only_images_in_all_stores_are_joined(store):
    """A file that changed is another image."""
    other = [sha_of(path) for path in PATHS[1:]]
    other[6] = "f" * 64  # images/007.png
    a, b = store("a", [ONE], PATHS[:8]), store("b", [TWO], PATHS[1:][::-1], sha256=other[::-1])
    c = store("c", [THREE], PATHS[:6])
    joined = join_stores([a, b, c])
    kept = PATHS[1:6]
    assert joined.images.path.tolist() == kept
    assert len(joined.images) == 5
    assert f"3 of {a}, 2 of {b}, 1 of {c}" in joined.notes[-1]
    found = joined.matrix(np.arange(5)).block(np.arange(5))
    assert np.array_equal(found, expected_codes(kept, (ONE, THREE, TWO)))


def test_only_stores_with_other_images_are_named(store):
    a, b = store("a", [ONE], PATHS), store("b", [TWO], PATHS[:5])
    note = join_stores([a, b]).notes[-1]
    assert f"3 of {a}" in note
    assert str(b) not in note


@pytest.mark.parametrize(
    ("field", "value", "text", "expected"),
    [
        ("weights", "random:1", "random:1", "random:0"),
        ("pool", "max", "max", "avg"),
        ("size", (48, 32), "48x32", "32x32"),
        ("resize", "pad", "pad", "squash"),
        ("jpeg", "full", "full", "reduced"),
        ("grey", "pillow", "pillow", "tags"),
        ("preprocess", "unit", "unit", "caffe"),
        ("precision", "tf32", "tf32", "float32"),
        ("dtype", "float16", "float16", "float32"),
        ("crops", 5, "5", "1"),
    ],
)
def test_other_recipes_are_refused(store, field, value, text, expected):
    """Only the layers may differ."""
    a = store("a", [ONE], recipe=RECIPE)
    b = store("b", [TWO], recipe=dataclasses.replace(RECIPE, layers=(TWO,), **{field: value}))
    facts = (a, b, f"{field} is {text}", f"--{field} {expected}")
    check_refused(RecipeMismatchError, [a, b], facts=facts)


@pytest.mark.parametrize(
    ("changes", "differences", "flags"),
    [
        ({"flip": True}, ["flip is True"], "no --flip"),
        ({"white": 4095}, ["white is 4095"], "no --white"),
        (
            {"size": (64, 64), "scales": (32, 64), "scales_join": "stack"},
            ["size is 64x64", "scales is 32+64", "scales_join is stack"],
            "--size 32x32 no --scale --scales-join mean",
        ),
    ],
)
def test_other_views_are_refused(store, changes, differences, flags):
    """The message contains the flags to use, and those to leave out."""
    a = store("a", [ONE], recipe=RECIPE)
    b = store("b", [TWO], recipe=dataclasses.replace(RECIPE, layers=(TWO,), **changes))
    check_refused(RecipeMismatchError, [a, b], facts=(*differences, flags))


def test_every_field_of_the_recipe_is_compared(store):
    """Each field has a case above; two differences are both named."""
    cases = test_other_recipes_are_refused.pytestmark[0].args[1]
    views = test_other_views_are_refused.pytestmark[0].args[1]
    compared = {case[0] for case in cases} | {name for case in views for name in case[0]}
    assert compared == {f.name for f in dataclasses.fields(Recipe)} - {"layers"}
    a = store("a", [ONE], recipe=RECIPE)
    other = dataclasses.replace(RECIPE, layers=(TWO,), resize="pad", jpeg="full")
    b = store("b", [TWO], recipe=other)
    facts = ("resize is pad", "jpeg is full", "--resize squash --jpeg reduced")
    check_refused(RecipeMismatchError, [a, b], facts=facts)


def test_another_size_of_a_dense_layer_is_refused(tmp_path, make_store):
    paths = []
    for name, layer, size in (("a", "fc1", 224), ("b", "block1_conv1", 192)):
        recipe = Recipe(weights="random:0", layers=(layer,), pool="avg", size=(size, size))
        codes = {layer: np.ones((2, recipe.code_size(layer)), np.float32)}
        paths.append(make_store(tmp_path / f"{name}.h5", codes, ["x", "y"], recipe=recipe))
    check_refused(RecipeMismatchError, paths, facts=("192x192", "224x224"))


def test_a_layer_in_two_stores_is_refused(store):
    """It is accepted if this layer is not requested."""
    a, b = store("a", [ONE, TWO]), store("b", [TWO, THREE])
    check_refused(OptionError, [a, b], facts=(TWO,))
    check_refused(OptionError, [a, b], [ONE, TWO], facts=(TWO,))
    check_refused(OptionError, [a, a], TWO, facts=(TWO,))
    joined = join_stores([a, b], [THREE, ONE])
    assert joined.recipe.layers == (ONE, THREE)
    found = joined.matrix(np.arange(8)).block(np.arange(8))
    assert np.array_equal(found, expected_codes(PATHS, (ONE, THREE)))


def test_stores_without_a_requested_layer_are_ignored(store):
    a, b = store("a", [ONE]), store("b", [TWO, THREE], PATHS[:5])
    joined = join_stores([a, b], ONE)
    assert (joined.paths, joined.recipe.layers, joined.notes) == ((a,), (ONE,), ())
    assert len(joined.images) == 8
    joined = join_stores([a, b], THREE)
    assert (joined.paths, joined.recipe.layers, len(joined.images)) == ((b,), (THREE,), 5)
    joined = join_stores([a, b], (THREE, ONE))
    assert (joined.recipe.layers, joined.matrix(np.arange(5)).widths) == ((ONE, THREE), (64, 64))
    facts = ("'fc1'", "--layer", "block1_conv1, block1_conv2, block2_conv1")
    check_refused(OptionError, [a, b], [ONE, "fc1"], facts=facts)


def test_an_empty_list_of_layers_means_all(store):
    a, b = store("a", [ONE]), store("b", [TWO])
    assert join_stores(a, []).recipe.layers == (ONE,)
    assert join_stores([a, b], []).recipe.layers == (ONE, TWO)


def test_no_store_is_refused():
    check_refused(OptionError, [], facts=("featx extract",))


@pytest.mark.parametrize("by", ["path", "content"])
def test_stores_without_a_common_image_are_refused(store, by):
    a = store("a", [ONE], PATHS[:4])
    if by == "path":
        b = store("b", [TWO], PATHS[4:], sha256=[sha_of(path) for path in PATHS[:4]])
    else:
        b = store("b", [TWO], PATHS[:4], sha256=[sha_of(path) for path in PATHS[4:]])
    check_refused(StoreError, [a, b], facts=(a, b))


def test_labels_of_the_first_store_are_used(store):
    """Differences are counted; a missing label is a difference."""
    labels = list(LABELS)
    labels[2], labels[5] = "odd", None
    a, b = store("a", [ONE]), store("b", [TWO], PATHS[::-1], labels=labels[::-1])
    joined = join_stores([a, b])
    assert joined.images.label.tolist() == LABELS
    (note,) = joined.notes[1:]
    assert "2 labels" in note
    assert str(a) in note
    assert join_stores([b, a]).images.label.tolist() == labels[::-1]


def test_an_image_that_failed_in_one_store_is_failed(store):
    """The reason is that of the first store in which it failed."""
    a = store("a", [ONE], failed={1: "not an image", 4: "cut off"})
    b = store("b", [TWO], PATHS[::-1], failed={0: "too large", 3: "other"})  # images 7 and 4
    joined = join_stores([a, b])
    status = [1, 2, 1, 1, 2, 1, 1, 2]
    assert joined.images.status.tolist() == status
    assert joined.images.done.tolist() == [value == 1 for value in status]
    reasons = {1: "not an image", 4: "cut off", 7: "too large"}
    assert dict(enumerate(joined.images.reason)) == {i: reasons.get(i, "") for i in range(8)}
    assert len(joined.notes) == 1


def test_thumbnails_and_provenance_are_of_the_first_store(store):
    a = store("a", [ONE], PATHS[2:], provenance={"device": "cpu"})
    b = store("b", [TWO], PATHS[::-1], provenance={"device": "gpu"})
    joined = join_stores([a, b])
    assert joined.provenance["device"] == "cpu"
    # The fixture's thumbnails contain the number of their row.
    assert joined.thumbnails(np.array([3, 0]))[:, 0, 0, 0].tolist() == [3, 0]
    turned = join_stores([b, a])  # images 7 and 6 are the first of b
    assert turned.thumbnails(np.array([1]))[0, 0, 0, 0] == 1
    c = store("c", [THREE], PATHS[3:])
    joined = join_stores([store("d", [ONE]), c])  # its first image is row 3 of d
    assert joined.thumbnails(np.array([0, 2]))[:, 0, 0, 0].tolist() == [3, 5]

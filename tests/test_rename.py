"""Weights files whose layers have other names: --rename checks, errors and results."""

import hashlib
import re
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

import featx
from featx.cli.parsing import read_renames
from featx.errors import OptionError, UnknownLayerError, WeightsError
from featx.network import find_weights, read_weights
from featx.network.weights.matching import inspect_weights

# Keras 3.15 hands NumPy 2.4 arrays in a way that NumPy is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CHANNELS = [(3, 64), (64, 64), (64, 128), (128, 128)]
NAMES = ["block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2"]
# VGG19 written by hand, so that the tests do not depend on the table that they test.
WIDTHS = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
ALL_NAMES = [
    f"block{block}_conv{conv}"
    for block, n in enumerate((2, 2, 4, 4, 4), 1)
    for conv in range(1, n + 1)
]
SHAPES = {
    name: ((3, 3, before, width), (width,))
    for name, before, width in zip(ALL_NAMES, [3, *WIDTHS], WIDTHS, strict=False)
}
PREFIXED = {f"myvgg_{name}": name for name in NAMES}
TINY = {"layer": "block2_pool", "pool": "avg", "size": 32}


@pytest.fixture(scope="module")
def keras():
    """Return Keras with the backend of the environment."""
    return pytest.importorskip("keras")


def network(keras, names, seed=0):
    """Build blocks 1 and 2 of VGG19 with other names, and a head."""
    images = x = keras.Input((32, 32, 3))
    for number, (name, (_, width)) in enumerate(zip(names, CHANNELS, strict=True)):
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=name)(x)
        if number % 2:
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dense(3, name="answer")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, x)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.05, w.shape).astype("f4") for w in model.get_weights()])
    return model


def save(model, path):
    """Save a model in the format of the file's extension."""
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def write_filled(path, layers):
    """Write a file of a few kB in which every weight of layer i is the number i."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for number, (name, shapes) in enumerate(layers.items()):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"][: len(shapes)]
            for weight, shape in zip(("kernel:0", "bias:0"), shapes, strict=False):
                group.create_dataset(weight, shape, "f2", fillvalue=number)
    return path


def numbered(shapes):
    """Give shapes the names that Keras gives to convolutions."""
    return {f"conv2d_{number}": shape for number, shape in enumerate(shapes)}


def refusal(path, *layers, rename=None, error=WeightsError):
    """Return the error message for weights."""
    with pytest.raises(error) as caught:
        find_weights(str(path), layers, rename=rename)
    return str(caught.value)


def whose(path, layers, rename):
    """Return the number that fills the kernel of each layer."""
    weights = read_weights(find_weights(str(path), layers, rename=rename), layers)
    assert all(len(np.unique(kernel)) == 1 for kernel, _ in weights.values())
    return {name: int(kernel.flat[0]) for name, (kernel, _) in weights.items()}


# Checks and errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "names"),
    [
        (".h5", list(PREFIXED)),
        (".weights.h5", list(PREFIXED)),
        (".keras", ["conv2d_7", "conv2d_9", "a=b", "the last"]),
    ],
)
def test_keras_files_read_back_exactly(keras, tmp_path, ending, names):
    """Renamed layers have exactly the weights in Keras, in every format of Keras."""
    model = network(keras, names)
    path = save(model, tmp_path / f"own{ending}")
    source = find_weights(str(path), ["block2_pool"], rename=dict(zip(names, NAMES, strict=True)))
    assert source.rename == tuple(sorted(zip(names, NAMES, strict=True)))
    weights = read_weights(source, ["block2_pool"])
    assert list(weights) == NAMES
    for old, new in zip(names, NAMES, strict=True):
        for ours, theirs in zip(weights[new], model.get_layer(old).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_names_can_be_exchanged(tmp_path):
    """A renamed layer loses its own name, so two layers can exchange names."""
    shapes = SHAPES["block3_conv2"]
    path = write_filled(
        tmp_path / "own.h5", {**SHAPES, "block3_conv2": shapes, "block3_conv3": shapes}
    )
    plain = whose(path, ["block3_pool"], None)
    swap = {"block3_conv2": "block3_conv3", "block3_conv3": "block3_conv2"}
    swapped = whose(path, ["block3_pool"], swap)
    assert (plain["block3_conv2"], plain["block3_conv3"]) == (5, 6)
    assert swapped == {**plain, "block3_conv2": 6, "block3_conv3": 5}
    del swap["block3_conv3"]
    assert "7 of 8 layers" in refusal(path, "block3_pool", rename=swap)


def test_a_rename_wins_over_the_files_own_name(tmp_path):
    """A renamed layer is used even if other layers have its new name, numbered or not."""
    layers = {**SHAPES, "mine": SHAPES["block1_conv2"], "block1_conv2_1": SHAPES["block1_conv2"]}
    path = write_filled(tmp_path / "own.h5", layers)
    assert "block1_conv2 2 times" in refusal(path, "block1_pool")
    assert whose(path, ["block1_pool"], {"mine": "block1_conv2"})["block1_conv2"] == 16


def test_of_two_networks_one_can_be_named(keras, tmp_path):
    """Layers that have the same name are distinguished by their places."""
    images = keras.Input((32, 32, 3))
    both = [network(keras, NAMES, seed) for seed in (1, 2)]
    path = save(keras.Model(images, [both[0](images), both[1](images)]), tmp_path / "two.keras")
    assert "2 times" in refusal(path, "block1_conv1")
    places = [f"layers/{model}/layers/block1_conv1" for model in ("functional", "functional_1")]
    message = refusal(path, "block1_conv1", rename={"block1_conv1": "block1_conv1"})
    assert all(place in message for place in places)
    source = find_weights(str(path), ["block1_conv1"], rename={places[1]: "block1_conv1"})
    kernel, _ = read_weights(source, ["block1_conv1"])["block1_conv1"]
    np.testing.assert_array_equal(kernel, both[1].get_layer("block1_conv1").get_weights()[0])
    assert places[1] in [group.name for group in inspect_weights(path).groups]


def test_shapes_are_still_checked(tmp_path):
    """A rename to a layer of another shape is refused, with both shapes."""
    path = write_filled(tmp_path / "own.h5", {"a": SHAPES["block2_conv1"], **SHAPES})
    message = refusal(path, "block1_pool", rename={"a": "block1_conv2"})
    assert "1 of 2 layers" in message
    line = next(line for line in message.splitlines() if line.startswith("  block1_conv2 "))
    assert "(3, 3, 64, 64) + (64,)" in line
    assert "(3, 3, 64, 128) + (128,) in 'a'" in line


def test_with_a_rename_no_layer_is_matched_by_order(tmp_path):
    """Sixteen unnamed convolutions match by order only if none is renamed."""
    dense = {"dense": ((25088, 4096), (4096,)), "dense_1": ((4096, 4096), (4096,))}
    layers = {**numbered(SHAPES.values()), "normalise": ((512,),), **dense}
    path = write_filled(tmp_path / "own.h5", layers)
    assert find_weights(str(path), ["block1_pool"]).rename == ()
    assert "16 of 18 layers" in refusal(path, "fc2")
    rename = dict(zip(layers, [*ALL_NAMES, "", "fc1", "fc2"], strict=True))
    del rename["normalise"]
    assert "normalise" in refusal(path, "fc2", rename=rename)
    plain = write_filled(tmp_path / "plain.h5", {x: layers[x] for x in rename})
    assert find_weights(str(plain), ["fc2"], rename=rename).path == plain
    for given, found in [("conv2d_0", "1 of 2 layers"), ("dense", "0 of 2 layers")]:
        message = refusal(path, "block1_pool", rename={given: rename[given]})
        assert found in message


@pytest.mark.parametrize(
    ("spec", "rename", "error", "facts"),
    [
        (
            "own.h5",
            {"conv2d_10x": "block1_conv1"},
            WeightsError,
            ["--rename conv2d_10x=block1_conv1", "own.h5", "'conv2d_10'", "conv2d_9' and 6 more"],
        ),
        ("own.h5", {"my $1": "block1_conv1"}, WeightsError, ["--rename 'my $1=block1_conv1'"]),
        ("own.h5", {"conv2d_0": "block1_con1"}, UnknownLayerError, ["'block1_conv1'"]),
        (
            "own.h5",
            {"conv2d_0": "block1_pool"},
            OptionError,
            ["--rename conv2d_0=block1_pool", "featx layers"],
        ),
        (
            "own.h5",
            {"conv2d_1": "block1_conv1", "conv2d_0": "block1_conv1"},
            OptionError,
            ["--rename conv2d_0=block1_conv1", "--rename conv2d_1=block1_conv1"],
        ),
        *(
            (spec, {"a": "block1_conv1"}, OptionError, ["--rename a=block1_conv1", spec])
            for spec in ("bundled", "imagenet", "random:0")
        ),
    ],
)
def test_renames_that_are_not_allowed(tmp_path, monkeypatch, spec, rename, error, facts):
    """A rename without its layer, of a layer without weights, or to the same layer is refused."""
    monkeypatch.chdir(tmp_path)
    write_filled(tmp_path / "own.h5", numbered(SHAPES.values()))
    message = refusal(spec, "block1_pool", rename=rename, error=error)
    assert [fact for fact in facts if fact not in message] == []


@pytest.mark.parametrize(
    "texts",
    [["conv2d_1"], ["=block1_conv1"], ["conv2d_1="], ["a=block1_conv1", "a=block1_conv2"]],
)
def test_a_flag_that_is_not_a_rename(texts):
    """A flag that lacks a name, or renames the same layer twice, is refused."""
    with pytest.raises(OptionError, match=f"--rename.*{re.escape(texts[-1])}|{texts[0]}"):
        read_renames(texts)


def test_the_error_lists_both_sides(keras, tmp_path):
    """The error lists the layers that VGG19 needs and those in the file, with their shapes."""
    path = save(network(keras, list(PREFIXED)), tmp_path / "own.keras")
    message = refusal(path, "block2_pool")
    assert "0 of 4 layers" in message
    assert "--rename OLD=NEW" in message
    lines = [re.split(r" {2,}", line.strip()) for line in message.splitlines()]
    shapes = " + ".join(map(str, SHAPES["block2_conv1"]))
    assert [line[:2] for line in lines].count(["block2_conv1", shapes]) == 1
    assert ["myvgg_block2_conv1", shapes] in lines
    assert ["answer", "(128, 3) + (3,)"] in lines


def test_layers_that_match_are_not_listed(tmp_path):
    """The error lists only what is missing and what is not used."""
    layers = {("mine" if name == "block4_conv3" else name): s for name, s in SHAPES.items()}
    path = write_filled(tmp_path / "own.h5", {**layers, **numbered([((1,),)] * 60)})
    lines = refusal(path, "block4_pool").splitlines()
    named = [line.split()[0] for line in lines if line.startswith("  ")]
    assert named[:2] == ["block4_conv3", "mine"]
    assert named[2:] == [*numbered([0] * 39), "and"]
    assert "and 21 more" in lines[44]
    assert find_weights(str(path), ["block4_pool"], rename={"mine": "block4_conv3"}).path == path


def test_another_network_is_not_sent_to_rename(tmp_path):
    """--rename is mentioned only if a layer of the file has the shape of a missing one."""
    path = write_filled(tmp_path / "own.h5", {"first": ((7, 7, 3, 64), (64,))})
    assert "--rename" not in refusal(path, "block1_pool")


# Identity -------------------------------------------------------------------------------------


def test_the_identity_is_of_file_and_renames(tmp_path):
    """The identity depends on the file and on the renames, but not on their order."""
    path = write_filled(tmp_path / "own.h5", dict.fromkeys("ab", SHAPES["block1_conv1"]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first = find_weights(str(path), ["block1_conv1"], rename={"a": "block1_conv1"})
    text = f'["{digest}", [["a", "block1_conv1"]]]'
    assert first.identity == hashlib.sha256(text.encode()).hexdigest()
    second = find_weights(str(path), ["block1_conv1"], rename={"b": "block1_conv1"})
    assert len({digest, first.identity, second.identity}) == 3
    named = write_filled(tmp_path / "named.h5", SHAPES)
    plain = find_weights(str(named), ["block1_conv1"])
    assert plain.identity == hashlib.sha256(named.read_bytes()).hexdigest()

    whole = write_filled(tmp_path / "all.h5", numbered(SHAPES.values()))
    pairs = list(zip(numbered(SHAPES.values()), SHAPES, strict=True))
    there = find_weights(str(whole), ["block1_pool"], rename=dict(pairs))
    back = find_weights(str(whole), ["block1_pool"], rename=dict(pairs[::-1]))
    assert there == back
    assert find_weights(str(whole), ["block1_pool"], rename={}).identity != there.identity


# From the command line to a prediction -------------------------------------------------------


@pytest.fixture(scope="module")
def made(keras, tmp_path_factory, make_image_folder):
    """Make one network with two sets of names, images, codes of both, and a model."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    right, own = folder / "right.h5", folder / "own.h5"
    save(network(keras, NAMES), right)
    save(network(keras, list(PREFIXED)), own)
    featx.extract(folder / "data", weights=str(right), output=folder / "right_codes.h5", **TINY)
    featx.extract(
        folder / "data", weights=str(own), rename=PREFIXED, output=folder / "codes.h5", **TINY
    )
    featx.fit(folder / "codes.h5", clf="ridge", output=folder / "model.skops")
    return folder


def test_codes_are_those_of_the_right_names(made):
    """A network with renames computes the same codes as one with the names of VGG19."""
    own, right = (featx.open_store(made / name) for name in ("codes.h5", "right_codes.h5"))
    mine, theirs = own.codes("block2_pool"), right.codes("block2_pool")
    assert np.std(theirs) > 0
    np.testing.assert_array_equal(mine, theirs)
    assert own.recipe.weights != right.recipe.weights
    assert own.provenance["rename"] == PREFIXED
    assert "rename" not in right.provenance


def test_prediction_needs_no_renames(made, tmp_path):
    """A model stores the renames of its codes, for a weights file that was moved too."""
    of_store = featx.predict(made / "codes.h5", model=made / "model.skops")
    of_images = featx.predict(made / "data", model=made / "model.skops")
    pd.testing.assert_frame_equal(of_images.filter(like="p_"), of_store.filter(like="p_"))
    moved = shutil.copy(made / "own.h5", tmp_path / "moved.h5")
    again = featx.predict(made / "data", model=made / "model.skops", weights=str(moved))
    pd.testing.assert_frame_equal(again, of_images)
    score = featx.evaluate(made / "data", model=made / "model.skops", split="val")
    assert score.evaluation.n_images == 9


@pytest.mark.parametrize(
    ("weights", "fact"), [("right.h5", "myvgg_block1_conv1"), ("bundled", "bundled")]
)
def test_prediction_with_other_weights_is_refused(made, monkeypatch, weights, fact):
    """Weights that lack the renamed layers are refused."""
    monkeypatch.chdir(made)
    with pytest.raises(WeightsError, match=fact) as caught:
        featx.predict("data", model="model.skops", weights=weights)
    assert str(caught.value).count("--weights") >= 1


def test_the_transformer_renames_too(made):
    """VGG19Codes computes the same codes as the store."""
    codes = featx.VGG19Codes(weights=str(made / "own.h5"), rename=PREFIXED, **TINY)
    files = sorted((made / "data").glob("val/*/*.png"))
    store = featx.open_store(made / "codes.h5")
    rows = [list(store.images.path).index(str(f.relative_to(made / "data"))) for f in files]
    np.testing.assert_allclose(
        codes.fit_transform(files), store.codes("block2_pool")[rows], rtol=1e-5, atol=1e-6
    )
    assert codes.recipe_.weights == store.recipe.weights


def test_the_command_line(made, monkeypatch, run):
    """Extraction needs the flags, resumes with them in any order, and refuses without them."""
    monkeypatch.chdir(made)
    command = ["extract", "--layer", "block2_pool", "--pool", "avg", "--size", "32"]
    command += ["--weights", "own.h5", "-o", "line.h5"]
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    assert "--rename OLD=NEW" in err
    flags = [f"--rename={old}={new}" for old, new in PREFIXED.items()]
    code, out, err = run(*command, *flags)
    assert code == 0
    assert "4 renamed" in err
    code, out, _ = run(*command, *flags[::-1])
    assert code == 0
    assert out.startswith("line.h5: ")
    code, _, err = run("plan", *command[1:-1], "plan.h5", *flags, "--quiet")
    assert code == 0
    digests = [featx.open_store(name).digests() for name in ("line.h5", "codes.h5")]
    assert digests[0] == digests[1]
    code, out, _ = run("predict", "data/val", "-o", "line.csv", "--overwrite")
    assert (code, out.splitlines()[0]) == (0, "line.csv: 9 predictions")


def test_info_lists_the_layers(made, monkeypatch, run):
    """Info lists all layers of a file, and the layer of VGG19 for each that has its name."""
    monkeypatch.chdir(made)
    code, out, _ = run("info", "own.h5")
    assert code == 0
    lines = [re.sub(r" {2,}", "  ", line).strip() for line in out.splitlines()]
    assert "myvgg_block1_conv2  (3, 3, 64, 64) (64,)  float32" in lines
    _, out, _ = run("info", "right.h5")
    lines = [re.sub(r" {2,}", "  ", line).strip() for line in out.splitlines()]
    assert "block1_conv2  (3, 3, 64, 64) (64,)  float32  block1_conv2" in lines

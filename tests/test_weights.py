"""Weights files of every layout, written by Keras where Keras 3 can, read back exactly."""

import functools
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from featx.errors import UnknownLayerError, WeightsError
from featx.network import WeightsSource, find_weights, read_weights
from featx.network.weights import sources
from featx.network.weights.matching import inspect_weights
from featx.network.weights.sources import BUNDLED_SHA256

# Keras 3.15 hands NumPy 2.4 arrays in a way that NumPy is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHARED = Path(os.environ.get("FEATX_SHARED") or Path(__file__).parents[2] / "shared")

# VGG19 written by hand, so that the tests do not depend on the table that they test.
CHANNELS = {
    "block1_conv1": (3, 64),
    "block1_conv2": (64, 64),
    "block2_conv1": (64, 128),
    "block2_conv2": (128, 128),
    "block3_conv1": (128, 256),
    "block3_conv2": (256, 256),
    "block3_conv3": (256, 256),
    "block3_conv4": (256, 256),
    "block4_conv1": (256, 512),
    "block4_conv2": (512, 512),
    "block4_conv3": (512, 512),
    "block4_conv4": (512, 512),
    "block5_conv1": (512, 512),
    "block5_conv2": (512, 512),
    "block5_conv3": (512, 512),
    "block5_conv4": (512, 512),
}
SHAPES = {name: ((3, 3, *pair), (pair[1],)) for name, pair in CHANNELS.items()}
SHAPES_TOP = {
    **SHAPES,
    "fc1": ((25088, 4096), (4096,)),
    "fc2": ((4096, 4096), (4096,)),
    "predictions": ((4096, 1000), (1000,)),
}
EARLY = list(CHANNELS)[:4]


def refusal(spec, *layers):
    """Return the error message for a source."""
    with pytest.raises(WeightsError) as caught:
        read_weights(find_weights(str(spec), layers), layers)
    return str(caught.value)


def assert_refused(spec, layers, *facts):
    """Check that a source is refused with an error that holds some facts."""
    message = refusal(spec, *layers)
    assert [fact for fact in facts if fact not in message] == [], message


def read(path, *layers):
    """Find and read a file's weights."""
    return read_weights(find_weights(str(path), layers), layers)


# Real Keras ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    """Return Keras with the TensorFlow backend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("keras")


def vgg19_start(keras, name="vgg19"):
    """Build blocks 1 and 2 of VGG19 with the names of Keras and random weights and biases."""
    images = x = keras.Input((32, 32, 3))
    for layer in EARLY:
        width = CHANNELS[layer][1]
        x = keras.layers.Conv2D(width, 3, padding="same", activation="relu", name=layer)(x)
        if layer.endswith("conv2"):
            x = keras.layers.MaxPooling2D(name=f"{layer[:6]}_pool")(x)
    model = keras.Model(images, x, name=name)
    generator = np.random.default_rng(len(name))
    model.set_weights([generator.standard_normal(w.shape, "float32") for w in model.get_weights()])
    return model


def with_head(keras, base, name="larger"):
    """Put a model between a convolution and a classifier."""
    images = keras.Input((32, 32, 3))
    x = base(keras.layers.Conv2D(3, 1, name=f"stem_of_{name}")(images))
    x = keras.layers.Dense(2, name=f"head_of_{name}")(keras.layers.Flatten()(x))
    return keras.Model(images, x, name=name)


def alone(keras):
    vgg = vgg19_start(keras)
    return vgg, vgg


def nested(keras):
    vgg = vgg19_start(keras)
    return vgg, with_head(keras, vgg)


def nested_deeper(keras):
    vgg = vgg19_start(keras)
    return vgg, with_head(keras, with_head(keras, vgg, "middle"))


def sequential(keras):
    vgg = vgg19_start(keras, "base")
    layers = [keras.Input((32, 32, 3)), keras.layers.Rescaling(255.0), vgg, keras.layers.Flatten()]
    return vgg, keras.Sequential([*layers, keras.layers.Dense(2)])


def extended(keras):
    """Give VGG19 a head in the same graph, and freeze its first layer."""
    vgg = vgg19_start(keras)
    vgg.get_layer("block1_conv1").trainable = False
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(vgg.output))
    return vgg, keras.Model(vgg.input, x)


def time_distributed(keras):
    vgg = vgg19_start(keras)
    frames = keras.Input((2, 32, 32, 3))
    return vgg, keras.Model(frames, keras.layers.TimeDistributed(vgg)(frames))


def compiled(keras):
    """Give a nested VGG19 an optimizer, whose arrays have the same shapes."""
    vgg, model = nested(keras)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return vgg, model


BUILDERS = [alone, nested, nested_deeper, sequential, extended, time_distributed, compiled]


@pytest.fixture(scope="module")
def built(keras):
    """Return a function that builds each model once."""
    return functools.cache(lambda build: build(keras))


def save(model, path):
    """Save a model in the format of the file's extension."""
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def assert_same(weights, vgg):
    """Compare weights with those in Keras, bit for bit."""
    assert list(weights) == EARLY
    for name, arrays in weights.items():
        for ours, theirs in zip(arrays, vgg.get_layer(name).get_weights(), strict=True):
            assert ours.dtype == np.float32
            assert ours.flags.c_contiguous
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("build", BUILDERS)
def test_keras_files_read_back_exactly(built, tmp_path, build, ending):
    """Every format in which Keras 3 saves VGG19, alone or inside a model, reads back exactly."""
    vgg, model = built(build)
    path = save(model, tmp_path / f"model{ending}")
    assert_same(read(path, "block2_pool", "block1_pool"), vgg)
    assert inspect_weights(path).matched_by == "name"


def test_subclassed_model_reads_back_exactly(keras, tmp_path):
    """A VGG19 that is an attribute of a subclassed model is found."""

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.base = vgg19_start(keras)

        def call(self, images):
            return self.base(images)

    model = Own()
    model(np.zeros((1, 32, 32, 3), "float32"))
    assert_same(read(save(model, tmp_path / "own.weights.h5"), "block2_pool"), model.base)


@pytest.mark.parametrize(
    ("ending", "layout"),
    [
        (".h5", "Keras 1/2 legacy h5, whole model"),
        (".weights.h5", "Keras 3 .weights.h5"),
        (".keras", ".keras archive"),
    ],
)
def test_inventory_of_keras_files(built, tmp_path, ending, layout):
    """The inventory holds the layout, the layers, and the layers of VGG19 that they are."""
    path = save(built(compiled)[1], tmp_path / f"model{ending}")
    inventory = inspect_weights(str(path))
    assert (inventory.path, inventory.layout) == (path, layout)
    groups = {group.name: group for group in inventory.groups}
    assert set(groups) == {"stem_of_larger", *EARLY, "head_of_larger"}
    assert groups["block2_conv1"].shapes == ((3, 3, 64, 128), (128,))
    assert groups["block2_conv1"].dtype == "float32"
    assert groups["block2_conv1"].vgg19_layer == "block2_conv1"
    assert groups["stem_of_larger"].vgg19_layer is None
    assert len(inventory.groups) == 6
    assert inventory.covers == tuple(EARLY)
    assert inventory.missing == (*list(CHANNELS)[4:], "fc1", "fc2")
    assert (inventory.mismatched, inventory.repeated) == ((), ())


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
def test_two_vgg19s_are_refused(keras, tmp_path, ending):
    """A file with two VGG19s is refused, with both places."""
    images = keras.Input((32, 32, 3))
    both = [vgg19_start(keras, "left")(images), vgg19_start(keras, "right")(images)]
    path = save(keras.Model(images, both), tmp_path / f"two{ending}")
    first, second = {
        ".h5": (
            "model_weights/left/block1_conv1/kernel",
            "model_weights/right/block1_conv1/kernel",
        ),
        ".weights.h5": (
            "layers/functional/layers/conv2d/vars/0",
            "layers/functional_1/layers/conv2d/vars/0",
        ),
        ".keras": (
            "layers/functional/layers/conv2d/vars/0",
            "layers/functional_1/layers/conv2d/vars/0",
        ),
    }[ending]
    assert_refused(path, ["block1_pool"], f"{path}", "block1_conv1 2 times", first, second)
    assert inspect_weights(path).repeated == tuple(EARLY)
    assert inspect_weights(path).covers == ()


def strip_names(path):
    """Remove the attributes `name`, which tf.keras and the first Keras 3 did not write."""
    with h5py.File(path, "r+") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
        file.attrs.pop("name", None)
    return path


def strip_archive_names(path, old):
    """Copy a .keras archive without the attributes `name` in its weights."""
    weights = path.with_suffix(".inside")
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(path, "w") as target:
        weights.write_bytes(source.read("model.weights.h5"))
        target.write(strip_names(weights), "model.weights.h5")
        target.writestr("config.json", source.read("config.json"))
    return path


@pytest.mark.parametrize("build", BUILDERS)
def test_keras_archive_without_names_is_read_by_its_config(built, tmp_path, build):
    """An older .keras archive is read by numbering classes as Keras does."""
    vgg, model = built(build)
    path = strip_archive_names(tmp_path / "old.keras", save(model, tmp_path / "new.keras"))
    with h5py.File(tmp_path / "old.inside") as file:
        assert "name" not in file["vars" if "vars" in file else "layers"].attrs
    assert_same(read(path, "block2_pool"), vgg)
    assert inspect_weights(path).matched_by == "name"


def test_counters_are_offset_by_other_convolutions(keras, tmp_path):
    """VGG19 is found in a flat model where its groups are conv2d_2 to conv2d_5."""
    vgg = vgg19_start(keras)
    model = keras.Sequential([keras.Input((32, 32, 3))])
    model.add(keras.layers.Conv2D(5, 1, name="first"))
    model.add(keras.layers.Conv2D(3, 1, name="second"))
    for layer in vgg.layers[1:]:
        model.add(layer)
    path = strip_archive_names(tmp_path / "old.keras", save(model, tmp_path / "new.keras"))
    with h5py.File(tmp_path / "old.inside") as file:
        assert file["layers/conv2d_2/vars/0"].shape == (3, 3, 3, 64)
    assert_same(read(path, "block2_pool"), vgg)


def test_config_is_read_and_never_run(built, tmp_path):
    """An unknown class in the config of an archive does no harm."""
    vgg, model = built(nested)
    new = save(model, tmp_path / "new.keras")
    path = tmp_path / "foreign.keras"
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(path, "w") as target:
        config = source.read("config.json").replace(b'"Flatten"', b'"os.system"')
        target.writestr("config.json", config)
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
    assert b"os.system" in config
    assert_same(read(path, "block2_pool"), vgg)


def test_extension_does_not_decide(built, tmp_path):
    """A .keras archive with the extension .h5, and the reverse, are read."""
    vgg, model = built(nested)
    archive = save(model, tmp_path / "a.keras").rename(tmp_path / "archive.h5")
    hdf5 = save(model, tmp_path / "b.h5").rename(tmp_path / "legacy.keras")
    assert_same(read(archive, "block2_pool"), vgg)
    assert_same(read(hdf5, "block2_pool"), vgg)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
def test_bfloat16_is_widened_exactly(keras, tmp_path, ending):
    """Weights in bfloat16 are read as the same values in float32."""
    keras.config.set_dtype_policy("bfloat16")
    try:
        vgg, model = nested(keras)
    finally:
        keras.config.set_dtype_policy("float32")
    path = save(model, tmp_path / f"model{ending}")
    weights = read(path, "block2_pool")
    theirs = np.asarray(vgg.get_layer("block2_conv1").get_weights()[0]).astype("float32")
    np.testing.assert_array_equal(weights["block2_conv1"][0], theirs)
    assert theirs.std() > 0.5
    assert inspect_weights(path).groups[-1].dtype == "bfloat16"


# Files of Keras 1 and 2, which Keras 3 cannot write -----------------------------------------


def write_legacy(path, layers, top="", **attributes):
    """Write a file as Keras 1 and 2 did: layer_names, and weight_names in every group."""
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        root = file.require_group(top or "/")
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in weights.items():
                group[weight] = array
    return path


def random_weights(names=EARLY, dtype="float32", seed=0):
    """Draw kernels and biases with the shapes of VGG19."""
    generator = np.random.default_rng(seed)
    return {
        name: [generator.standard_normal(shape).astype(dtype) for shape in SHAPES[name]]
        for name in names
    }


def legacy_layers(arrays, kernel="{}/kernel:0", bias="{}/bias:0"):
    """Return the groups of a legacy file, with an input and a pooling layer."""
    layers = {"input_1": {}}
    for name, (k, b) in arrays.items():
        layers[name] = {kernel.format(name): k, bias.format(name): b}
    return {**layers, "block1_pool": {}}


def assert_equal(weights, arrays):
    """Compare weights with arrays rounded to float32."""
    assert list(weights) == list(arrays)
    for name, pair in arrays.items():
        for ours, theirs in zip(weights[name], pair, strict=True):
            assert ours.dtype == np.float32
            np.testing.assert_array_equal(ours, theirs.astype("float32"))


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        ("{}_W", "{}_b"),
        ("{}_W:0", "{}_b:0"),
        ("{}_W_1:0", "{}_b_1:0"),
        ("{}/kernel:0", "{}/bias:0"),
        ("{}_1/kernel:0", "{}_1/bias:0"),
        ("vgg19/{}/kernel:0", "vgg19/{}/bias:0"),
        ("{}/kernel", "{}/bias"),
    ],
)
@pytest.mark.parametrize("top", ["", "model_weights"])
def test_legacy_names_of_all_ages(tmp_path, kernel, bias, top):
    """The names of weights of Keras 1, 2 and 3 are read in both kinds of files."""
    arrays = random_weights()
    path = write_legacy(tmp_path / "old.h5", legacy_layers(arrays, kernel, bias), top)
    assert_equal(read(path, "block2_pool"), arrays)


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        ("{}_W:0", "{}_b:0"),
        ("{}_W_3:0", "{}_b_3:0"),
        ("{}/kernel:0", "{}/bias:0"),
        ("{}_1/kernel:0", "{}_1/bias:0"),
        ("vgg19/{}/kernel:0", "vgg19/{}/bias:0"),
        ("model_2/vgg19_1/{}_7/kernel:0", "model_2/vgg19_1/{}_7/bias:0"),
    ],
)
def test_legacy_nested_in_one_group(tmp_path, kernel, bias):
    """A nested VGG19 is read from one group, with any prefix."""
    arrays = random_weights()
    flat = legacy_layers(arrays, kernel, bias)
    stem = {"stem/kernel:0": np.ones((1, 1, 3, 3)), "stem/bias:0": np.ones(3)}
    head = {"fc1/kernel:0": np.ones((512, 7)), "fc1/bias:0": np.ones(7)}
    inside = {weight: array for layer in flat.values() for weight, array in layer.items()}
    layers = {"stem": stem, "vgg19": inside, "fc1": head}
    path = write_legacy(tmp_path / "big.h5", layers, "model_weights")
    assert_equal(read(path, "block2_pool"), arrays)
    assert inspect_weights(path).mismatched == ("fc1",)


def test_nested_model_of_one_layer(tmp_path):
    """The layer of a nested model with one layer has the name inside, not that of the group."""
    kernel, bias = random_weights(EARLY[:1])["block1_conv1"]
    inside = {"block1_conv1/kernel:0": kernel, "block1_conv1/bias:0": bias}
    path = write_legacy(tmp_path / "one.h5", {"vgg19": inside})
    assert_equal(read(path, "block1_conv1"), {"block1_conv1": [kernel, bias]})


@pytest.mark.parametrize(
    ("first", "second"), [("{}/{}", "{}_1/{}"), ("{}_{}", "{}_{}_1"), ("a/{}/{}", "b/{}/{}")]
)
def test_numbered_names_beside_plain_ones_are_two_networks(tmp_path, first, second):
    """A file with block1_conv1 and block1_conv1_1 has two VGG19s and is refused."""
    arrays = random_weights(["block1_conv1"])["block1_conv1"]
    roles = ("W", "b") if first == "{}_{}" else ("kernel", "bias")
    inside = {
        pattern.format("block1_conv1", role): array
        for pattern in (first, second)
        for role, array in zip(roles, arrays, strict=True)
    }
    path = write_legacy(tmp_path / "two.h5", {"both": inside})
    places = [f"both/{p.format('block1_conv1', roles[0])}" for p in (first, second)]
    assert_refused(path, ["block1_conv1"], "block1_conv1 2 times", *places)


def test_long_lists_of_names_are_cut_by_keras(tmp_path):
    """Names that Keras split into layer_names0 and layer_names1 are joined."""
    arrays = random_weights()
    path = write_legacy(tmp_path / "long.h5", legacy_layers(arrays))
    with h5py.File(path, "r+") as file:
        names = file.attrs.pop("layer_names")
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:3], names[3:]
    assert_equal(read(path, "block2_pool"), arrays)


def test_arrays_without_any_attribute(tmp_path):
    """A file written with h5py alone is read by the names in its paths."""
    arrays = random_weights()
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in arrays.items():
            file[f"encoder/{name}/bias"], file[f"encoder/{name}/kernel"] = bias, kernel
    assert_equal(read(path, "block2_pool"), arrays)
    assert inspect_weights(path).layout == "HDF5 of unknown layout"


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_other_floating_point_becomes_float32(tmp_path, dtype):
    """Weights in float16, float64 and big-endian float32 are read as native float32."""
    arrays = random_weights(dtype=dtype)
    path = write_legacy(tmp_path / "other.h5", legacy_layers(arrays))
    assert_equal(read(path, "block2_pool"), arrays)


# Whole networks in small files: HDF5 stores one fill value where nothing was written --------


def write_filled(path, layers, pattern, dtype="f2"):
    """Write a file of a few kB in which every weight of layer i is the number i."""
    with h5py.File(path, "w") as file:
        for number, (name, shapes) in enumerate(layers):
            group = file.create_group(pattern.format(name))
            for index, shape in enumerate(shapes):
                group.create_dataset(str(index), shape, dtype, fillvalue=number + index / 4)
    return path


def conv2d(number):
    return f"conv2d_{number}" if number else "conv2d"


def test_by_order_and_shapes(tmp_path, caplog):
    """Without names the 16 convolutions match by order and shapes, with a warning."""
    layers = [(conv2d(i), shapes) for i, shapes in enumerate(SHAPES.values())]
    path = write_filled(tmp_path / "unnamed.weights.h5", layers, "layers/{}/vars")
    source = find_weights(str(path), ["block5_pool"])
    assert caplog.records == []
    weights = read_weights(source, ["block5_pool"])
    assert list(weights) == list(CHANNELS)
    for number, (name, (kernel, bias)) in enumerate(weights.items()):
        assert (kernel.shape, bias.shape) == SHAPES[name]
        assert np.all(kernel == number)
        assert np.all(bias == number + 0.25)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage()
    inventory = inspect_weights(path)
    assert inventory.matched_by == "order and shapes"
    assert inventory.covers == tuple(CHANNELS)
    assert inventory.groups[10].name == "conv2d_10"
    assert inventory.groups[10].vgg19_layer == "block4_conv3"


def test_by_order_inside_a_larger_model(tmp_path):
    """A nested VGG19 without names is found between two other convolutions."""
    layers = [("conv2d", ((1, 1, 3, 3), (3,))), ("dense", ((512, 2), (2,)))]
    inside = [(f"functional/layers/{conv2d(i)}", s) for i, s in enumerate(SHAPES.values())]
    after = [("functional/layers/conv2d_16", ((3, 3, 512, 512), (512,)))]
    path = write_filled(tmp_path / "big.weights.h5", layers + inside + after, "layers/{}/vars")
    weights = read(path, "block2_pool")
    assert [float(kernel.max()) for kernel, _ in weights.values()] == [2, 3, 4, 5]


def test_by_order_reaches_the_dense_layers(tmp_path):
    """The layers fc1 and fc2 match if they directly follow the 16 convolutions."""
    shapes = list(SHAPES_TOP.values())
    layers = [(conv2d(i), shapes[i]) for i in range(16)]
    layers += [("dense", shapes[16]), ("dense_1", shapes[17]), ("dense_2", shapes[18])]
    path = write_filled(tmp_path / "top.weights.h5", layers, "layers/{}/vars")
    inventory = inspect_weights(path)
    assert inventory.covers == (*CHANNELS, "fc1", "fc2")
    assert inventory.groups[-1].vgg19_layer is None
    assert find_weights(str(path), ["fc2"]).path == path


def test_two_unnamed_vgg19s_are_refused(tmp_path):
    """A file with two networks without names is refused."""
    layers = [
        (f"{model}/layers/{conv2d(i)}", shapes)
        for model in ("functional", "functional_1")
        for i, shapes in enumerate(SHAPES.values())
    ]
    path = write_filled(tmp_path / "two.weights.h5", layers, "layers/{}/vars")
    places = [f"layers/{m}/layers/conv2d/vars/0" for m in ("functional", "functional_1")]
    assert_refused(path, ["block1_pool"], "block1_conv1 2 times", *places)


@pytest.mark.parametrize("broken", [0, 7, 15])
def test_by_order_needs_all_sixteen(tmp_path, broken):
    """Layers do not match by order if one convolution has another shape."""
    layers = [(conv2d(i), shapes) for i, shapes in enumerate(SHAPES.values())]
    layers[broken] = (conv2d(broken), ((3, 3, 7, 7), (7,)))
    path = write_filled(tmp_path / "other.weights.h5", layers, "layers/{}/vars")
    assert inspect_weights(path).covers == ()


def test_by_order_stays_inside_one_model(tmp_path):
    """Sixteen convolutions in two nested models do not match by order."""
    layers = [
        (f"{'functional' if i < 8 else 'functional_1'}/layers/{conv2d(i)}", shapes)
        for i, shapes in enumerate(SHAPES.values())
    ]
    path = write_filled(tmp_path / "halves.weights.h5", layers, "layers/{}/vars")
    assert inspect_weights(path).covers == ()


def test_head_called_fc1_leaves_the_order_alone(tmp_path):
    """A layer called fc1 does not prevent matching by order."""
    layers = [(conv2d(i), shapes) for i, shapes in enumerate(SHAPES.values())]
    path = write_filled(
        tmp_path / "head.weights.h5", [*layers, ("fc1", ((512, 7), (7,)))], "layers/{}/vars"
    )
    assert inspect_weights(path).covers == tuple(CHANNELS)


def test_names_are_never_mixed_with_order(tmp_path):
    """If one convolution has a name of VGG19, no layer is matched by order."""
    layers = [(conv2d(i), shapes) for i, shapes in enumerate(SHAPES.values())]
    path = write_filled(tmp_path / "mixed.weights.h5", layers, "layers/{}/vars")
    with h5py.File(path, "r+") as file:
        file["layers/conv2d_3/vars"].attrs["name"] = "block2_conv2"
    assert inspect_weights(path).covers == ("block2_conv2",)


def test_with_top_covers_the_dense_layers(tmp_path):
    """A release file with the dense layers covers fc2; its last layer is ignored."""
    path = write_filled(tmp_path / "top.h5", SHAPES_TOP.items(), "{}")
    inventory = inspect_weights(path)
    assert inventory.covers == (*CHANNELS, "fc1", "fc2")
    assert inventory.missing == ()
    assert find_weights(str(path), ["fc2", "block1_pool"]).path == path


@pytest.mark.slow
def test_dense_layers_are_read(tmp_path, monkeypatch):
    """The layers fc1 and fc2 are read after block5, half a gigabyte of fill values."""
    monkeypatch.setattr("featx.hdf5._SMALL", 10**9)
    path = write_filled(tmp_path / "top.h5", SHAPES_TOP.items(), "{}")
    weights = read(path, "fc2")
    assert list(weights) == [*CHANNELS, "fc1", "fc2"]
    assert weights["fc1"][0].shape == (25088, 4096)
    assert (weights["fc1"][0].max(), weights["fc2"][0].min()) == (16, 17)


# Only what is needed -------------------------------------------------------------------------


@pytest.fixture
def unreadable(tmp_path):
    """Write a file whose block2_conv1 has a wrong checksum, so that reading it fails."""
    path = write_legacy(tmp_path / "torn.h5", legacy_layers(random_weights()))
    with h5py.File(path, "r+") as file:
        group = file["block2_conv1/block2_conv1"]
        kernel = group["kernel:0"][...]
        del group["kernel:0"]
        dataset = group.create_dataset(
            "kernel:0", data=kernel, chunks=kernel.shape, fletcher32=True
        )
        offset = dataset.id.get_chunk_info(0).byte_offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 8)
    return path


def test_layers_after_the_cut_are_not_read(unreadable):
    """A damaged layer after the last needed one is not an error."""
    arrays = random_weights()
    weights = read(unreadable, "block1_pool")
    assert_equal(weights, {name: arrays[name] for name in EARLY[:2]})


def test_unreadable_array_is_an_error(unreadable):
    """A damaged layer that is needed is an error with its name."""
    assert_refused(unreadable, ["block2_pool"], "block2_conv1", str(unreadable))


def test_wrong_shapes_after_the_cut_do_no_harm(tmp_path):
    """A file whose later layers have other shapes can be used for the earlier ones."""
    arrays = random_weights()
    other = {**legacy_layers(arrays), "block3_conv1": {"block3_conv1_W": np.ones((3, 3, 1, 1))}}
    path = write_legacy(tmp_path / "other.h5", other)
    assert_equal(read(path, "block2_pool"), arrays)


# Errors --------------------------------------------------------------------------------------


def test_other_layer_names(tmp_path):
    """If no shape fits, the error lists the layers of the file, and the nearest names."""
    arrays = random_weights()
    layers = {
        f"blk{name[5:]}": {"kernel:0": kernel[:1], "bias:0": bias}
        for name, (kernel, bias) in arrays.items()
    }
    path = write_legacy(tmp_path / "foreign.h5", layers)
    assert_refused(path, ["block1_pool"], "0 of 2 layers", "'blk1_conv1'", "blk2_conv2")


def test_missing_layers(tmp_path):
    """A file with too few layers is refused, with the last layer that it can be used for."""
    path = write_legacy(tmp_path / "short.h5", legacy_layers(random_weights()))
    with pytest.raises(WeightsError, match="block3_conv1"):
        find_weights(str(path), ["block3_conv1"])  # before anything is read
    facts = ["up to block3_conv1: 4 of 5 layers", "--layer block2_pool", f"featx info {path}"]
    assert_refused(path, ["block3_conv1", "block1_pool"], *facts)
    assert_refused(path, ["fc2"], "4 of 18 layers")


def test_wrong_shapes(tmp_path):
    """A layer with another shape is listed with both shapes; so is one without its bias."""
    arrays = random_weights()
    arrays["block1_conv2"] = [np.ones((5, 5, 64, 64)), np.ones(64)]
    arrays["block2_conv2"] = [np.ones((3, 3, 128, 128)), np.ones(127)]
    layers = legacy_layers(arrays)
    del layers["block2_conv1"]["block2_conv1/bias:0"]
    path = write_legacy(tmp_path / "wide.h5", layers)
    lines = refusal(path, "block2_pool").split("\n")
    assert "1 of 4 layers" in lines[0]
    for layer, expected, found in [
        ("block1_conv2", "(3, 3, 64, 64) + (64,)", "(5, 5, 64, 64) + (64,)"),
        ("block2_conv1", "(3, 3, 64, 128) + (128,)", "(3, 3, 64, 128)"),
        ("block2_conv2", "(3, 3, 128, 128) + (128,)", "(3, 3, 128, 128) + (127,)"),
    ]:
        line = next(line for line in lines if line.startswith(f"  {layer} "))
        assert expected in line
        assert f"found {found} in '{layer}'" in line
    assert inspect_weights(path).mismatched == ("block1_conv2", "block2_conv1", "block2_conv2")


def test_theano_ordered_kernels(tmp_path):
    """Kernels in the order of Theano and PyTorch are recognised."""
    arrays = {
        name: [kernel.transpose(3, 2, 0, 1), bias]
        for name, (kernel, bias) in random_weights(EARLY[:1]).items()
    }
    path = write_legacy(tmp_path / "theano.h5", legacy_layers(arrays, "{}_W", "{}_b"))
    assert_refused(path, ["block1_conv1"], "(64, 3, 3, 3)", "Theano", "--weights imagenet")


def test_vgg16_is_recognised(tmp_path):
    """A VGG16, which lacks three layers, is recognised."""
    layers = {name: shapes for name, shapes in SHAPES.items() if not name.endswith("conv4")}
    path = write_filled(tmp_path / "vgg16.h5", layers.items(), "{}")
    assert_refused(path, ["block4_pool"], "10 of 12 layers", "VGG16", "--layer block3_conv3")


def test_short_vgg19_is_no_vgg16(tmp_path):
    """A VGG19 that ends at block3_conv3 is not taken for a VGG16."""
    layers = list(SHAPES.items())[:7]
    path = write_filled(tmp_path / "short.h5", layers, "{}")
    assert "VGG16" not in refusal(path, "block3_pool")


def test_empty_file_of_the_right_kind(tmp_path):
    """An HDF5 file without layers is refused."""
    path = tmp_path / "nothing.h5"
    h5py.File(path, "w").close()
    assert_refused(path, ["block1_conv1"], str(path), "0 of 1 layer ")


@pytest.mark.parametrize("kept", [100, 0.5, 0.99])
@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_truncated_files(built, tmp_path, ending, kept):
    """A file that lost its end is refused with its size."""
    path = tmp_path / f"cut{ending}"
    if ending == ".h5":
        write_legacy(path, legacy_layers(random_weights()))
    else:
        save(built(alone)[1], path)
    whole = path.read_bytes()
    size = kept if kept > 1 else int(len(whole) * kept)
    path.write_bytes(whole[:size])
    assert_refused(path, ["block1_pool"], str(path), f"{size:,} bytes", "--weights bundled")


def test_dangling_name_is_damage(tmp_path):
    """A file that lists a weight which it does not hold is refused as damaged."""
    path = write_legacy(tmp_path / "hole.h5", legacy_layers(random_weights()))
    with h5py.File(path, "r+") as file:
        del file["block1_conv1/block1_conv1/bias:0"]
    assert_refused(path, ["block1_pool"], "damaged", f"{path.stat().st_size:,} bytes")


def test_other_files(tmp_path):
    """A file of another kind is refused with its first bytes."""
    path = tmp_path / "vgg19.h5"
    path.write_text("<!DOCTYPE html><title>404</title>")
    assert_refused(path, ["block1_pool"], str(path), "b'<!DOCTYPE html><title>40'")


def test_other_archives(tmp_path):
    """A zip archive of another kind, as PyTorch writes, is refused with what it lacks."""
    path = tmp_path / "vgg19.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert_refused(path, ["block1_pool"], str(path), "model.weights.h5", ".keras")


def test_store_of_codes(tmp_path):
    """A store of codes given as weights is refused as a store."""
    path = tmp_path / "codes.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "featx-codes"
    assert_refused(path, ["block1_pool"], str(path), "store of codes", "--weights FILE")
    with pytest.raises(WeightsError, match="store of codes"):
        inspect_weights(path)


def test_missing_file(tmp_path):
    """A missing file is an error that lists all kinds of sources."""
    path = tmp_path / "none.h5"
    assert_refused(path, ["block1_pool"], str(path), "bundled", "imagenet", "random:SEED")
    with pytest.raises(WeightsError, match=r"none\.h5.*No such file"):
        inspect_weights(path)


def test_misspelt_word():
    """A misspelt source is refused with the nearest name."""
    assert_refused("imagnet", ["block1_pool"], "imagnet", "'imagenet'")


def test_folder(tmp_path):
    """A folder is not a weights file."""
    assert_refused(tmp_path, ["block1_pool"], str(tmp_path), "folder", "--weights FILE")


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(tmp_path, number):
    """Weights that are not finite are refused, with their number."""
    arrays = random_weights(EARLY[:2])
    arrays["block1_conv2"][0][0, 0, :2, 0] = number
    path = write_legacy(tmp_path / "diverged.h5", legacy_layers(arrays))
    assert_refused(path, ["block1_pool"], "block1_conv2", str(path), " 2 values", "36,864")


def test_float64_beyond_float32(tmp_path):
    """A float64 that is too large for float32 is refused."""
    arrays = random_weights(EARLY[:1], "float64")
    arrays["block1_conv1"][1][3] = 1e300
    path = write_legacy(tmp_path / "huge.h5", legacy_layers(arrays))
    assert_refused(path, ["block1_conv1"], " 1 value ", "float32", " 64")


def test_quantised_weights(tmp_path):
    """Integer weights are refused."""
    arrays = random_weights(EARLY[:1], "int8")
    path = write_legacy(tmp_path / "int8.h5", legacy_layers(arrays))
    assert_refused(path, ["block1_conv1"], "block1_conv1", str(path), "int8")


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_numbers_of_another_file(tmp_path, kind):
    """Weights stored in another file are refused, because the sha256 would not cover them."""
    arrays = random_weights(EARLY[:1])
    path = write_legacy(tmp_path / "linked.h5", legacy_layers(arrays))
    shape, _ = SHAPES["block1_conv1"]
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["kernel"] = np.ones(shape)
    with h5py.File(path, "r+") as file:
        inside = "block1_conv1/block1_conv1/kernel:0"
        del file[inside]
        if kind == "link":
            file[inside] = h5py.ExternalLink("other.h5", "kernel")
        elif kind == "external":
            file.create_dataset(inside, shape, external=[(str(tmp_path / "raw"), 0, 7000)])
        else:
            layout = h5py.VirtualLayout(shape, "f8")
            layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "kernel", shape)
            file.create_virtual_dataset(inside, layout)
    assert_refused(path, ["block1_conv1"], str(path), inside)


def test_unknown_layer(tmp_path):
    """An unknown layer is an error before any file is opened."""
    with pytest.raises(UnknownLayerError, match="'block2_pool'"):
        find_weights(str(tmp_path / "none.h5"), ["block2_pol"])


# Sources -------------------------------------------------------------------------------------


def sha256sum(path):
    """Return the sha256 of a file from the command of the operating system."""
    command = ["shasum", "-a", "256"] if sys.platform == "darwin" else ["sha256sum"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def test_own_file_is_known_by_its_bytes(tmp_path):
    """The identity of a file is its sha256, with any name."""
    path = write_legacy(tmp_path / "own.h5", legacy_layers(random_weights()))
    source = find_weights(str(path), ["block2_pool"])
    assert source == WeightsSource(str(path), path, sha256sum(path))


def test_bundled_covers_the_convolutions():
    """The bundled file has the expected sha256 and holds all 16 convolutions."""
    source = find_weights("bundled", ["block5_pool"])
    assert source.spec == "bundled"
    assert source.identity == BUNDLED_SHA256
    weights = read_weights(source, ["block5_pool"])
    assert {name: (k.shape, b.shape) for name, (k, b) in weights.items()} == SHAPES
    with h5py.File(source.path) as file:
        truth = file["block3_conv2/block3_conv2_W_1:0"][...]
    assert truth.dtype == np.float16
    np.testing.assert_array_equal(weights["block3_conv2"][0], truth.astype("float32"))


def test_bundled_has_no_dense_layers():
    """The bundled weights do not include fc1."""
    assert_refused("bundled", ["block1_pool", "fc1"], "fc1", "--weights imagenet", "575 MB")


@pytest.mark.parametrize("content", [b"half of it", None])
def test_damaged_installation(monkeypatch, tmp_path, content):
    """A bundled file that is missing or damaged is an error with both digests."""
    path = tmp_path / "vgg19.h5"
    found = "missing"
    if content is not None:
        path.write_bytes(content)
        found = sha256sum(path)
    monkeypatch.setattr(sources, "_BUNDLED", path)
    assert_refused("bundled", ["block1_pool"], str(path), found, BUNDLED_SHA256, "pip install")


@pytest.mark.parametrize("seed", ["x", "", "-1", "1.5", "1e3", "٣"])
def test_random_needs_a_whole_number(seed):
    """A seed must be a whole number, 0 or greater."""
    assert_refused(f"random:{seed}", ["block1_pool"], f"random:{seed}", "--weights random:0")


def test_random_identity_is_the_number():
    """The identity of a seed is the number, with leading zeros or without."""
    assert find_weights("random:007", ["fc1"]) == WeightsSource("random:007", None, "random:7")


def test_random_weights_follow_he():
    """Kernels have the standard deviation of He et al., biases are zero."""
    weights = read("random:3", "block3_pool")
    assert {name: (k.shape, b.shape) for name, (k, b) in weights.items()} == {
        name: SHAPES[name] for name in list(CHANNELS)[:8]
    }
    for name, (kernel, bias) in weights.items():
        assert kernel.dtype == bias.dtype == np.float32
        assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * CHANNELS[name][0])), rel=0.06)
        assert abs(kernel.mean()) < 0.05 * kernel.std() + 1e-3
        assert not bias.any()


def test_random_layers_do_not_depend_on_the_cut():
    """A deeper network has the same early layers; other seeds and layers have other numbers."""
    shallow, deep = read("random:7", "block1_pool"), read("random:7", "block2_pool")
    for name, (kernel, _) in shallow.items():
        np.testing.assert_array_equal(kernel, deep[name][0])
    other = read("random:8", "block1_pool")
    assert not np.array_equal(other["block1_conv2"][0], shallow["block1_conv2"][0])
    first, second = (deep[name][0].ravel()[:9] for name in ("block1_conv2", "block2_conv1"))
    assert not np.array_equal(first, second)  # both have 64 channels before them, so one spread


def test_random_numbers_stay_what_they_were():
    """The numbers of 'random:7' are the same as in format 1, since recipes rely on them."""
    kernel, _ = read("random:7", "block1_conv2")["block1_conv2"]
    pinned = np.array([0.11055155, -0.031796724, -0.13474992], "float32")
    np.testing.assert_array_equal(kernel.ravel()[:3], pinned)


# The package ---------------------------------------------------------------------------------


def test_nothing_heavy_is_imported():
    """Reading weights needs neither Keras nor what a download needs."""
    code = (
        "import sys; import featx.network.weights.sources;"
        "print([m for m in ('tensorflow', 'keras', 'pooch', 'rich') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "[]\n"


@pytest.mark.shared
def test_keras_release_as_rebuilt():
    """The rebuilt release file is read exactly, with all 16 layers."""
    path = SHARED / "weights" / "vgg19_notop_rebuilt.h5"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    weights = read(path, "block5_pool")
    assert {name: (k.shape, b.shape) for name, (k, b) in weights.items()} == SHAPES
    with h5py.File(path) as file:
        for name in weights:
            np.testing.assert_array_equal(weights[name][0], file[f"{name}/{name}_W_1:0"])
            np.testing.assert_array_equal(weights[name][1], file[f"{name}/{name}_b_1:0"])

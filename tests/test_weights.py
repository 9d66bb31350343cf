"""Weights files of every layout, written by real Keras where Keras 3 can, read back exactly."""

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
from featx.network import weights as public
from featx.network.weights import (
    BUNDLED_SHA256,
    WeightsSource,
    find_weights,
    inspect_weights,
    read_weights,
    sources,
)

# Keras 3.15 hands NumPy 2.4 arrays in a way that NumPy is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHARED = Path(os.environ.get("FEATX_SHARED") or Path(__file__).parents[2] / "shared")

# VGG19 by hand, so that the tests do not lean on the table they test.
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
    """Return the words with which a source is refused."""
    with pytest.raises(WeightsError) as caught:
        read_weights(find_weights(str(spec), layers), layers)
    return str(caught.value)


def read(path, *layers):
    """Find and read a file's weights."""
    return read_weights(find_weights(str(path), layers), layers)


# Real Keras ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    """Keras with the TensorFlow backend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("keras")


def vgg19_start(keras, name="vgg19"):
    """Build blocks 1 and 2 of VGG19 with Keras's names and random numbers, biases too."""
    images = x = keras.Input((32, 32, 3))
    for layer in EARLY:
        x = keras.layers.Conv2D(CHANNELS[layer][1], 3, padding="same", name=layer)(x)
        if layer.endswith("conv2"):
            x = keras.layers.MaxPooling2D(name=f"{layer[:6]}_pool")(x)
    model = keras.Model(images, x, name=name)
    generator = np.random.default_rng(len(name))
    model.set_weights([generator.standard_normal(w.shape, "float32") for w in model.get_weights()])
    return model


def with_head(keras, base, name="larger"):
    """Put a model behind a convolution and before a classifier."""
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
    """Give VGG19 a head in the same graph, and freeze its first block."""
    vgg = vgg19_start(keras)
    vgg.get_layer("block1_conv1").trainable = False
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(vgg.output))
    return vgg, keras.Model(vgg.input, x)


def time_distributed(keras):
    vgg = vgg19_start(keras)
    frames = keras.Input((2, 32, 32, 3))
    return vgg, keras.Model(frames, keras.layers.TimeDistributed(vgg)(frames))


def compiled(keras):
    """Give nested VGG19 an optimizer, whose arrays have the same shapes."""
    vgg, model = nested(keras)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return vgg, model


BUILDERS = [alone, nested, nested_deeper, sequential, extended, time_distributed, compiled]


def save(model, path):
    """Save a model as its file's ending says."""
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def assert_same(weights, vgg):
    """Compare weights with what Keras itself holds, bit for bit."""
    assert list(weights) == EARLY
    for name, arrays in weights.items():
        for ours, theirs in zip(arrays, vgg.get_layer(name).get_weights(), strict=True):
            assert ours.dtype == np.float32
            assert ours.flags.c_contiguous
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("build", BUILDERS)
def test_keras_files_read_back_exactly(keras, tmp_path, build, ending):
    """Every way in which Keras 3 saves VGG19, alone or inside a model, reads back exactly."""
    vgg, model = build(keras)
    path = save(model, tmp_path / f"model{ending}")
    assert_same(read(path, "block2_pool", "block1_pool"), vgg)
    assert inspect_weights(path).how == "by name"


def test_subclassed_model_reads_back_exactly(keras, tmp_path):
    """A VGG19 that is an attribute of a model of the user's own class is found."""

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
def test_inventory_of_keras_files(keras, tmp_path, ending, layout):
    """The inventory names the layout, the layers in it, and what of VGG19 they are."""
    path = save(compiled(keras)[1], tmp_path / f"model{ending}")
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
    assert (inventory.mismatched, inventory.twice) == ((), ())


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
def test_two_vgg19s_are_refused(keras, tmp_path, ending):
    """Of two VGG19s in one file none is chosen, and both places are said."""
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
    assert refusal(path, "block1_pool") == (
        f"{path} holds block1_conv1 2 times: {first} and {second}. Expected one VGG19. Save the "
        "one you mean by itself: model.get_layer(NAME).save_weights('one.weights.h5')"
    )
    assert inspect_weights(path).twice == tuple(EARLY)
    assert inspect_weights(path).covers == ()


def strip_names(path):
    """Make a file as tf.keras and the first Keras 3 wrote it: no attribute `name`."""
    with h5py.File(path, "r+") as file:
        file.visititems(lambda _, item: item.attrs.pop("name", None) and None)
        file.attrs.pop("name", None)
    return path


def strip_archive_names(path, old):
    """Copy a .keras archive, without the attributes `name` in its weights."""
    weights = path.with_suffix(".inside")
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(path, "w") as target:
        weights.write_bytes(source.read("model.weights.h5"))
        target.write(strip_names(weights), "model.weights.h5")
        target.writestr("config.json", source.read("config.json"))
    return path


@pytest.mark.parametrize("build", BUILDERS)
def test_keras_archive_without_names_is_read_by_its_config(keras, tmp_path, build):
    """An older .keras archive is read by counting classes as Keras counts them."""
    vgg, model = build(keras)
    path = strip_archive_names(tmp_path / "old.keras", save(model, tmp_path / "new.keras"))
    with h5py.File(tmp_path / "old.inside") as file:
        assert "name" not in file["vars" if "vars" in file else "layers"].attrs
    assert_same(read(path, "block2_pool"), vgg)
    assert inspect_weights(path).how == "by name"


def test_counters_are_offset_by_other_convolutions(keras, tmp_path):
    """In one flat model, VGG19's groups are conv2d_2 to conv2d_5, and still found."""
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


def test_config_is_read_and_never_run(keras, tmp_path):
    """A class that does not exist in an archive's config is no reason to stop."""
    vgg, model = nested(keras)
    new = save(model, tmp_path / "new.keras")
    path = tmp_path / "foreign.keras"
    with zipfile.ZipFile(new) as source, zipfile.ZipFile(path, "w") as target:
        config = source.read("config.json").replace(b'"Flatten"', b'"os.system"')
        target.writestr("config.json", config)
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
    assert b"os.system" in config
    assert_same(read(path, "block2_pool"), vgg)


def test_extension_does_not_decide(keras, tmp_path):
    """A .keras archive that is called .h5, and an h5 called .keras, are read."""
    vgg, model = nested(keras)
    archive = save(model, tmp_path / "a.keras").rename(tmp_path / "archive.h5")
    hdf5 = save(model, tmp_path / "b.h5").rename(tmp_path / "legacy.keras")
    assert_same(read(archive, "block2_pool"), vgg)
    assert_same(read(hdf5, "block2_pool"), vgg)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
def test_bfloat16_is_widened_exactly(keras, tmp_path, ending):
    """Weights that Keras trained in bfloat16 come out as the same numbers in float32."""
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
    """Write what Keras 1 and 2 wrote: layer_names, and weight_names in every group."""
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
    """Draw kernels and biases of VGG19's shapes."""
    generator = np.random.default_rng(seed)
    return {
        name: [generator.standard_normal(shape).astype(dtype) for shape in SHAPES[name]]
        for name in names
    }


def legacy_layers(arrays, kernel="{}/kernel:0", bias="{}/bias:0"):
    """Lay arrays out as the groups of a legacy file, an input and a pool among them."""
    layers = {"input_1": {}}
    for name, (k, b) in arrays.items():
        layers[name] = {kernel.format(name): k, bias.format(name): b}
    return {**layers, "block1_pool": {}}


def assert_equal(weights, arrays):
    """Compare weights with arrays, number by number, after rounding to float32."""
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
    """The weights' names of Keras 1, 2 and 3 are all understood, in either kind of file."""
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
    """A nested VGG19 is one group that holds all its arrays, behind whatever prefix."""
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
    """A nested model cut after its first convolution is named inside, not by its group."""
    kernel, bias = random_weights(EARLY[:1])["block1_conv1"]
    inside = {"block1_conv1/kernel:0": kernel, "block1_conv1/bias:0": bias}
    path = write_legacy(tmp_path / "one.h5", {"vgg19": inside})
    assert_equal(read(path, "block1_conv1"), {"block1_conv1": [kernel, bias]})


@pytest.mark.parametrize(
    ("first", "second"), [("{}/{}", "{}_1/{}"), ("{}_{}", "{}_{}_1"), ("a/{}/{}", "b/{}/{}")]
)
def test_numbered_names_beside_plain_ones_are_two_networks(tmp_path, first, second):
    """block1_conv1 and block1_conv1_1 in one file are two VGG19s, and refused."""
    arrays = random_weights(["block1_conv1"])["block1_conv1"]
    roles = ("W", "b") if first == "{}_{}" else ("kernel", "bias")
    inside = {
        pattern.format("block1_conv1", role): array
        for pattern in (first, second)
        for role, array in zip(roles, arrays, strict=True)
    }
    path = write_legacy(tmp_path / "two.h5", {"both": inside})
    places = " and ".join(f"both/{p.format('block1_conv1', roles[0])}" for p in (first, second))
    assert refusal(path, "block1_conv1") == (
        f"{path} holds block1_conv1 2 times: {places}. Expected one VGG19. Save the one you mean "
        "by itself: model.get_layer(NAME).save_weights('one.weights.h5')"
    )


def test_long_lists_of_names_are_cut_by_keras(tmp_path):
    """Names that Keras cut into layer_names0 and layer_names1 are joined again."""
    arrays = random_weights()
    path = write_legacy(tmp_path / "long.h5", legacy_layers(arrays))
    with h5py.File(path, "r+") as file:
        names = file.attrs.pop("layer_names")
        file.attrs["layer_names0"], file.attrs["layer_names1"] = names[:3], names[3:]
    assert_equal(read(path, "block2_pool"), arrays)


def test_arrays_without_any_attribute(tmp_path):
    """A file that h5py wrote by hand is read by the names in its paths."""
    arrays = random_weights()
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        for name, (kernel, bias) in arrays.items():
            file[f"encoder/{name}/bias"], file[f"encoder/{name}/kernel"] = bias, kernel
    assert_equal(read(path, "block2_pool"), arrays)
    assert inspect_weights(path).layout == "HDF5 of no known layout"


@pytest.mark.parametrize("dtype", ["<f2", "<f8", ">f4"])
def test_other_floating_point_becomes_float32(tmp_path, dtype):
    """float16, float64 and big-endian numbers come out as native float32."""
    arrays = random_weights(dtype=dtype)
    path = write_legacy(tmp_path / "other.h5", legacy_layers(arrays))
    assert_equal(read(path, "block2_pool"), arrays)


# All sixteen, at no cost: HDF5 keeps one fill value where nothing was written --------------


def write_filled(path, layers, pattern, dtype="f2"):
    """Write a file whose layer i holds the number i everywhere: a few kB, whatever its shapes."""
    with h5py.File(path, "w") as file:
        for number, (name, shapes) in enumerate(layers):
            group = file.create_group(pattern.format(name))
            for index, shape in enumerate(shapes):
                group.create_dataset(str(index), shape, dtype, fillvalue=number + index / 4)
    return path


def conv2d(number):
    return f"conv2d_{number}" if number else "conv2d"


def test_by_order_and_shapes(tmp_path, caplog):
    """Without names all 16 convolutions are told by order and shapes, and that is said."""
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
    assert caplog.record_tuples == [
        (
            "featx.network.weights.arrays",
            logging.WARNING,
            f"{path} names no layer of VGG19: its 16 convolutions were matched by order and "
            "shapes.",
        )
    ]
    inventory = inspect_weights(path)
    assert inventory.how == "by order and shapes"
    assert inventory.covers == tuple(CHANNELS)
    assert inventory.groups[10].name == "conv2d_10"
    assert inventory.groups[10].vgg19_layer == "block4_conv3"


def test_by_order_inside_a_larger_model(tmp_path):
    """A nested VGG19 without names is found between a first and a last convolution."""
    layers = [("conv2d", ((1, 1, 3, 3), (3,))), ("dense", ((512, 2), (2,)))]
    inside = [(f"functional/layers/{conv2d(i)}", s) for i, s in enumerate(SHAPES.values())]
    after = [("functional/layers/conv2d_16", ((3, 3, 512, 512), (512,)))]
    path = write_filled(tmp_path / "big.weights.h5", layers + inside + after, "layers/{}/vars")
    weights = read(path, "block2_pool")
    assert [float(kernel.max()) for kernel, _ in weights.values()] == [2, 3, 4, 5]


def test_by_order_reaches_the_dense_layers(tmp_path):
    """fc1 and fc2 are taken where they follow the 16 convolutions."""
    shapes = list(SHAPES_TOP.values())
    layers = [(conv2d(i), shapes[i]) for i in range(16)]
    layers += [("dense", shapes[16]), ("dense_1", shapes[17]), ("dense_2", shapes[18])]
    path = write_filled(tmp_path / "top.weights.h5", layers, "layers/{}/vars")
    inventory = inspect_weights(path)
    assert inventory.covers == (*CHANNELS, "fc1", "fc2")
    assert inventory.groups[-1].vgg19_layer is None
    assert find_weights(str(path), ["fc2"]).path == path


def test_two_unnamed_vgg19s_are_refused(tmp_path):
    """By order, too, one of two networks is not chosen."""
    layers = [
        (f"{model}/layers/{conv2d(i)}", shapes)
        for model in ("functional", "functional_1")
        for i, shapes in enumerate(SHAPES.values())
    ]
    path = write_filled(tmp_path / "two.weights.h5", layers, "layers/{}/vars")
    inside = "layers/conv2d/vars/0"
    assert refusal(path, "block1_pool") == (
        f"{path} holds block1_conv1 2 times: layers/functional/{inside} and "
        f"layers/functional_1/{inside}. Expected one VGG19. Save the one you mean by itself: "
        "model.get_layer(NAME).save_weights('one.weights.h5')"
    )


@pytest.mark.parametrize("broken", range(16))
def test_by_order_needs_all_sixteen(tmp_path, broken):
    """One convolution of another shape, anywhere, and order proves nothing."""
    layers = [(conv2d(i), shapes) for i, shapes in enumerate(SHAPES.values())]
    layers[broken] = (conv2d(broken), ((3, 3, 7, 7), (7,)))
    path = write_filled(tmp_path / "other.weights.h5", layers, "layers/{}/vars")
    assert inspect_weights(path).covers == ()


def test_by_order_stays_inside_one_model(tmp_path):
    """Sixteen convolutions that two models share are no proof of VGG19."""
    layers = [
        (f"{'functional' if i < 8 else 'functional_1'}/layers/{conv2d(i)}", shapes)
        for i, shapes in enumerate(SHAPES.values())
    ]
    path = write_filled(tmp_path / "halves.weights.h5", layers, "layers/{}/vars")
    assert inspect_weights(path).covers == ()


def test_head_called_fc1_leaves_the_order_alone(tmp_path):
    """A user's own fc1 is no name that would rule order out."""
    layers = [(conv2d(i), shapes) for i, shapes in enumerate(SHAPES.values())]
    path = write_filled(
        tmp_path / "head.weights.h5", [*layers, ("fc1", ((512, 7), (7,)))], "layers/{}/vars"
    )
    assert inspect_weights(path).covers == tuple(CHANNELS)


def test_names_are_never_mixed_with_order(tmp_path):
    """Where one layer has a name, the others are not guessed from their order."""
    layers = [(conv2d(i), shapes) for i, shapes in enumerate(SHAPES.values())]
    path = write_filled(tmp_path / "mixed.weights.h5", layers, "layers/{}/vars")
    with h5py.File(path, "r+") as file:
        file["layers/conv2d_3/vars"].attrs["name"] = "block2_conv2"
    assert inspect_weights(path).covers == ("block2_conv2",)


def test_with_top_covers_the_dense_layers(tmp_path):
    """A release file with top serves fc2; predictions is nobody's business."""
    path = write_filled(tmp_path / "top.h5", SHAPES_TOP.items(), "{}")
    inventory = inspect_weights(path)
    assert inventory.covers == (*CHANNELS, "fc1", "fc2")
    assert inventory.missing == ()
    assert find_weights(str(path), ["fc2", "block1_pool"]).path == path


@pytest.mark.slow
def test_dense_layers_are_read(tmp_path, monkeypatch):
    """fc1 and fc2 come out after block5, half a gigabyte of them, which this file only claims."""
    monkeypatch.setattr("featx.hdf5._SMALL", 10**9)
    path = write_filled(tmp_path / "top.h5", SHAPES_TOP.items(), "{}")
    weights = read(path, "fc2")
    assert list(weights) == [*CHANNELS, "fc1", "fc2"]
    assert weights["fc1"][0].shape == (25088, 4096)
    assert (weights["fc1"][0].max(), weights["fc2"][0].min()) == (16, 17)


# Only what is needed -------------------------------------------------------------------------


@pytest.fixture
def unreadable(tmp_path):
    """A file whose block2_conv1 has a wrong checksum, so that reading it fails."""
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
    """A layer that cannot be read does no harm behind the cut."""
    arrays = random_weights()
    weights = read(unreadable, "block1_pool")
    assert_equal(weights, {name: arrays[name] for name in EARLY[:2]})


def test_unreadable_array_is_an_error(unreadable):
    """The same layer before the cut is an error that names it."""
    assert refusal(unreadable, "block2_pool") == (
        f"block2_conv1 of {unreadable} cannot be read: its part of the file is damaged, or packed "
        "in a way that h5py does not know. Copy or download the file again, or use --weights "
        "bundled."
    )


def test_wrong_shapes_after_the_cut_do_no_harm(tmp_path):
    """A file whose later layers are another network's serves the earlier ones."""
    arrays = random_weights()
    other = {**legacy_layers(arrays), "block3_conv1": {"block3_conv1_W": np.ones((3, 3, 1, 1))}}
    path = write_legacy(tmp_path / "other.h5", other)
    assert_equal(read(path, "block2_pool"), arrays)


# Refusals, word by word ----------------------------------------------------------------------


def test_other_layer_names(tmp_path):
    """Where no shape fits, names are listed, ten at most, the nearest beside what is missing."""
    arrays = random_weights()
    layers = {
        f"blk{name[5:]}": {"kernel:0": kernel[:1], "bias:0": bias}
        for name, (kernel, bias) in arrays.items()
    }
    layers |= {f"x{i}": {"w:0": np.ones(1)} for i in range(9)}
    path = write_legacy(tmp_path / "foreign.h5", layers)
    assert refusal(path, "block1_pool") == (
        f"{path} does not fit VGG19 up to block1_pool: 0 of 2 layers with weights match.\n"
        "  block1_conv1: not in the file; nearest name 'blk1_conv1'\n"
        "  block1_conv2: not in the file; nearest name 'blk1_conv2'\n"
        "The file holds: blk1_conv1, blk1_conv2, blk2_conv1, blk2_conv2, x0, x1, x2, x3, x4, x5, "
        "and 3 more.\n"
        "No layer has a name of VGG19, nor do all 16 convolutions follow in order by shape.\n"
        f"Look inside: featx info {path}"
    )


def test_missing_layers(tmp_path):
    """A file that ends too early says how far it serves."""
    path = write_legacy(tmp_path / "short.h5", legacy_layers(random_weights()))
    with pytest.raises(WeightsError, match="does not fit VGG19 up to block3_conv1"):
        find_weights(str(path), ["block3_conv1"])  # before anything is read
    assert refusal(path, "block3_conv1", "block1_pool") == (
        f"{path} does not fit VGG19 up to block3_conv1: 4 of 5 layers with weights match.\n"
        "  block3_conv1: not in the file\n"
        "The file holds: block1_conv1, block1_conv2, block2_conv1, block2_conv2.\n"
        "It serves layers up to block2_pool: --layer block2_pool\n"
        f"Look inside: featx info {path}"
    )


def test_many_missing_layers_are_cut_to_ten(tmp_path):
    """Fourteen missing layers make ten lines and a count."""
    path = write_legacy(tmp_path / "short.h5", legacy_layers(random_weights()))
    lines = refusal(path, "fc2").split("\n")
    assert lines[0].endswith("up to fc2: 4 of 18 layers with weights match.")
    assert lines[10] == "  block5_conv2: not in the file"
    assert lines[11] == "  and 4 more"


def test_wrong_shapes(tmp_path):
    """A kernel of another size is listed with both shapes."""
    arrays = random_weights()
    arrays["block1_conv2"] = [np.ones((5, 5, 64, 64)), np.ones(64)]
    arrays["block2_conv2"] = [np.ones((3, 3, 128, 128)), np.ones(127)]
    path = write_legacy(tmp_path / "wide.h5", legacy_layers(arrays))
    assert refusal(path, "block2_pool") == (
        f"{path} does not fit VGG19 up to block2_pool: 2 of 4 layers with weights match.\n"
        "  block1_conv2: found (5, 5, 64, 64) + (64,), expected (3, 3, 64, 64) + (64,)\n"
        "  block2_conv2: found (3, 3, 128, 128) + (127,), expected (3, 3, 128, 128) + (128,)\n"
        "The file holds: block1_conv1, block1_conv2, block2_conv1, block2_conv2.\n"
        "It serves layers up to block1_conv1: --layer block1_conv1\n"
        f"Look inside: featx info {path}"
    )
    assert inspect_weights(path).mismatched == ("block1_conv2", "block2_conv2")


def test_missing_bias(tmp_path):
    """A layer without its bias does not match."""
    arrays = random_weights(["block1_conv1"])
    layers = {"block1_conv1": {"block1_conv1/kernel:0": arrays["block1_conv1"][0]}}
    path = write_legacy(tmp_path / "biasless.h5", layers)
    assert refusal(path, "block1_conv1").split("\n")[1] == (
        "  block1_conv1: found (3, 3, 3, 64), expected (3, 3, 3, 64) + (64,)"
    )


def test_theano_ordered_kernels(tmp_path):
    """Kernels of (out, in, height, width) are recognised and named."""
    arrays = {
        name: [kernel.transpose(3, 2, 0, 1), bias]
        for name, (kernel, bias) in random_weights(EARLY[:1]).items()
    }
    path = write_legacy(tmp_path / "theano.h5", legacy_layers(arrays, "{}_W", "{}_b"))
    assert refusal(path, "block1_conv1") == (
        f"{path} does not fit VGG19 up to block1_conv1: 0 of 1 layer with weights match.\n"
        "  block1_conv1: found (64, 3, 3, 3) + (64,), expected (3, 3, 3, 64) + (64,)\n"
        "The file holds: block1_conv1.\n"
        "Its kernels are ordered (out, in, height, width), as Theano and PyTorch do; Keras orders "
        "(height, width, in, out). Save the network from Keras, or use --weights imagenet.\n"
        f"Look inside: featx info {path}"
    )


def test_vgg16_is_guessed(tmp_path):
    """VGG16 has the same names and shapes but for three, which gives it away."""
    layers = {name: shapes for name, shapes in SHAPES.items() if not name.endswith("conv4")}
    path = write_filled(tmp_path / "vgg16.h5", layers.items(), "{}")
    assert refusal(path, "block4_pool") == (
        f"{path} does not fit VGG19 up to block4_pool: 10 of 12 layers with weights match.\n"
        "  block3_conv4: not in the file\n"
        "  block4_conv4: not in the file\n"
        "The file holds: block1_conv1, block1_conv2, block2_conv1, block2_conv2, block3_conv1, "
        "block3_conv2, block3_conv3, block4_conv1, block4_conv2, block4_conv3, and 3 more.\n"
        "Probably it is a VGG16, which has no block3_conv4. Use --weights imagenet.\n"
        "It serves layers up to block3_conv3: --layer block3_conv3\n"
        f"Look inside: featx info {path}"
    )


def test_short_vgg19_is_no_vgg16(tmp_path):
    """A VGG19 that was cut at block3_conv3 is not taken for a VGG16."""
    layers = list(SHAPES.items())[:7]
    path = write_filled(tmp_path / "short.h5", layers, "{}")
    assert "VGG16" not in refusal(path, "block3_pool")


def test_empty_file_of_the_right_kind(tmp_path):
    """HDF5 without a single layer says so."""
    path = tmp_path / "nothing.h5"
    h5py.File(path, "w").close()
    assert refusal(path, "block1_conv1").split("\n")[2] == "The file holds: no layer."


@pytest.mark.parametrize("kept", [100, 0.5, 0.99])
def test_truncated_hdf5(tmp_path, kept):
    """An h5 file that lost its end is one clear error, wherever it was cut."""
    path = write_legacy(tmp_path / "cut.h5", legacy_layers(random_weights()))
    whole = path.read_bytes()
    size = kept if kept > 1 else int(len(whole) * kept)
    path.write_bytes(whole[:size])
    assert refusal(path, "block1_pool") == (
        f"{path} is cut short or damaged: it begins as a weights file, but cannot be read to its "
        f"end ({size:,} bytes). Copy or download it again, or use --weights bundled."
    )


@pytest.mark.parametrize("kept", [100, 0.5, 0.99])
def test_truncated_archive(keras, tmp_path, kept):
    """A .keras archive that lost its end is the same clear error."""
    path = save(alone(keras)[1], tmp_path / "cut.keras")
    whole = path.read_bytes()
    size = kept if kept > 1 else int(len(whole) * kept)
    path.write_bytes(whole[:size])
    assert refusal(path, "block1_pool") == (
        f"{path} is cut short or damaged: it begins as a weights file, but cannot be read to its "
        f"end ({size:,} bytes). Copy or download it again, or use --weights bundled."
    )


def test_dangling_name_is_damage(tmp_path):
    """A weight that is listed and not there is one clear error."""
    path = write_legacy(tmp_path / "hole.h5", legacy_layers(random_weights()))
    with h5py.File(path, "r+") as file:
        del file["block1_conv1/block1_conv1/bias:0"]
    assert refusal(path, "block1_pool").startswith(f"{path} is cut short or damaged: ")


def test_other_files(tmp_path):
    """A page that a browser saved is quoted, so that its owner recognises it."""
    path = tmp_path / "vgg19.h5"
    path.write_text("<!DOCTYPE html><title>404</title>")
    assert refusal(path, "block1_pool") == (
        f"{path} is not a weights file: it begins with b'<!DOCTYPE html><title>40'. Expected "
        "HDF5 or a .keras archive. Use --weights FILE with another file, or --weights bundled."
    )


def test_other_archives(tmp_path):
    """A zip archive of something else, as PyTorch writes, says what it lacks."""
    path = tmp_path / "vgg19.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    assert refusal(path, "block1_pool") == (
        f"{path} is a zip archive without model.weights.h5. Expected a .keras archive. "
        "Save the model again with Keras: model.save('vgg19.keras')"
    )


def test_store_of_codes(tmp_path):
    """A store of codes in the place of weights is called what it is."""
    path = tmp_path / "codes.h5"
    with h5py.File(path, "w") as file:
        file.attrs["format"] = "featx-codes"
    expected = (
        f"{path} is a store of codes, not weights. Expected a VGG19 saved by Keras. "
        "Use --weights FILE with another file, or --weights bundled."
    )
    assert refusal(path, "block1_pool") == expected
    with pytest.raises(WeightsError) as caught:
        inspect_weights(path)
    assert str(caught.value) == expected


def test_missing_file(tmp_path):
    """A file that is not there lists all kinds of sources."""
    assert refusal(tmp_path / "none.h5", "block1_pool") == (
        f"No weights file {tmp_path}/none.h5. Expected bundled, imagenet, random:SEED or a file. "
        "Use --weights bundled, which needs no file."
    )
    with pytest.raises(WeightsError) as caught:
        inspect_weights(tmp_path / "none.h5")
    assert str(caught.value) == (
        f"{tmp_path}/none.h5 cannot be opened: No such file or directory. Expected a weights file "
        "that you may read. Use --weights FILE with another file, or --weights bundled."
    )


def test_misspelt_word():
    """A source that was nearly typed right is guessed, and still refused."""
    assert refusal("imagnet", "block1_pool") == (
        "No weights file imagnet. Did you mean 'imagenet'? Expected bundled, imagenet, random:SEED "
        "or a file. Use --weights bundled, which needs no file."
    )


def test_folder(tmp_path):
    """A folder is no weights file."""
    assert refusal(tmp_path, "block1_pool") == (
        f"{tmp_path} is a folder. Expected a weights file, .h5 or .keras. Use --weights FILE; a "
        "SavedModel must be saved again as .keras first."
    )


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(tmp_path, number):
    """A network that diverged is refused, with the count."""
    arrays = random_weights()
    arrays["block1_conv2"][0][0, 0, :2, 0] = number
    path = write_legacy(tmp_path / "diverged.h5", legacy_layers(arrays))
    assert refusal(path, "block1_pool") == (
        f"block1_conv2 of {path} holds 2 numbers that are NaN or infinite in float32, of 36,864. "
        "Expected finite weights; probably a training diverged. Use the weights of an earlier "
        "epoch, or --weights bundled."
    )


def test_float64_beyond_float32(tmp_path):
    """A float64 that float32 cannot hold is refused, never infinity."""
    arrays = random_weights(EARLY[:1], "float64")
    arrays["block1_conv1"][1][3] = 1e300
    path = write_legacy(tmp_path / "huge.h5", legacy_layers(arrays))
    assert " holds 1 number that is NaN or infinite in float32, of 64." in refusal(
        path, "block1_conv1"
    )


def test_quantised_weights(tmp_path):
    """Integers mean nothing without their scale."""
    arrays = random_weights(EARLY[:1], "int8")
    path = write_legacy(tmp_path / "int8.h5", legacy_layers(arrays))
    assert refusal(path, "block1_conv1") == (
        f"block1_conv1 of {path} holds int8 numbers. Expected floating point. Save the network "
        "before it is quantised, or use --weights bundled."
    )


@pytest.mark.parametrize("kind", ["link", "external", "virtual"])
def test_numbers_of_another_file(tmp_path, kind):
    """Weights that lie elsewhere are refused: the sha256 would not be theirs."""
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
    where = (
        f"has a link to somewhere else for {inside}"
        if kind == "link"
        else f"keeps the numbers of {inside} in another file"
    )
    assert refusal(path, "block1_conv1") == (
        f"{path} {where}. Expected all weights in one file. Save the model again with Keras, or "
        "use --weights bundled."
    )


def test_unknown_layer(tmp_path):
    """A layer that VGG19 does not have is the layers' error, before any file is looked at."""
    with pytest.raises(UnknownLayerError, match="Did you mean 'block2_pool'"):
        find_weights(str(tmp_path / "none.h5"), ["block2_pol"])


# Sources -------------------------------------------------------------------------------------


def sha256sum(path):
    """Let the system's own command say what a file's sha256 is."""
    command = ["shasum", "-a", "256"] if sys.platform == "darwin" else ["sha256sum"]
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


def test_own_file_is_known_by_its_bytes(tmp_path):
    """The identity of a file is its sha256, whatever its name."""
    path = write_legacy(tmp_path / "own.h5", legacy_layers(random_weights()))
    source = find_weights(str(path), ["block2_pool"])
    assert source == WeightsSource(str(path), path, sha256sum(path))


def test_bundled_covers_the_convolutions():
    """The file inside the package is the pinned one, and serves all 16 convolutions."""
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
    """fc1 of the bundled file is refused with the words to type."""
    assert refusal("bundled", "block1_pool", "fc1") == (
        "The bundled weights hold the 16 conv layers of VGG19 only; fc1 was asked for. Use "
        "--weights imagenet (575 MB, downloaded once), or a layer up to block5_pool."
    )


@pytest.mark.parametrize("content", [b"half of it", None])
def test_damaged_installation(monkeypatch, tmp_path, content):
    """A bundled file that is not the pinned one, or is gone, asks for a new installation."""
    path = tmp_path / "vgg19.h5"
    found = "missing"
    if content is not None:
        path.write_bytes(content)
        found = sha256sum(path)
    monkeypatch.setattr(sources, "_BUNDLED", path)
    assert refusal("bundled", "block1_pool") == (
        f"The installation of featx is damaged: sha256 of {path} is {found}, expected "
        f"{BUNDLED_SHA256}. Install again: pip install --force-reinstall featx"
    )


@pytest.mark.parametrize("seed", ["x", "", "-1", "1.5", "1e3", "٣"])
def test_random_needs_a_whole_number(seed):
    """A seed is a whole number from 0 on."""
    assert refusal(f"random:{seed}", "block1_pool") == (
        f"No such weights: 'random:{seed}'. Expected a seed that is a whole number, 0 or more. "
        "Use --weights random:0"
    )


def test_random_identity_is_the_number():
    """However a seed was typed, its identity is the number."""
    assert find_weights("random:007", ["fc1"]) == WeightsSource("random:007", None, "random:7")


def test_random_weights_follow_he():
    """Kernels have He's spread, biases are zero, and all have the right shapes."""
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
    """A deeper cut has the same early layers; another seed has others; no two layers are alike."""
    shallow, deep = read("random:7", "block1_pool"), read("random:7", "block2_pool")
    for name, (kernel, _) in shallow.items():
        np.testing.assert_array_equal(kernel, deep[name][0])
    other = read("random:8", "block1_pool")
    assert not np.array_equal(other["block1_conv2"][0], shallow["block1_conv2"][0])
    first, second = (deep[name][0].ravel()[:9] for name in ("block1_conv2", "block2_conv1"))
    assert not np.array_equal(first, second)  # both have 64 channels before them, so one spread


def test_random_numbers_stay_what_they_were():
    """The numbers that 'random:7' has meant since format 1; a recipe relies on them."""
    kernel, _ = read("random:7", "block1_conv2")["block1_conv2"]
    pinned = np.array([0.11055155, -0.031796724, -0.13474992], "float32")
    np.testing.assert_array_equal(kernel.ravel()[:3], pinned)


# The package ---------------------------------------------------------------------------------


def test_public_names():
    """What the package promises is there, and nothing heavy comes with it."""
    assert sorted(public.__all__) == public.__all__
    assert all(hasattr(public, name) for name in public.__all__)
    code = (
        "import sys; import featx.network.weights;"
        "print([m for m in ('tensorflow', 'keras', 'pooch', 'rich') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "[]\n"


@pytest.mark.shared
def test_keras_release_as_rebuilt():
    """The rebuilt release file reads with all 16 layers, to the numbers in the file."""
    path = SHARED / "weights" / "vgg19_notop_rebuilt.h5"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    weights = read(path, "block5_pool")
    assert {name: (k.shape, b.shape) for name, (k, b) in weights.items()} == SHAPES
    with h5py.File(path) as file:
        for name in weights:
            np.testing.assert_array_equal(weights[name][0], file[f"{name}/{name}_W_1:0"])
            np.testing.assert_array_equal(weights[name][1], file[f"{name}/{name}_b_1:0"])

"""Weights with the names and shapes of VGG19 whose network computes other numbers."""

import json
import os
import zipfile

import h5py
import numpy as np
import pytest

from featx.errors import WeightsError
from featx.network import find_weights, read_weights
from featx.network.weights.configs import read_calls
from featx.network.weights.matching import inspect_weights

# Keras 3.15 hands NumPy 2.4 arrays in a way that NumPy is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WIDTHS = {"block1_conv1": 64, "block1_conv2": 64, "block2_conv1": 128, "block2_conv2": 128}
ENDINGS = [".h5", ".weights.h5", ".keras"]


@pytest.fixture(scope="module")
def keras():
    """Return Keras with the TensorFlow backend."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return pytest.importorskip("keras")


@pytest.fixture(scope="module")
def network(keras):
    """Return a function that builds blocks 1 and 2 of VGG19 with other parts."""
    layers = keras.layers

    def build(
        after=lambda _: (),  # layers after a convolution, by its name
        pool=lambda name: layers.MaxPooling2D(name=name),
        named=lambda name: name,
        head=(),
        **conv,
    ):
        settings = {"padding": "same", "activation": "relu", **conv}
        images = x = keras.Input((32, 32, 3))
        for name, width in WIDTHS.items():
            x = layers.Conv2D(width, 3, name=named(name), **settings)(x)
            for layer in after(name):
                x = layer(x)
            if name.endswith("2"):
                x = pool(f"{name[:6]}_pool")(x)
        for layer in head:
            x = layer(x)
        return keras.Model(images, x)

    return build


def save(model, path):
    """Save a model in the format of the file's extension."""
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def find(path, cut="block2_pool", **more):
    return find_weights(str(path), [cut], **more)


def refusal(path, cut="block2_pool", **more):
    """Return the error message for weights."""
    with pytest.raises(WeightsError) as caught:
        find(path, cut, **more)
    return str(caught.value)


def listed(message):
    """Return the names in the table of a message."""
    return [line.split()[0] for line in message.splitlines() if line.startswith("  ")]


# Networks that are not VGG19 ------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_normalization_between_the_convolutions_is_refused(keras, network, tmp_path, ending):
    """In every layout, each normalization up to the cut is listed, and no other one."""

    def normalised(name):
        return keras.layers.BatchNormalization(name=f"{name}_bn"), keras.layers.ReLU()

    path = save(network(normalised, activation=None), tmp_path / f"bn{ending}")
    message = refusal(path)
    assert listed(message) == [f"{name}_bn" for name in WIDTHS]
    assert str(path) in message
    if ending != ".weights.h5":  # which does not have the order
        assert listed(refusal(path, "block1_pool")) == ["block1_conv1_bn", "block1_conv2_bn"]
    assert [each.name for each in inspect_weights(path).differences] == listed(message)


@pytest.mark.parametrize("ending", ENDINGS)
def test_average_pooling_is_refused(keras, network, tmp_path, ending):
    """The file can be used for the layers before the first pooling."""
    pool = lambda name: keras.layers.AveragePooling2D(2, name=name)  # noqa: E731
    path = save(network(pool=pool), tmp_path / f"average{ending}")
    message = refusal(path)
    assert listed(message) == ["block1_pool", "block2_pool"]
    assert "--layer block1_conv2" in message
    assert find(path, "block1_conv2").path == path


@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_other_settings_are_refused(keras, network, tmp_path, ending):
    """Activation, padding and pooling are read from the config, which these layouts hold."""
    layers = keras.layers

    def pool(name):
        return layers.MaxPooling2D(2, 1, padding="same", name=name)

    for change, names, cut in [
        ({"activation": "elu"}, list(WIDTHS), None),
        ({"activation": None}, list(WIDTHS), None),
        ({"activation": layers.ReLU(6.0)}, list(WIDTHS), None),
        ({"padding": "valid"}, list(WIDTHS), None),
        ({"dilation_rate": 2}, list(WIDTHS), None),
        ({"pool": pool}, ["block1_pool", "block2_pool"], "block1_conv2"),
    ]:
        path = save(network(**change), tmp_path / f"other{ending}")
        message = refusal(path)
        assert listed(message) == names, change
        assert ("--layer" in message) == (cut is not None)
    path = save(network(lambda _: [layers.LeakyReLU()], activation=None), tmp_path / f"x{ending}")
    assert set(listed(refusal(path))) > {*WIDTHS}


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_additional_convolution_is_refused(keras, network, tmp_path, ending):
    """A convolution between two of VGG19, which does not have its name, is listed."""

    def more(name):
        own = {"padding": "same", "activation": "relu", "name": f"more_after_{name}"}
        return [keras.layers.Conv2D(64, 3, **own)] if name == "block1_conv1" else []

    path = save(network(more), tmp_path / f"more{ending}")
    assert listed(refusal(path)) == ["more_after_block1_conv1"]


def test_a_residual_connection_is_refused(keras, tmp_path):
    """A sum with an earlier activation, and a convolution of another input, are differences."""
    conv = lambda name, width: keras.layers.Conv2D(  # noqa: E731
        width, 3, padding="same", activation="relu", name=name
    )
    images = keras.Input((32, 32, 3))
    first = conv("block1_conv1", 64)(images)
    second = conv("block1_conv2", 64)(keras.layers.Add(name="plus")([first, first]))
    path = save(keras.Model(images, second), tmp_path / "sum.keras")
    assert listed(refusal(path, "block1_conv2")) == ["plus"]
    other = conv("block1_conv2", 64)(keras.layers.Conv2D(64, 1, name="stem")(images))
    path = save(keras.Model(images, [first, other]), tmp_path / "apart.keras")
    assert "block1_conv2" in listed(refusal(path, "block1_conv2"))
    assert find(path, "block1_conv1").path == path


def test_renaming_does_not_make_a_vgg19(keras, network, tmp_path):
    """The layers between renamed ones are checked too."""
    after = lambda name: [keras.layers.BatchNormalization(name=f"bn_{name}")]  # noqa: E731
    path = save(network(after, named=lambda name: f"my_{name}"), tmp_path / "own.keras")
    rename = {f"my_{name}": name for name in WIDTHS}
    assert set(listed(refusal(path, rename=rename))) == {f"bn_{name}" for name in WIDTHS}


def write_old(path, layers):
    """Write a file without a config as Keras 1 and 2 did, with layers in their order."""
    layers = list(layers)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        for name, shapes in layers:
            group = file.create_group(name)
            names = [f"{name}/{number}:0" for number in range(len(shapes))]
            group.attrs["weight_names"] = [each.encode() for each in names]
            for each, shape in zip(names, shapes, strict=True):
                group.create_dataset(each, shape, "f4", fillvalue=0.5)
    return path


def old_layers(*, after=None, pool="max_pooling2d", last=()):
    channels = [3, *WIDTHS.values()]
    for number, (name, width) in enumerate(WIDTHS.items()):
        yield name, ((3, 3, channels[number], width), (width,))
        if after:
            yield f"{after}_{number + 1}", ((width,),) * 4
        if name.endswith("2"):
            yield f"{pool}_{number}", ()
    yield from last


def test_older_files_are_checked_by_the_order_of_their_layers(tmp_path):
    """A normalization and a pooling of another kind are found; a head may have any layer."""
    head = [("batch_normalization_9", ((128,),) * 4), ("dense_1", ((128, 2), (2,)))]
    sound = write_old(tmp_path / "sound.h5", old_layers(last=head))
    assert find(sound).path == sound
    path = write_old(tmp_path / "bn.h5", old_layers(after="batch_normalization", last=head))
    assert listed(refusal(path)) == [f"batch_normalization_{i}" for i in (1, 2, 3, 4)]
    assert len(listed(refusal(path, "block1_conv1"))) == 1
    path = write_old(tmp_path / "mean.h5", old_layers(pool="average_pooling2d"))
    assert listed(refusal(path)) == ["average_pooling2d_1", "average_pooling2d_3"]
    assert find(path, "block1_conv2").path == path


# Networks that are VGG19 ----------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_spellings_of_vgg19_are_read(keras, network, tmp_path, ending):
    """A ReLU, a padding or a dropout as its own layer, before and after VGG19 any layer."""
    layers = keras.layers
    relu = layers.ReLU
    head = [layers.GlobalAveragePooling2D(), layers.BatchNormalization(), layers.Dense(2)]
    for number, model in enumerate(
        [
            network(lambda _: [relu()], activation=None),
            network(lambda _: [layers.Activation("relu"), layers.Dropout(0.5)], activation=None),
            network(lambda name: [] if name.endswith("2") else [relu()], head=[layers.Flatten()]),
            network(head=head[:1] + head[2:]),
            keras.Sequential(
                [
                    keras.Input((32, 32, 3)),
                    layers.Rescaling(255.0),
                    layers.BatchNormalization(),
                    network(),
                    *head,
                ]
            ),
        ]
    ):
        path = save(model, tmp_path / f"{number}{ending}")
        weights = read_weights(find(path), ["block2_pool"])
        assert list(weights) == list(WIDTHS)
    if ending != ".weights.h5":  # whose order is unknown
        path = save(network(head=head), tmp_path / f"head{ending}")
        assert find(path).path == path


def test_an_unknown_order_is_said(keras, network, tmp_path):
    """A normalization of the right width is refused; the whole model has the order."""
    layers = keras.layers
    head = [layers.GlobalAveragePooling2D(), layers.BatchNormalization(name="bn")]
    model = network(head=head)
    message = refusal(save(model, tmp_path / "model.weights.h5"))
    assert listed(message) == ["bn"]
    assert ".keras" in message
    assert find(save(model, tmp_path / "model.keras"))


def test_zero_padding_is_the_padding_of_vgg19(keras, tmp_path):
    """ZeroPadding2D and padding "valid" compute the same; without it, a border is lost."""
    layers = keras.layers

    def built(*padding):
        images = x = keras.Input((32, 32, 3))
        for layer in padding:
            x = layer(x)
        x = layers.Conv2D(64, 3, activation="relu", name="block1_conv1")(x)
        return keras.Model(images, x)

    path = save(built(layers.ZeroPadding2D(1)), tmp_path / "padded.keras")
    assert find(path, "block1_conv1").path == path
    for number, padding in enumerate([(), (layers.ZeroPadding2D(2),)]):
        path = save(built(*padding), tmp_path / f"{number}.keras")
        assert listed(refusal(path, "block1_conv1")) == ["block1_conv1"]


def test_two_inputs_share_a_vgg19(keras, network, tmp_path):
    """A network that is called twice, as a model or layer by layer, is one VGG19."""
    left, right = keras.Input((32, 32, 3)), keras.Input((32, 32, 3))
    shared = network()
    path = save(keras.Model([left, right], [shared(left), shared(right)]), tmp_path / "two.keras")
    assert find(path).path == path
    layer = keras.layers.Conv2D(64, 3, padding="same", name="block1_conv1")
    relu = keras.layers.ReLU()
    second = keras.layers.Conv2D(64, 3, padding="same", name="block1_conv2")
    x = relu(second(relu(layer(left))))
    path = save(keras.Model(left, x), tmp_path / "relu.keras")
    assert find(path, "block1_conv2").path == path


def test_a_config_of_keras_2_is_read():
    """Inputs are lists of names there, and a nested model has its own layers."""
    conv = {"class_name": "Conv2D", "config": {"name": "b"}, "inbound_nodes": [[["a", 0, 0, {}]]]}
    first = {"class_name": "InputLayer", "config": {"name": "a"}, "inbound_nodes": []}
    inner = {
        "class_name": "Functional",
        "config": {
            "name": "vgg",
            "layers": [first, conv],
            "input_layers": [["a", 0, 0]],
            "output_layers": [["b", 0, 0]],
        },
        "inbound_nodes": [[["image", 0, 0, {}]]],
    }
    image = {"class_name": "InputLayer", "config": {"name": "image"}, "inbound_nodes": []}
    last = {"class_name": "ReLU", "config": {"name": "r"}, "inbound_nodes": [[["vgg", 1, 0, {}]]]}
    config = {"layers": [image, inner, last], "input_layers": [], "output_layers": []}
    calls = {call.name: call for call in read_calls({"config": config})}
    assert [call.name for call in calls["a"].inputs] == ["image"]
    assert [call.name for call in calls["r"].inputs] == ["b"]
    assert (calls["b"].model, calls["b"].group) == ("vgg", "layers/functional/layers/conv2d")


# Hostile configs and foreign kernels ----------------------------------------------------------


def test_a_config_with_too_many_links_is_refused(network, tmp_path):
    """Two nested models with 1,001 outputs and inputs would have a million links."""
    path = save(network(), tmp_path / "sound.keras")
    inputs = [
        {"class_name": "InputLayer", "config": {"name": str(i)}, "inbound_nodes": []}
        for i in range(1001)
    ]
    ends = [[str(i), 0, 0] for i in range(1001)]
    config = {"layers": inputs, "input_layers": ends, "output_layers": ends}
    models = [
        {"class_name": "Functional", "config": {"name": name, **config}, "inbound_nodes": nodes}
        for name, nodes in (("a", []), ("b", [[["a", 0, 0]]]))
    ]
    inputs.append({"class_name": "ReLU", "config": {"name": "r"}, "inbound_nodes": [[["0", 0, 0]]]})
    hostile = tmp_path / "hostile.keras"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(hostile, "w") as target:
        target.writestr("model.weights.h5", source.read("model.weights.h5"))
        target.writestr("config.json", json.dumps({"config": {"layers": models}}))
    assert "damaged" in refusal(hostile)


def test_kernels_of_pytorch_under_foreign_names_are_recognised(tmp_path):
    """The hint does not depend on names; transposed kernels are read with --rename."""
    rng = np.random.default_rng(0)
    kernels = {"features.0": (64, 3, 3, 3), "features.2": (64, 64, 3, 3)}
    arrays = {name: rng.standard_normal(shape, "float32") for name, shape in kernels.items()}
    for turned in (False, True):
        path = tmp_path / f"torch{turned}.h5"
        with h5py.File(path, "w") as file:
            for name, kernel in arrays.items():
                file[f"{name}.weight"] = kernel.transpose(2, 3, 1, 0) if turned else kernel
                file[f"{name}.bias"] = np.zeros(64, "float32")
        if not turned:
            message = refusal(path, "block1_pool")
            assert "PyTorch" in message
            assert "transpose(2, 3, 1, 0)" in message
    rename = {"features.0": "block1_conv1", "features.2": "block1_conv2"}
    weights = read_weights(find(path, "block1_pool", rename=rename), ["block1_pool"])
    np.testing.assert_array_equal(
        weights["block1_conv2"][0], arrays["features.2"].transpose(2, 3, 1, 0)
    )


def test_lists_of_many_names_of_variable_length_are_refused(tmp_path):
    """They could all refer to one large text; Keras writes names of fixed length."""
    path = write_old(tmp_path / "old.h5", old_layers())
    with h5py.File(path, "r+") as file:
        names = [*file.attrs["layer_names"], *[b"block1_conv1"] * 200]
        file.attrs.create("layer_names", names, dtype=h5py.string_dtype())
    assert "layer_names" in refusal(path)

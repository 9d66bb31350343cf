"""Files of a fine-tuning: tuned networks, decoded images, the history, and results of 0.1."""

import csv
import dataclasses
import importlib.util
import io
import json
import re
import shutil
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from tuning import (
    CLASSES,
    logits_of,
    noise_images,
    small_head,
    small_network,
    small_recipe,
    vgg_weights,
)

import featx
from featx.errors import ImagesError, ModelError, OutputError, WeightsError
from featx.finetuning.heads import custom_layers
from featx.finetuning.history import EpochRecord, TensorBoardLog, TrainingResult, write_history
from featx.finetuning.inputs import Activations, read_pixels
from featx.finetuning.settings import TrainingSettings
from featx.finetuning.tuned import read_tuned, save_tuned
from featx.images import read_image
from featx.network import find_device, find_weights, read_weights
from featx.workflows.finetuning.results import read_finetuned

# Keras converts TensorFlow's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SUMMARY = {"classifier": "finetuned VGG19", "layers": ["block2_pool"], "n_train": 2}
DIGESTS = ("0" * 64, "a" * 64)


def make_network(*, hidden=(), normalise="none", freeze_until="block1_pool", **recipe):
    """Return a network whose weights all differ from the initial ones."""
    made = small_recipe(**{"pool": "avg", **recipe})
    tuning = TrainingSettings(freeze_until=freeze_until, augment="lecture", dropout=0.5)
    network = small_network(tuning, made, small_head(made, hidden=hidden, normalise=normalise))
    rng = np.random.default_rng(5)
    for layer in network.model.layers:
        layer.set_weights([a + rng.normal(0, 0.01, a.shape) for a in layer.get_weights()])
    return network


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network and its two files."""
    folder = tmp_path_factory.mktemp("saved")
    network = make_network(hidden=(6,), normalise="centre")
    return network, *save_tuned(network, folder, DIGESTS, SUMMARY)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


# tuned.keras and tuned.weights.h5


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalise": "sqrt-l2", "pool": "none"},
        {"hidden": (6, 7), "normalise": "centre", "freeze_until": "none"},
        {"normalise": "l2", "layers": ("block1_conv2",), "precision": "bfloat16"}
        | {"freeze_until": "block1_conv2"},
    ],
    ids=["plain", "sqrt-l2", "mlp-centre", "bfloat16"],
)
def test_a_tuned_network_is_read_as_it_was_saved(settings, tmp_path):
    network = make_network(**settings)
    whole, weights = save_tuned(network, tmp_path, DIGESTS, SUMMARY)
    assert sorted(tmp_path.iterdir()) == [whole, weights]
    assert (whole.name, weights.name) == ("tuned.keras", "tuned.weights.h5")
    tuned = read_tuned(str(whole))
    assert (tuned.path, tuned.recipe) == (whole, network.recipe)
    assert (tuned.fitted_on, tuned.summary) == (DIGESTS, SUMMARY)
    now = network.current_head()
    assert (tuned.head.classes, tuned.head.normalise) == (CLASSES, now.normalise)
    codes = np.random.default_rng(0).random((4, now.n_features))
    np.testing.assert_array_equal(logits_of(tuned.head, codes), logits_of(now, codes))
    expected = vgg_weights(network)
    for path in (whole, weights):
        source = find_weights(str(path), network.recipe.layers)
        found = read_weights(source, network.recipe.layers)
        assert list(found) == list(expected)
        for name, pair in found.items():
            for array, other in zip(pair, expected[name], strict=True):
                np.testing.assert_array_equal(array, other)


def test_keras_opens_tuned_keras_which_gives_probabilities(saved):
    import keras

    network, whole, _ = saved
    images = noise_images(3)
    custom_layers()
    model = keras.models.load_model(whole)
    with find_device("cpu").scope():
        found = model.predict(images, verbose=0)
        expected = softmax(network.model.predict(images, verbose=0), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not any(layer.name.startswith("augment") for layer in model.layers)


@pytest.mark.parametrize("pool", ["max", "avg+max", "grid:2", "grid:3"])
def test_keras_opens_tuned_keras_with_any_pooling(pool, tmp_path):
    """With 3 x 3 cells on a feature map of 4 x 4 positions, the cells overlap."""
    import keras

    network = make_network(pool=pool)
    whole, _ = save_tuned(network, tmp_path, DIGESTS, SUMMARY)
    custom_layers()
    images = noise_images(3)
    with find_device("cpu").scope():
        found = keras.models.load_model(whole).predict(images, verbose=0)
        expected = softmax(network.model.predict(images, verbose=0), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


# What Keras 3.6 writes, by class; its constructors know no other settings.
KERAS_3_6 = {
    "InputLayer": {"batch_shape", "dtype", "sparse", "name"},
    "Conv2D": {"filters", "kernel_size", "strides", "padding", "data_format", "activation"},
    "MaxPooling2D": {"pool_size", "padding", "strides", "data_format"},
    "Dense": {"units", "activation"},
    "Dropout": {"rate", "seed"},
    "Flatten": {"data_format"},
    "Softmax": {"axis"},
    "UnitRows": set(),
    "CentredRows": set(),
    "Cast": {"dtype"},
    "TrueDivide": set(),
    "Mean": {"axis", "keepdims"},
}


def test_the_config_has_only_settings_that_keras_3_6_knows(saved):
    """exchange.py opens such files in the lowest and in the newest Keras."""
    config = json.loads(members(saved[1])["config.json"])["config"]
    of_every_layer = {"name", "trainable", "dtype"}
    for layer in config["layers"]:
        known = KERAS_3_6[layer["class_name"]]
        known = known if "keras.src.ops" in layer["module"] else known | of_every_layer
        assert set(layer["config"]) <= known, layer
    assert config["input_layers"] == ["images", 0, 0]
    assert config["output_layers"] == ["probabilities", 0, 0]


def test_keras_vgg19_loads_the_weights(saved):
    import keras

    network, _, weights = saved
    vgg = keras.applications.VGG19(include_top=False, weights=None, input_shape=(32, 32, 3))
    cut = keras.Model(vgg.input, vgg.get_layer("block2_pool").output)
    cut.load_weights(weights)
    for name, arrays in vgg_weights(network).items():
        for found, expected in zip(vgg.get_layer(name).get_weights(), arrays, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_weights_have_the_layer_names_of_vgg19(saved):
    network, _, weights = saved
    with h5py.File(weights) as file:
        names = {group["vars"].attrs["name"] for group in file["layers"].values()}
    assert {name for name in names if "conv" in name} == set(vgg_weights(network))
    assert not any(name.startswith("head") for name in names)


@pytest.mark.parametrize(
    "config",
    [
        {"module": "os", "class_name": "system", "config": {"command": "touch ran"}},
        {"class_name": "Lambda", "config": {"layers": [{"class_name": None}]}},
        [],
    ],
    ids=["command", "nonsense", "list"],
)
def test_keras_config_is_not_used(config, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, whole, _ = saved
    contents = members(whole) | {"config.json": json.dumps(config)}
    path = write_members(tmp_path / "other.keras", contents)
    found = read_tuned(path)
    for array, other in zip(found.head.kernels, network.current_head().kernels, strict=True):
        np.testing.assert_array_equal(array, other)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_tuned_network_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no\.keras.*featx finetune"):
        read_tuned(tmp_path / "no.keras")
    with pytest.raises(ModelError, match=re.escape(str(tmp_path))):
        read_tuned(tmp_path)


def test_files_of_other_programs_are_refused(saved, tmp_path):
    contents = members(saved[1])
    del contents["featx.json"]
    path = write_members(tmp_path / "foreign.keras", contents)
    with pytest.raises(ModelError, match=rf"{path}.*--weights"):
        read_tuned(path)
    for content in (b"", b"PK\3\4", b"text"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=str(path)):
            read_tuned(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "featx-tuned 2.*featx-tuned 1.*--upgrade"),
        ({"format": "other"}, "other 1"),
        ({"format_version": None}, "featx-tuned None"),
    ],
)
def test_another_version_is_refused(change, words, saved, tmp_path):
    contents = members(saved[1])
    facts = json.loads(contents["featx.json"]) | change
    path = write_members(tmp_path / "new.keras", contents | {"featx.json": json.dumps(facts)})
    with pytest.raises(ModelError, match=words):
        read_tuned(path)


@pytest.mark.parametrize("facts", ["[]", "{}", "3", "{", '{"format": "featx-tuned"}'])
def test_other_facts_are_refused(facts, saved, tmp_path):
    path = write_members(tmp_path / "odd.keras", members(saved[1]) | {"featx.json": facts})
    with pytest.raises(ModelError, match=r"odd\.keras"):
        read_tuned(path)


@pytest.mark.parametrize("damage", ["cut", "middle", "no head", "no weights", "facts cut"])
def test_damage_is_found(damage, saved, tmp_path):
    path = tmp_path / "damaged.keras"
    contents = members(saved[1])
    if damage == "cut":
        path.write_bytes(saved[1].read_bytes()[:-1000])
    elif damage == "middle":
        content = bytearray(saved[1].read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    elif damage == "no head":
        arrays = io.BytesIO(contents["model.weights.h5"])
        with h5py.File(arrays, "r+") as file:
            del file["layers/dense"]
        write_members(path, contents | {"model.weights.h5": arrays.getvalue()})
    elif damage == "no weights":
        del contents["model.weights.h5"]
        write_members(path, contents)
    else:
        facts = json.loads(contents["featx.json"])
        del facts["classes"]
        write_members(path, contents | {"featx.json": json.dumps(facts)})
    with pytest.raises((ModelError, WeightsError), match=r"damaged\.keras"):
        read_tuned(path)


def test_a_network_that_cannot_be_written_keeps_the_old_files(saved, tmp_path, monkeypatch):
    import keras

    network, whole, _ = saved
    (tmp_path / "tuned.keras").write_bytes(whole.read_bytes())

    def fail(self, path, *settings, **more):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", fail)
    with pytest.raises(OutputError, match="GB are free"):
        save_tuned(network, tmp_path, DIGESTS, SUMMARY)
    assert [path.name for path in tmp_path.iterdir()] == ["tuned.keras"]
    assert read_tuned(tmp_path / "tuned.keras").fitted_on == DIGESTS


# Images


@pytest.fixture
def images_and_folder(tmp_path):
    """Eighty images of noise, more than are decoded ahead, and a folder for the pixels."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    files = []
    for k, pixels in enumerate(noise_images(80, size=20)):
        files.append(tmp_path / "in" / f"{k:02d}.png")
        Image.fromarray(pixels).save(files[-1])
    return files, tmp_path / "out"


def test_pixels_are_in_the_rows_of_their_images(images_and_folder):
    files, folder = images_and_folder
    recipe = small_recipe()
    rows = np.random.default_rng(0).permutation(80)[:75]
    calls = []
    pixels = read_pixels(files, rows, recipe, folder, progress=lambda *done: calls.append(done))
    assert pixels.pixels.shape == (80, 16, 16, 3)
    for row in range(80):
        expected = np.zeros((16, 16, 3))
        if row in rows:
            expected = read_image(
                files[row], size=(16, 16), resize=recipe.resize, jpeg=recipe.jpeg
            ).pixels
        np.testing.assert_array_equal(pixels.pixels[row], expected)
    some = np.array([7, 3, 3, 70])
    np.testing.assert_array_equal(pixels.batch(some, 2), np.stack([*pixels.pixels[some]]))
    assert calls[-1] == (75, 75)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert list(folder.iterdir()) == []  # while the pixels can still be used
    assert not pixels.is_activations


def test_images_of_the_right_size_are_not_resized(images_and_folder):
    files, folder = images_and_folder
    recipe = small_recipe(size=(20, 20))
    found = read_pixels(files, np.arange(80), recipe, folder)
    np.testing.assert_array_equal(found.pixels, noise_images(80, size=20))


@pytest.mark.parametrize("damage", ["gone", "text", "large"])
def test_a_file_that_cannot_be_read_is_an_error(damage, images_and_folder):
    files, folder = images_and_folder
    settings = {}
    if damage == "gone":
        files[3].unlink()
    elif damage == "text":
        files[3].write_text("not an image")
    else:
        Image.new("RGB", (30, 30)).save(files[3])
        settings = {"max_pixels": 500}
    with pytest.raises(ImagesError, match=r"03\.png"):
        read_pixels(files, np.arange(10), small_recipe(), folder, **settings)
    assert list(folder.iterdir()) == []
    # Rows that are not requested may be missing.
    read_pixels(files, np.delete(np.arange(10), 3), small_recipe(), folder, **settings)


def test_epochs_use_the_copies_in_turn_and_epoch_0_the_images():
    plain, one, two = np.arange(3, dtype="f2").reshape(3, 1, 1, 1, 1) + np.arange(
        4, dtype="f2"
    ).reshape(1, 4, 1, 1, 1) * np.float16(10)
    shown = Activations(plain, [one, two])
    rows = np.array([2, 0])
    found = [shown.batch(rows, epoch) for epoch in range(6)]
    assert [list(batch.ravel()) for batch in found] == [
        [20, 0],
        *([21, 1], [22, 2], [21, 1], [22, 2], [21, 1]),
    ]
    assert {batch.dtype for batch in found} == {np.dtype("f4")}
    assert all(list(Activations(plain).batch(rows, epoch).ravel()) == [20, 0] for epoch in range(3))
    assert shown.is_activations


# History


def make_history(n=9):
    """Return the result of a training that overfits: the best epoch is at two thirds."""
    history = [EpochRecord(0, 0.0, None, None, 0.9, 0.7, 1.5, 0.0)]
    for k in range(1, n):
        stop = 0.45 + 0.4 * (k / (n - 1) - 0.66) ** 2 + 0.02 * (k % 2)
        history.append(
            EpochRecord(
                k, 1e-3 / k, 1.1 * 0.7**k, 1 - 0.4 * 0.7**k, stop, 0.95 - stop / 5, 2.0, 64.5
            )
        )
    best = int(np.argmin([epoch.stopping_loss for epoch in history]))
    return TrainingResult(
        tuple(history), best, "no improvement in 3 epochs", resumed=0, micro_batch=32
    )


def test_history_has_a_row_for_each_epoch(tmp_path):
    trained = make_history()
    write_history(tmp_path, trained)
    with (tmp_path / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in dataclasses.fields(EpochRecord)]
    assert len(rows) == 9
    for row, epoch in zip(rows, trained.history, strict=True):
        expected = {k: "" if v is None else str(v) for k, v in dataclasses.asdict(epoch).items()}
        assert row == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "learning-curve.png"]


@pytest.mark.parametrize("n", [1, 2, 9])
def test_the_curve_shows_losses_and_accuracies_by_epoch(n, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig

    def keep(figure, *settings, **more):
        drawn.append(figure)
        save(figure, *settings, **more)

    monkeypatch.setattr(Figure, "savefig", keep)
    trained = make_history(n)
    write_history(tmp_path, trained)
    with Image.open(tmp_path / "learning-curve.png") as image:
        image.load()
        assert image.size == (960, 432)
    loss, accuracy = drawn[0].axes
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        lines = {line.get_label(): line for line in axes.lines}
        stop = [getattr(epoch, f"stopping_{name}") for epoch in trained.history]
        x, y = lines["early-stopping set"].get_data()
        assert (list(x), list(y)) == (list(range(n)), stop)
        x, y = lines["training set"].get_data()
        assert list(x) == list(range(1, n))
        assert list(y) == [getattr(epoch, name) for epoch in trained.history[1:]]
        best = lines[f"best: epoch {trained.best}"].get_data()
        assert [list(v) for v in best] == [[trained.best], [stop[trained.best]]]
        assert axes.get_xlabel() == "epoch"
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [*lines]


def records(path):
    """Return the records of an event file: length, checksum, record, checksum."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(content[12 : 12 + length])
        content = content[16 + length :]
    return found


def test_tensorboard_finds_an_event_for_each_epoch(tmp_path):
    event_pb2 = pytest.importorskip("tensorflow.core.util.event_pb2")
    tensor_util = pytest.importorskip("tensorflow.python.framework.tensor_util")
    log = TensorBoardLog(tmp_path / "events")
    trained = make_history(4)
    for epoch in trained.history:
        log.add(epoch)
    (path,) = (tmp_path / "events").iterdir()
    found = {}
    for record in records(path):
        event = event_pb2.Event.FromString(record)
        for value in event.summary.value:
            # With the package tensorboard, TensorFlow writes tensors instead of numbers.
            is_plain = value.WhichOneof("value") == "simple_value"
            number = value.simple_value if is_plain else tensor_util.MakeNdarray(value.tensor)
            found[value.tag, event.step] = float(number)
    expected = {
        (name, epoch.epoch): value
        for epoch in trained.history
        for name, value in dataclasses.asdict(epoch).items()
        if value is not None and name != "epoch"
    }
    assert found == pytest.approx(expected)


# Results of featx 0.1

EARLIER = Path(__file__).parent / "data" / "results-0.1"


@pytest.fixture
def earlier_images(tmp_path, monkeypatch):
    """The images that the fine-tuning of 0.1 was made with, in data/."""
    spec = importlib.util.spec_from_file_location(
        "make_golden_results", EARLIER.parent / "make_golden_results.py"
    )
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    monkeypatch.chdir(tmp_path)
    golden.write_images(Path("data"))
    return sorted(Path("data").glob("*/*.png"))


def test_a_tuned_network_of_0_1_predicts_the_same(earlier_images):
    """Its probabilities are those that 0.1 predicted."""
    table = featx.predict(earlier_images, model=EARLIER / "tuned.keras")
    with np.load(EARLIER / "expected_tuned.npz") as expected:
        np.testing.assert_allclose(table.filter(like="p_"), expected["probabilities"], atol=1e-5)


def test_a_run_of_0_1_is_read():
    """Its keys get the names of this version; the numbers stay."""
    found = read_finetuned(EARLIER / "run.json")
    before = json.loads((EARLIER / "run.json").read_text())
    assert found.facts["format_version"] == 2
    assert found.facts["split"] == {
        "train": 24,
        "early_stopping": 4,
        "test": 8,
        "test_from": "a fold of 5",
    }
    assert found.facts["training"] == before["tuning"]
    assert [record.stopping_loss for record in found.training.history] == [
        record["stop_loss"] for record in before["history"]
    ]
    assert dataclasses.asdict(found.scores["tuned"]) == before["tuned"]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": "other"}', '{"format": "featx-finetuning"}', "version"]
)
def test_a_damaged_run_is_refused_with_what_makes_it_again(tmp_path, text):
    """So is a run of a newer version."""
    if text == "version":
        facts = json.loads((EARLIER / "run.json").read_text())
        text = json.dumps(facts | {"format_version": 3})
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ModelError, match=r"run\.json.*featx finetune -o .*--overwrite"):
        read_finetuned(tmp_path / "run.json")


def test_a_finished_run_of_0_1_is_not_trained_again(earlier_images, tmp_path):
    """The same settings return its result, as for a run of this version."""
    settings = {"size": 32, "layer": "block1_pool", "init": "random:7", "epochs": 1}
    shutil.copytree(EARLIER, tmp_path / "tuned", ignore=shutil.ignore_patterns("codes.h5"))
    for name in ("tuned.weights.h5", "probe.skops", "fit_on_tuned.skops", "history.csv"):
        (tmp_path / "tuned" / name).write_bytes(b"")
    for path in (tmp_path / "tuned").glob("*.*"):
        if path.suffix in {".npz", ".joblib"} or path.name == "sweep.json":
            path.unlink()
    (tmp_path / "tuned" / "parts.csv").write_text("")
    featx.extract(
        "data", layer="block1_pool", pool="avg", size=32, weights="random:7",
        grey="pillow", output=tmp_path / "tuned/codes.h5",
    )  # fmt: skip
    found = featx.finetune("data", output=tmp_path / "tuned", **settings)
    assert found.facts == read_finetuned(EARLIER / "run.json").facts

"""A predictor in a service: images from memory, in every way that programs have them."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import featx
from featx.errors import ImageError, OptionError

TINY = {"layer": "block1_pool", "pool": "avg", "size": 32}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """A folder with data/ and model.skops, made with random weights."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    featx.extract(folder / "data", output=folder / "codes.h5", weights="random:0", **TINY)
    featx.fit(folder / "codes.h5", clf="ridge", output=folder / "model.skops", baselines=False)
    return folder


@pytest.fixture(scope="module")
def predictor(made):
    return featx.load_predictor(made / "model.skops")


@pytest.fixture(scope="module")
def file(made):
    return made / "data/val/green/1.png"


KINDS = {
    "path": lambda file: file,
    "text": str,
    "bytes": Path.read_bytes,
    "file object": lambda file: io.BytesIO(file.read_bytes()),
    "open file": lambda file: file.open("rb"),
    "Pillow image": Image.open,
    "array": lambda file: np.asarray(Image.open(file)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_each_kind_of_image_gives_the_result_of_predict(made, predictor, file, kind):
    """Labels and probabilities are those of the table."""
    table = featx.predict(file, model=made / "model.skops")
    labels, probabilities = predictor([KINDS[kind](file)])
    assert list(labels) == list(table["label"]) == ["green"]
    np.testing.assert_allclose(probabilities, table.filter(like="p_"), rtol=1e-5)
    assert predictor.classes == ("blue", "green", "red")


def test_many_images_of_mixed_kinds_are_in_order(made, predictor):
    """More images than a batch, of several sizes."""
    files = sorted((made / "data").glob("*/*/*.png")) * 3
    mixed = [list(KINDS.values())[k % 4](file) for k, file in enumerate(files)]
    found = predictor(mixed)
    assert list(found.labels) == [file.parent.name for file in files]
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    same = [predictor([file]).probabilities[0] for file in files[:4]]
    np.testing.assert_allclose(found.probabilities[:4], same, rtol=1e-4)


def test_a_stack_and_grey_images_are_images(predictor, file):
    """An array with a batch axis; grey is repeated."""
    pixels = np.asarray(Image.open(file))
    assert predictor(np.stack([pixels] * 3)).labels.tolist() == ["green"] * 3
    grey = pixels[..., 0]
    repeated = np.dstack([grey] * 3)
    np.testing.assert_array_equal(
        predictor([grey]).probabilities, predictor([repeated]).probabilities
    )
    assert predictor([]).probabilities.shape == (0, 3)


def test_a_photo_is_turned_as_from_its_file(tmp_path, predictor, file):
    """The EXIF orientation of a Pillow image counts."""
    exif = Image.Exif()
    exif[274] = 6
    photo = Image.open(file).resize((64, 32))
    photo.paste((255, 0, 0), (0, 0, 20, 32))
    photo.save(tmp_path / "x.png", exif=exif)
    of_file = predictor([tmp_path / "x.png"]).probabilities
    np.testing.assert_allclose(predictor([Image.open(tmp_path / "x.png")]).probabilities, of_file)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((375, 500, 3), np.uint8),
        np.zeros((375, 500), np.uint8),
        "cat.png",
        b"GIF",
        io.BytesIO(),
        Image.new("RGB", (9, 9)),
        None,
        [None],
        [1.5],
        [np.zeros((9, 9, 3))],
        [np.zeros((9, 9, 2), np.uint8)],
        [np.zeros((0, 9, 3), np.uint8)],
        [io.StringIO("text")],
        [[1, 2]],
    ],
    ids=lambda images: type(images).__name__,
)
def test_anything_else_is_refused(predictor, images):
    """One image without a list would be read as many."""
    with pytest.raises(OptionError):
        predictor(images)


@pytest.mark.parametrize("item", [b"", b"hello", "no.png", io.BytesIO(b"\x89PNG")])
def test_an_image_that_cannot_be_read_is_named_by_its_position(predictor, file, item):
    """A service has no path to name."""
    with pytest.raises(ImageError, match=r"\b1\b.*cannot be read"):
        predictor([file, item])


def test_closed_files_and_half_images_are_errors(predictor, file):
    """They are featx's, whatever Pillow raises."""
    closed = io.BytesIO(b"x")
    closed.close()
    data = io.BytesIO(file.read_bytes()[:200])
    for item in (closed, Image.open(data)):
        with pytest.raises(ImageError, match=r"\b0\b"):
            predictor([item])


def test_nothing_is_loaded_again(made, monkeypatch, file):
    """After loading, neither the model, the weights nor the network are touched."""
    predictor = featx.load_predictor(made / "model.skops")
    predictor([file])

    def refuse(*arguments, **options):
        raise AssertionError

    for name in ("load_model", "find_weights"):
        monkeypatch.setattr(f"featx.workflows.predicting.prepare.{name}", refuse)
    monkeypatch.setattr("featx.workflows.predicting.predictor.load_backbone", refuse)
    monkeypatch.setattr("featx.fitting.model.load_model", refuse)
    pixels = np.asarray(Image.open(file))
    for _ in range(20):
        assert predictor([pixels]).labels == ["green"]


def test_threads_share_it(made, predictor):
    """Each call gets its own result."""
    files = sorted((made / "data").glob("*/*/*.png"))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda file: predictor([file]).labels[0], files * 2))
    assert found == [file.parent.name for file in files * 2]


def test_its_text_is_short(predictor):
    """A service logs it."""
    assert len(repr(predictor)) < 1000
    assert "ridge" in repr(predictor).lower()


def test_the_transformer_refuses_one_image(predictor):
    """An array of shape (375, 500, 3) is not 375 grey images."""
    codes = featx.VGG19Codes("block1_pool", pool="avg", size=32, weights="random:0")
    for shape in ((375, 500, 3), (40, 40, 4), (40, 40)):
        with pytest.raises(OptionError, match=str(shape[0])):
            codes.fit(np.zeros(shape, np.uint8))
    assert codes.fit_transform(np.zeros((3, 40, 48), np.uint8)).shape == (3, 64)

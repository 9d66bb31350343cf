"""Fixtures that several test files share. Images are drawn here; none is downloaded."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import stores
from PIL import Image
from threadpoolctl import threadpool_limits

from featx.cli import main


def pytest_collection_modifyitems(items):
    """Begin with the test that takes longest, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.name != "test_the_tour_runs_and_prints_what_is_shown")


COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


@pytest.fixture(scope="session")
def make_image_folder():
    """Return a function that draws train/CLASS and val/CLASS: three colours, 6 and 3 each."""

    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        for split, n_images in (("train", 6), ("val", 3)):
            for name, colour in COLOURS.items():
                (folder / split / name).mkdir(parents=True)
                for i in range(n_images):
                    pixels = rng.integers(0, 50, (40, 48, 3)) + np.array(colour)
                    image = Image.fromarray(pixels.astype(np.uint8))
                    image.save(folder / split / name / f"{i}.png")
        return folder

    return make


@pytest.fixture
def image_folder(tmp_path, make_image_folder):
    """A folder data/ of 27 small images, alone in a temporary folder."""
    return make_image_folder(tmp_path / "data")


@pytest.fixture
def run(monkeypatch, capsys):
    """Run `featx` with arguments; return exit code, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["featx", *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
        else:
            code = 0
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="session")
def shared():
    """The folder with real weights and images that are not part of the repository."""
    folder = Path(os.environ.get("FEATX_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real weights and images in {folder}; set FEATX_SHARED")
    return folder


@pytest.fixture(scope="module")
def one_thread():
    """scikit-learn on one thread: on tiny problems two spend their time waiting for each other."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def one_unsafe_batch(monkeypatch):
    """A batch is in the store before the next one is written, so an interruption is exact."""
    monkeypatch.setattr("featx.extraction.filling._UNSAFE_BATCHES", 1)


@pytest.fixture(scope="module")
def worker():
    """Return the process that opens malicious files."""
    from fuzzing import Worker

    made = Worker()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def make_store():
    """A function that writes a store; of the session, so that hypothesis may use it."""
    return stores.make_store


@pytest.fixture
def store_of(tmp_path, make_store):
    """Return a function that writes tmp_path/codes.h5 with the given labels."""
    from fits import make_codes

    def write(labels, splits=None, groups=None, codes=None, **keywords) -> Path:
        codes = codes or make_codes([label or "" for label in labels])
        return make_store(tmp_path / "codes.h5", codes, labels, splits, groups, **keywords)

    return write

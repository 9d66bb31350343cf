"""Fixtures that several test files share; pictures are drawn here, none is downloaded."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
    """A folder data/ of 27 small pictures, alone in a temporary folder."""
    return make_image_folder(tmp_path / "data")


@pytest.fixture(scope="session")
def shared():
    """The folder with real weights and images that are not part of the repository."""
    folder = Path(os.environ.get("FEATX_SHARED", Path(__file__).parents[2] / "shared"))
    if not (folder / "weights").is_dir():
        pytest.skip(f"no real weights and images in {folder}; set FEATX_SHARED")
    return folder

"""Features of raw pixels: pixel values and colour histograms."""

import numpy as np
import pytest

from featx.codes.matrix import CodeMatrix
from featx.codes.pixels import pixel_features


def test_two_pixels_by_hand():
    """Each pixel counts once, in the bin of its shades of red, green and blue."""
    thumbnails = np.array([[[[0, 64, 255], [63, 127, 192]]]], np.uint8)  # one image, 1 x 2
    matrix = pixel_features(thumbnails)
    assert isinstance(matrix, CodeMatrix)
    assert matrix.widths == (6, 64)
    row = matrix.block(np.array([0]))[0]
    assert row[:6].tolist() == [-127.5, -63.5, 127.5, -64.5, -0.5, 64.5]
    # Both have the shades red 0, green 1, blue 3 of 4: bin 0 * 16 + 1 * 4 + 3.
    assert np.flatnonzero(row[6:]).tolist() == [7]
    assert row[6 + 7] == 2


@pytest.mark.parametrize(
    ("colour", "bin_"),
    [((0, 0, 0), 0), ((255, 0, 0), 48), ((0, 255, 0), 12), ((0, 0, 255), 3), ((255,) * 3, 63)],
)
def test_each_colour_has_its_bin(colour, bin_):
    thumbnails = np.full((1, 5, 4, 3), colour, np.uint8)
    histogram = pixel_features(thumbnails).layers[1]
    assert histogram.shape == (1, 64)
    assert np.flatnonzero(histogram[0]).tolist() == [bin_]
    assert histogram[0, bin_] == 20


def test_rows_depend_on_their_image_only():
    """Every pixel is counted, and the input is not modified."""
    thumbnails = np.random.default_rng(0).integers(0, 256, (6, 8, 5, 3)).astype(np.uint8)
    before = thumbnails.copy()
    rows = pixel_features(thumbnails).block(np.arange(6))
    assert rows.shape == (6, 8 * 5 * 3 + 64)
    assert rows.dtype == np.float32
    alone = [pixel_features(image[None]).block(np.array([0]))[0] for image in thumbnails]
    assert np.array_equal(rows, alone)
    assert np.array_equal(rows[:, :120] + 127.5, thumbnails.reshape(6, -1))
    assert np.array_equal(rows[:, 120:].sum(axis=1), np.full(6, 40))
    assert np.array_equal(pixel_features(thumbnails[::-1]).block(np.arange(6)), rows[::-1])
    assert np.array_equal(thumbnails, before)


def test_histograms_count_as_numpy_does():
    thumbnails = np.random.default_rng(1).integers(0, 256, (3, 9, 9, 3)).astype(np.uint8)
    found = pixel_features(thumbnails).layers[1]
    for image, histogram in zip(thumbnails, found, strict=True):
        expected, _ = np.histogramdd(image.reshape(-1, 3), bins=4, range=[(0, 256)] * 3)
        assert np.array_equal(histogram.reshape(4, 4, 4), expected)

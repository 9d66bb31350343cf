"""Duplicates: copies are found, similar images are not, and memory does not grow with n²."""

import itertools
import re
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance
from sklearn.datasets import load_digits

from featx.dataset import duplicates
from featx.dataset.duplicates import (
    DuplicatePair,
    duplicate_notes,
    find_duplicates,
    with_conflicting_labels,
)
from featx.dataset.folds import group_numbers
from featx.images import read_image, to_rgb
from featx.store import open_store

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def facts(tmp_path):
    """Return a function that saves images, reads them again and returns their facts."""
    numbers = itertools.count()

    def describe(images: Iterable[Image.Image], **saving):
        saving = {"format": "PNG", **saving}
        read = []
        for image in images:
            file = tmp_path / f"{next(numbers)}.image"
            image.save(file, **saving)
            read.append(read_image(file, (32, 32), "squash", jpeg="full"))
        return (
            np.array([image.sha256 for image in read], object),
            np.array([image.phash for image in read], np.uint64),
            np.stack([image.thumbnail for image in read]),
        )

    return describe


def joined(*parts):
    """Concatenate the facts of several lists of images."""
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def scene(seed: int, size: tuple[int, int] = (160, 120), spread: float = 200) -> Image.Image:
    """Draw an image like a photograph: shapes of several sizes, and noise."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    for n_cells, weight in ((3, 1.0), (8, 0.7), (24, 0.4)):
        cells = rng.integers(0, 256, (n_cells, n_cells, 3), dtype=np.uint8)
        layer = Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)
        total += weight * np.asarray(layer, float) / 2.1
    total += rng.normal(0, 4, total.shape)
    low, high = np.quantile(total, (0.02, 0.98))
    values = 127 + (np.clip(total, low, high) - (low + high) / 2) * spread / (high - low)
    return Image.fromarray(values.round().astype(np.uint8))


def face(mouth: tuple[int, int], mood: str) -> Image.Image:
    """Draw a yellow face on white."""
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((2, 2, 61, 61), fill=(255, 200, 60))
    for x in (20, 40):
        draw.ellipse((x, 20, x + 5, 27), fill=(90, 60, 20))
    start, end = mouth
    if mood == "line":
        draw.line((start, 46, end, 46), fill=(90, 60, 20), width=3)
    else:
        draw.ellipse((start, 38, end, 54), fill=(90, 60, 20))
    return image


def flag(*colours: tuple[int, int, int]) -> Image.Image:
    bands = np.repeat(np.array(colours, np.uint8)[:, None], 60, axis=1)
    return Image.fromarray(bands).resize((60, 42), Image.Resampling.NEAREST)


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = round(image.width * factor), round(image.height * factor)
    return image.resize(size, Image.Resampling.LANCZOS)


def brighter(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def ends(pairs: Iterable[DuplicatePair]) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in pairs]


def planted(n: int) -> list[tuple[int, int]]:
    """Return the expected pairs of n images followed by their n copies."""
    return [(i, i + n) for i in range(n)]


def coarse(seed: int) -> np.ndarray:
    """Return a random thumbnail of 8x8 cells, with mean 0 and standard deviation 1."""
    spots = np.random.default_rng(seed).normal(size=(8, 8, 3))
    values = spots.repeat(4, axis=0).repeat(4, axis=1)
    return (values - values.mean()) / values.std()


def as_thumbnails(values: Iterable[np.ndarray]) -> np.ndarray:
    return np.clip(127 + 30 * np.stack(list(values)), 0, 255).round().astype(np.uint8)


def distinct(n: int) -> np.ndarray:
    return np.array([f"{i:064x}" for i in range(n)], object)


def alike(n: int) -> np.ndarray:
    """Return hashes that exclude no pair."""
    return np.zeros(n, np.uint64)


# the same bytes


def test_files_with_the_same_bytes_are_paired_with_the_first(facts):
    """Three equal files make two pairs; other images between them do not matter."""
    a, b = scene(0), scene(1)
    pairs = find_duplicates(*facts([a, b, a, b, a]))
    assert pairs == (
        DuplicatePair(0, 2, True, 1.0),
        DuplicatePair(0, 4, True, 1.0),
        DuplicatePair(1, 3, True, 1.0),
    )


def test_unknown_hashes_equal_nothing():
    """Files that could not be read have no hashes and no thumbnail."""
    blank = np.zeros((3, 32, 32, 3), np.uint8)
    assert find_duplicates(np.array(["", "", ""], object), alike(3), blank) == ()


def test_near_duplicates_are_paired_with_the_first_of_equal_files(facts):
    """Only the first of the files with the same bytes is compared with others."""
    a, b = scene(0), scene(1)
    pairs = find_duplicates(*joined(facts([a, a, b]), facts([b, a], format="JPEG", quality=80)))
    found = [(pair.first, pair.second, pair.exact) for pair in pairs]
    assert found == [(0, 1, True), (0, 4, False), (2, 3, False)]


def test_no_images():
    empty = np.empty((0, 32, 32, 3), np.uint8)
    assert find_duplicates(np.empty(0, object), np.empty(0, np.uint64), empty) == ()


# near-duplicates


COPIES = {
    "jpeg 30": (lambda image: image, {"format": "JPEG", "quality": 30}),
    "half": (lambda image: scaled(image, 0.5), {}),
    "71 %": (lambda image: scaled(image, 0.71), {"format": "JPEG", "quality": 60}),
    "double": (lambda image: scaled(image, 2), {}),
    "brighter by 30 %": (lambda image: brighter(image, 1.3), {}),
    "darker by 30 %": (lambda image: brighter(image, 0.7), {}),
    "contrast": (lambda image: ImageEnhance.Contrast(image).enhance(1.3), {}),
}


@pytest.mark.parametrize("name", COPIES)
def test_planted_copies_are_found_and_nothing_else(facts, name):
    """Each of six scenes is paired with its own copy."""
    change, saving = COPIES[name]
    scenes = [scene(seed) for seed in range(6)]
    pairs = find_duplicates(*joined(facts(scenes), facts(map(change, scenes), **saving)))
    assert ends(pairs) == planted(6)
    assert not any(pair.exact for pair in pairs)
    assert all(0.95 <= pair.correlation <= 1 + 1e-5 for pair in pairs)


def test_clipped_copies_are_found(facts):
    """Without matching the brightness, the correlation would be too low."""
    original = scene(3, spread=230)
    table = joined(facts([original]), facts([brighter(original, 1.8)]))
    plain = np.corrcoef(table[2].reshape(2, -1).astype(float))[0, 1]
    (pair,) = find_duplicates(*table)
    assert plain < 0.93
    assert pair.correlation > 0.99


def test_the_order_of_original_and_copy_does_not_matter(facts):
    original = scene(3, spread=230)
    table = facts([original, brighter(original, 1.8)])
    (there,) = find_duplicates(*table)
    (back,) = find_duplicates(*(column[::-1] for column in table))
    assert there.correlation == pytest.approx(back.correlation, abs=1e-5)


def test_the_correlation_is_that_of_numpy_if_nothing_is_clipped(facts):
    """The correlation is over all channels, after subtracting one mean."""
    original = scene(4, spread=150)
    table = joined(facts([original]), facts([original], format="JPEG", quality=30))
    assert table[2].min() > 3
    assert table[2].max() < 252
    (pair,) = find_duplicates(*table)
    expected = np.corrcoef(table[2].reshape(2, -1).astype(float))[0, 1]
    assert pair.correlation == pytest.approx(expected, abs=1e-5)


# similar images that are different


def test_faces_with_a_common_outline_are_different(facts):
    """Their values correlate like those of copies, but their differences do not."""
    table = facts([face((22, 43), "line"), face((24, 40), "round")])
    assert np.corrcoef(table[2].reshape(2, -1).astype(float))[0, 1] > 0.95
    assert np.bitwise_count(table[1][0] ^ table[1][1]) <= 20
    assert find_duplicates(*table) == ()


def test_copies_of_faces_are_found(facts):
    """The test that separates faces does not reject their copies."""
    faces = [face((22, 43), "line"), face((24, 40), "round")]
    table = joined(facts(faces), facts(faces, format="JPEG", quality=60))
    assert ends(find_duplicates(*table)) == [(0, 2), (1, 3)]


def test_flags_that_differ_only_in_colour_are_different(facts):
    """The hash ignores colours, and these grey values are equal."""
    white, dark = (255, 255, 255), (60, 60, 60)
    table = facts([flag((200, 40, 40), white, dark), flag((31, 127, 31), white, dark)])
    assert np.bitwise_count(table[1][0] ^ table[1][1]) <= 2
    assert find_duplicates(*table) == ()


def test_a_scene_in_another_tint_is_different(facts):
    """Neither the hash nor the differences between pixels depend on the tint."""
    grey = np.asarray(scene(0, spread=160).convert("L"), int)[..., None]
    tints = (np.array([25, -12, -2]), np.array([-25, 12, 2]))
    table = facts([Image.fromarray((grey + tint).astype(np.uint8)) for tint in tints])
    assert np.bitwise_count(table[1][0] ^ table[1][1]) <= 2
    assert duplicates._correlations(*table[2][:, None].astype(np.float32))[1] > 0.99
    assert find_duplicates(*table) == ()


def test_blank_images_have_no_near_duplicates(facts):
    """This holds for all colours and for noise."""
    rng = np.random.default_rng(0)
    noisy = [Image.fromarray(rng.integers(118, 123, (32, 32, 3), dtype=np.uint8)) for _ in range(2)]
    plain = [Image.new("RGB", (50, 40), colour) for colour in ("black", "white", "red", "#900")]
    table = joined(facts(plain + noisy), facts(plain + noisy, format="JPEG"))
    different = np.array([f"{i:064x}" for i in range(len(table[0]))], object)
    assert find_duplicates(different, *table[1:]) == ()


def test_blank_files_with_the_same_bytes_are_exact(facts):
    assert ends(find_duplicates(*facts([Image.new("RGB", (8, 8), "red")] * 2))) == [(0, 1)]


def test_a_faint_common_pattern_is_not_enough():
    """Two files share a rounding pattern of less than one grey level."""
    pattern = (np.indices((32, 32)).sum(0) // 8 % 2).astype(np.uint8)[..., None]
    thumbnails = np.stack([np.broadcast_to(200 + pattern, (32, 32, 3))] * 2)
    assert find_duplicates(distinct(2), alike(2), thumbnails) == ()
    strong = np.stack([np.broadcast_to(200 + 9 * pattern, (32, 32, 3))] * 2)
    assert ends(find_duplicates(distinct(2), alike(2), strong)) == [(0, 1)]


def test_drawings_in_black_and_white_are_compared(facts):
    """All of their values may have been clipped, so all are used to match the brightness."""
    rng = np.random.default_rng(0)
    drawings = [
        Image.fromarray((rng.random((8, 8)) < 0.5).repeat(4, 0).repeat(4, 1)).convert("RGB")
        for _ in range(3)
    ]
    table = joined(facts(drawings), facts(drawings, format="JPEG", quality=90))
    assert set(np.unique(table[2][:3])) == {0, 255}
    assert ends(find_duplicates(*table)) == planted(3)


def test_a_negative_is_another_image():
    values = coarse(0)
    assert find_duplicates(distinct(2), alike(2), as_thumbnails([values, -values])) == ()


def test_hashes_exclude_pairs():
    """Pairs with 20 different bits are compared, pairs with 21 are not."""
    thumbnails = as_thumbnails([coarse(0)] * 2)
    for n_bits, expected in ((20, [(0, 1)]), (21, [])):
        for lowest in (0, 64 - n_bits):
            hashes = np.array([0, (2**n_bits - 1) << lowest], np.uint64)
            assert ends(find_duplicates(distinct(2), hashes, thumbnails)) == expected


# connected images


def test_only_compared_pairs_are_listed():
    """Both ends are copies of the middle image, but not of each other."""
    middle, change = coarse(0), coarse(1)
    thumbnails = as_thumbnails([middle + 0.27 * change, middle, middle - 0.27 * change])
    assert ends(find_duplicates(distinct(3), alike(3), thumbnails)) == [(0, 1), (1, 2)]
    assert find_duplicates(distinct(2), alike(2), thumbnails[::2]) == ()


def test_a_chain_is_not_identity():
    """Each image is a copy of the next, but the first and the last have nothing in common."""
    start, other = coarse(0), coarse(1)
    angles = np.arange(6) * np.arccos(0.97)
    steps = as_thumbnails([np.cos(a) * start + np.sin(a) * other for a in angles])
    pairs = ends(find_duplicates(distinct(6), alike(6), steps))
    assert pairs
    groups = group_numbers([None] * 6, pairs=pairs)
    assert np.bincount(groups).max() <= 3
    for i, j in pairs:
        assert j == i + 1


def test_every_image_of_a_group_was_compared_with_one_representative():
    """Image 2 is the closest to all others, and copies of it are not paired again."""
    middle, change = coarse(0), coarse(1)
    steps = (0.27, -0.27, 0, 0.1)
    thumbnails = as_thumbnails(middle + step * change for step in steps)
    assert ends(find_duplicates(distinct(4), alike(4), thumbnails)) == [(0, 2), (1, 2), (2, 3)]


def test_frames_of_one_scene_make_one_pair_fewer_than_frames():
    """300 frames of six scenes make 294 pairs, not 7,350."""
    rng = np.random.default_rng(0)
    frames = as_thumbnails(map(coarse, range(6))).repeat(50, axis=0).astype(int)
    frames += rng.integers(-3, 4, (300, 1, 1, 1)) + rng.integers(-1, 2, frames.shape)
    pairs = ends(find_duplicates(distinct(300), alike(300), frames.clip(0, 255).astype(np.uint8)))
    assert len(pairs) == 294
    assert np.bincount(group_numbers([None] * 300, pairs=pairs)).tolist() == [50] * 6


# images that look alike


def board(seed: int, defect: str = "") -> Image.Image:
    """Photograph one board: other light, noise, up to two pixels of shift, and perhaps a defect."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(seed)
    image = Image.new("RGB", (320, 320), (30, 90, 50))
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = fixed.integers(0, 280, 2)
        width, height = fixed.integers(8, 50, 2)
        colour = tuple(int(v) for v in fixed.integers(0, 255, 3))
        draw.rectangle((x, y, x + width, y + height), fill=colour)
    x, y = rng.integers(30, 260, 2)
    if defect == "blob":
        draw.ellipse((x, y, x + 26, y + 26), fill=(20, 20, 20))
    values = np.asarray(image, float) * rng.uniform(0.85, 1.1)
    values += rng.normal(0, 8, values.shape)
    values = np.roll(values, tuple(rng.integers(-2, 3, 2)), (0, 1))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def test_photographs_under_a_fixed_camera_are_different(facts):
    """They correlate by 0.99; a few without a defect and with the same shift are linked."""
    images = [board(seed, ("", "blob")[seed % 2]) for seed in range(60)]
    table = facts(images, format="JPEG", quality=90)
    sketches = duplicates.sketches_of(table[2])
    assert (sketches @ sketches.T).min() > 0.9
    pairs = ends(find_duplicates(*table))
    assert len(pairs) <= 6
    assert np.bincount(group_numbers([None] * 60, pairs=pairs)).max() <= 4


def test_scanned_digits_are_different_and_their_copies_are_found(facts):
    """Digits of one class come at all distances, so that none is a copy of another."""
    digits = load_digits()
    scans = digits.images[np.isin(digits.target, (1, 6))][:150]
    images = [
        Image.fromarray((15.9 * scan).astype(np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
        for scan in scans
    ]
    originals = facts([image.convert("RGB") for image in images])
    assert find_duplicates(*originals) == ()
    saved = facts([scaled(image.convert("RGB"), 0.8) for image in images], format="JPEG")
    found = ends(find_duplicates(*joined(originals, saved)))
    assert set(found) <= set(planted(150))
    assert len(found) >= 148


@pytest.mark.parametrize("share", [0.02, 0.01])
def test_images_with_cut_edges_are_found(facts, share):
    """Cutting the edges moves and stretches the image, by less than a pixel of the thumbnail."""
    scenes = [scene(seed) for seed in range(12)]
    cut = [
        image.crop(
            (
                x := round(share * image.width),
                y := round(share * image.height),
                image.width - x,
                image.height - y,
            )
        )
        for image in scenes
    ]
    found = ends(find_duplicates(*joined(facts(scenes), facts(cut, format="JPEG", quality=80))))
    assert set(found) <= set(planted(12))
    assert len(found) >= 11


def test_a_position_is_matched_like_an_affine_change():
    """A smooth image that was moved by half a pixel and stretched by 2 % is reproduced."""
    place = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    step = place[1]

    def smooth(x, y):
        waves = (
            np.sin(x)[None, :, None]
            + np.cos(2 * y)[:, None, None]
            + np.sin(x[None] + y[:, None])[..., None]
        )
        return (127 + 30 * np.broadcast_to(waves, (32, 32, 3)))[None].astype(np.float32)

    one, other = smooth(place, place), smooth(1.02 * place + step / 2, place - step / 4)
    before = np.abs(one - other).mean()
    terms = duplicates._terms(one)
    after = np.abs(duplicates._matched(terms, other, one) - other)[:, 2:-2, 2:-2].mean()
    assert after < before / 8


def test_copies_of_different_quality_are_one_group(facts):
    """The nearest copy, which is nearly equal, does not make the others look distant."""
    scenes = [scene(seed) for seed in range(24)]
    table = joined(
        facts(scenes),
        facts(scenes, format="JPEG", quality=95),
        facts([brighter(image, 1.3) for image in scenes], format="JPEG", quality=40),
    )
    pairs = ends(find_duplicates(*table))
    groups = group_numbers([None] * 72, pairs=pairs)
    assert np.bincount(groups).tolist() == [3] * 24


def test_a_large_part_of_linked_images_is_reported_with_what_to_do():
    """Two of three images are linked, so that the note names the setting."""
    pairs = [DuplicatePair(0, 1, False, 0.99)]
    paths = np.array(["a.png", "b.png", "c.png"], object)
    notes = duplicate_notes(pairs, paths, np.array(["x", "y", "x"]))
    assert len(notes) == 3
    assert re.search("2 of 3 images.*--duplicates keep", notes[1])
    many = duplicate_notes(pairs, np.array([*paths] * 5, object), np.array(["x"] * 15))
    assert len(many) == 1
    exact = [DuplicatePair(0, 1, True, 1.0)]
    assert len(duplicate_notes(exact, paths, np.array(["x", "x", "x"]))) == 1


# blocks and memory


@pytest.mark.parametrize("n_bytes", [1, 3_000, 400_000])
def test_results_do_not_depend_on_blocks(monkeypatch, n_bytes):
    """Distances that were computed in different blocks differ by rounding."""
    rng = np.random.default_rng(0)
    originals = as_thumbnails(map(coarse, range(20)))
    copies = originals[::-1] // 2 + rng.integers(0, 3, originals.shape, dtype=np.uint8)
    thumbnails = np.concatenate([originals, copies, originals[:5] + np.uint8(1)])
    expected = find_duplicates(distinct(45), alike(45), thumbnails)
    assert len(expected) == 25
    monkeypatch.setattr(duplicates, "_BLOCK_BYTES", n_bytes)
    found = find_duplicates(distinct(45), alike(45), thumbnails)
    assert ends(found) == ends(expected)
    np.testing.assert_allclose(
        [pair.correlation for pair in found], [pair.correlation for pair in expected], atol=1e-5
    )


@pytest.mark.parametrize("hashes", ["alike", "random"])
def test_memory_does_not_grow_with_the_square(monkeypatch, hashes):
    """Four times as many images have four times as many sketches, in blocks of the same size."""
    monkeypatch.setattr(duplicates, "_BLOCK_BYTES", 500_000)
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (1_000, 32, 32, 3), dtype=np.uint8)
    phash = alike(1_000)
    if hashes == "random":
        phash = rng.integers(0, 2**64, 1_000, dtype=np.uint64)
    sha256 = distinct(1_000)
    peaks = []
    for n in (250, 1_000):
        tracemalloc.start()
        assert find_duplicates(sha256[:n], phash[:n], thumbnails[:n]) == ()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3.5 * peaks[0]
    assert peaks[1] < 4_000_000


@pytest.fixture
def compared(monkeypatch):
    """Return a list of how many thumbnails each call compares."""
    numbers = []
    compare = duplicates._compare

    def counting(ones, others, least_edges):
        numbers.append(len(others))
        return compare(ones, others, least_edges)

    monkeypatch.setattr(duplicates, "_compare", counting)
    return numbers


def test_frames_of_one_scene_are_not_all_compared(compared):
    """Images that have a representative are skipped before thumbnails are compared."""
    thumbnails = as_thumbnails(map(coarse, range(5))).repeat(20, axis=0)
    find_duplicates(distinct(100), alike(100), thumbnails)
    assert sum(compared) == 95


def test_images_with_equal_hashes_are_not_all_compared(compared):
    """Sketches exclude all pairs."""
    find_duplicates(distinct(50), alike(50), as_thumbnails(map(coarse, range(50))))
    assert sum(compared) == 0


def test_inputs_are_not_modified():
    thumbnails = as_thumbnails([coarse(0)] * 2)
    thumbnails.flags.writeable = False
    before = thumbnails.copy()
    find_duplicates(distinct(2), alike(2), thumbnails)
    np.testing.assert_array_equal(thumbnails, before)


# labels


def test_pairs_with_two_labels_conflict():
    """A missing label differs from none."""
    pairs = tuple(DuplicatePair(0, i, True, 1.0) for i in range(1, 4))
    assert with_conflicting_labels(pairs, ["a", "a", "b", None]) == pairs[1:2]
    labels = np.array([None, "a", None, "b"], object)
    assert with_conflicting_labels(pairs, labels) == ()


def test_different_labels_are_in_at_least_one_pair():
    """This holds although not all pairs of connected images are listed."""
    thumbnails = as_thumbnails([coarse(0)] * 4)
    sha256 = np.array(["a", "a", "b", "c"], object)
    pairs = find_duplicates(sha256, alike(4), thumbnails)
    for labels in itertools.product("xy", repeat=4):
        assert bool(with_conflicting_labels(pairs, labels)) == (len(set(labels)) > 1)


# real images


def test_facts_of_a_store_can_be_used(tmp_path, make_store):
    """The thumbnails of the fixture are blank; two of its files have the same bytes."""
    codes = {"block2_pool": np.zeros((4, 3), np.float32)}
    path = make_store(
        tmp_path / "codes.h5", codes, list("aabb"), sha256=["1" * 64, "2" * 64, "3" * 64, "1" * 64]
    )
    store = open_store(path)
    pairs = find_duplicates(store.images.sha256, store.images.phash, store.thumbnails())
    assert pairs == (DuplicatePair(0, 3, True, 1.0),)
    assert with_conflicting_labels(pairs, store.images.label) == pairs


def test_emoji_are_different_and_their_copies_are_found(facts):
    """Flags and faces in two styles are the hardest of the sample images."""
    files = sorted(f for c in ("faces", "flags") for f in (DATA / "train" / c).glob("*.png"))
    emoji = [to_rgb(Image.open(file)) for file in files]
    originals = facts(emoji)
    assert len(files) == 80
    assert find_duplicates(*originals) == ()
    saved = facts(emoji, format="JPEG", quality=50)
    half = facts([scaled(image, 0.5) for image in emoji])
    bright = facts([brighter(image, 1.3) for image in emoji])
    for copies in (saved, half, bright):
        found = ends(find_duplicates(*joined(originals, copies)))
        assert set(found) <= set(planted(80))
        assert len(found) >= 78


def test_emoji_that_differ_in_a_crest_are_linked(facts):
    """The flags of Saint Helena and of the Turks and Caicos Islands are a known mistake."""
    names = ("train/flags/1f1f8-1f1ed-google.png", "val/flags/1f1f9-1f1e8-google.png")
    pairs = find_duplicates(*facts([to_rgb(Image.open(DATA / name)) for name in names]))
    assert ends(pairs) == [(0, 1)]


@pytest.mark.shared
def test_photographs_are_different_and_their_copies_are_found(shared, facts):
    """Aerial photographs of fields, grass and water have little contrast."""
    files = sorted((shared / "data" / "rsscn7_350").rglob("*.jpg"))[::14]
    photographs = [to_rgb(Image.open(file)) for file in files]
    assert len(files) == 25
    originals = facts(photographs, compress_level=1)
    bright = [scaled(brighter(image, 1.3), 0.5) for image in photographs]
    copies = facts(bright, format="JPEG", quality=60)
    found = ends(find_duplicates(*joined(originals, copies)))
    assert set(found) <= set(planted(25))
    assert len(found) >= 24

"""Duplicates: copies are found, look-alikes are not, and nothing grows with the square of n."""

import itertools
import tracemalloc
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from featx.dataset import duplicates
from featx.dataset.duplicates import DuplicatePair, find_duplicates, with_conflicting_labels
from featx.images import read_image, to_rgb
from featx.store import open_store

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def facts(tmp_path):
    """Return a function: pictures, saved and read again, to what a store holds of them."""
    numbers = itertools.count()

    def describe(pictures: Iterable[Image.Image], **saving):
        saving = {"format": "PNG", **saving}
        read = []
        for picture in pictures:
            file = tmp_path / f"{next(numbers)}.image"
            picture.save(file, **saving)
            read.append(read_image(file, (32, 32), "squash", jpeg="full"))
        return (
            np.array([picture.sha256 for picture in read], object),
            np.array([picture.phash for picture in read], np.uint64),
            np.stack([picture.thumbnail for picture in read]),
        )

    return describe


def joined(*parts):
    """Put the facts of several lots of pictures one after the other."""
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def scene(seed: int, size: tuple[int, int] = (160, 120), spread: float = 200) -> Image.Image:
    """Draw something like a photograph: large shapes, smaller ones in them, and grain."""
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
    """Draw a yellow disc on white, with eyes and a mouth."""
    picture = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((2, 2, 61, 61), fill=(255, 200, 60))
    for x in (20, 40):
        draw.ellipse((x, 20, x + 5, 27), fill=(90, 60, 20))
    start, end = mouth
    if mood == "line":
        draw.line((start, 46, end, 46), fill=(90, 60, 20), width=3)
    else:
        draw.ellipse((start, 38, end, 54), fill=(90, 60, 20))
    return picture


def flag(*colours: tuple[int, int, int]) -> Image.Image:
    bands = np.repeat(np.array(colours, np.uint8)[:, None], 60, axis=1)
    return Image.fromarray(bands).resize((60, 42), Image.Resampling.NEAREST)


def scaled(picture: Image.Image, factor: float) -> Image.Image:
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, Image.Resampling.LANCZOS)


def brighter(picture: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(picture).enhance(factor)


def ends(pairs: Iterable[DuplicatePair]) -> list[tuple[int, int]]:
    return [(pair.first, pair.second) for pair in pairs]


def planted(n: int) -> list[tuple[int, int]]:
    """Return the pairs that n pictures and their n copies make."""
    return [(i, i + n) for i in range(n)]


def coarse(seed: int) -> np.ndarray:
    """Return a random thumbnail of 8x8 spots, centred on 0, of standard deviation 1."""
    spots = np.random.default_rng(seed).normal(size=(8, 8, 3))
    values = spots.repeat(4, axis=0).repeat(4, axis=1)
    return (values - values.mean()) / values.std()


def as_thumbnails(values: Iterable[np.ndarray]) -> np.ndarray:
    return np.clip(127 + 30 * np.stack(list(values)), 0, 255).round().astype(np.uint8)


def distinct(n: int) -> np.ndarray:
    return np.array([f"{i:064x}" for i in range(n)], object)


def alike(n: int) -> np.ndarray:
    """Return hashes that rule nothing out."""
    return np.zeros(n, np.uint64)


# the same bytes


def test_files_with_the_same_bytes_are_paired_with_the_first(facts):
    """Three copies make two pairs; pictures between them do not matter."""
    a, b = scene(0), scene(1)
    pairs = find_duplicates(*facts([a, b, a, b, a]))
    assert pairs == (
        DuplicatePair(0, 2, True, 1.0),
        DuplicatePair(0, 4, True, 1.0),
        DuplicatePair(1, 3, True, 1.0),
    )


def test_unknown_hashes_equal_nothing():
    """Rows whose file could not be read have no digest, no hash and no thumbnail."""
    blank = np.zeros((3, 32, 32, 3), np.uint8)
    assert find_duplicates(np.array(["", "", ""], object), alike(3), blank) == ()


def test_a_near_copy_is_paired_with_the_first_of_equal_files(facts):
    """One picture stands for all files with its bytes."""
    a, b = scene(0), scene(1)
    pairs = find_duplicates(*joined(facts([a, a, b]), facts([b, a], format="JPEG", quality=80)))
    found = [(pair.first, pair.second, pair.exact) for pair in pairs]
    assert found == [(0, 1, True), (0, 4, False), (2, 3, False)]


def test_no_pictures():
    empty = np.empty((0, 32, 32, 3), np.uint8)
    assert find_duplicates(np.empty(0, object), np.empty(0, np.uint64), empty) == ()


# near-copies


COPIES = {
    "jpeg 30": (lambda picture: picture, {"format": "JPEG", "quality": 30}),
    "jpeg 90": (lambda picture: picture, {"format": "JPEG", "quality": 90}),
    "half": (lambda picture: scaled(picture, 0.5), {}),
    "71 %": (lambda picture: scaled(picture, 0.71), {"format": "JPEG", "quality": 60}),
    "double": (lambda picture: scaled(picture, 2), {}),
    "brighter by 10 %": (lambda picture: brighter(picture, 1.1), {}),
    "brighter by 30 %": (lambda picture: brighter(picture, 1.3), {}),
    "darker by 30 %": (lambda picture: brighter(picture, 0.7), {}),
    "contrast": (lambda picture: ImageEnhance.Contrast(picture).enhance(1.3), {}),
}


@pytest.mark.parametrize("name", COPIES)
def test_planted_copies_are_found_and_nothing_else(facts, name):
    """Of six scenes and their copies, each is paired with its own."""
    change, saving = COPIES[name]
    scenes = [scene(seed) for seed in range(6)]
    pairs = find_duplicates(*joined(facts(scenes), facts(map(change, scenes), **saving)))
    assert ends(pairs) == planted(6)
    assert not any(pair.exact for pair in pairs)
    assert all(0.95 <= pair.correlation <= 1 + 1e-5 for pair in pairs)


def test_brightening_that_cuts_off_is_allowed_for(facts):
    """Correlated as they are, the picture and its copy would not pass."""
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


def test_the_correlation_is_that_of_numpy_where_nothing_is_cut_off(facts):
    """All channels count, centred as a whole."""
    original = scene(4, spread=150)
    table = joined(facts([original]), facts([original], format="JPEG", quality=30))
    assert table[2].min() > 3
    assert table[2].max() < 252
    (pair,) = find_duplicates(*table)
    expected = np.corrcoef(table[2].reshape(2, -1).astype(float))[0, 1]
    assert pair.correlation == pytest.approx(expected, abs=1e-5)


# look-alikes


def test_an_outline_on_white_is_no_evidence(facts):
    """Two discs with different mouths correlate as copies do; their differences do not."""
    table = facts([face((22, 43), "line"), face((24, 40), "round")])
    assert np.corrcoef(table[2].reshape(2, -1).astype(float))[0, 1] > 0.95
    assert np.bitwise_count(table[1][0] ^ table[1][1]) <= 20
    assert find_duplicates(*table) == ()


def test_a_face_is_found_again(facts):
    """What keeps faces apart lets copies of one through."""
    faces = [face((22, 43), "line"), face((24, 40), "round")]
    table = joined(facts(faces), facts(faces, format="JPEG", quality=60))
    assert ends(find_duplicates(*table)) == [(0, 2), (1, 3)]


def test_flags_that_differ_in_colour_alone_are_different(facts):
    """The hash knows no colour: these grey values are the same."""
    white, dark = (255, 255, 255), (60, 60, 60)
    table = facts([flag((200, 40, 40), white, dark), flag((31, 127, 31), white, dark)])
    assert np.bitwise_count(table[1][0] ^ table[1][1]) <= 2
    assert find_duplicates(*table) == ()


def test_a_scene_in_another_tint_is_different(facts):
    """Neither the hash nor the differences between pixels know the tint."""
    grey = np.asarray(scene(0, spread=160).convert("L"), int)[..., None]
    tints = (np.array([25, -12, -2]), np.array([-25, 12, 2]))
    table = facts([Image.fromarray((grey + tint).astype(np.uint8)) for tint in tints])
    assert np.bitwise_count(table[1][0] ^ table[1][1]) <= 2
    assert duplicates._correlations(table[2][0], table[2][1:])[1] > 0.99
    assert find_duplicates(*table) == ()


def test_blank_pictures_are_near_nothing(facts):
    """Not even one another, whatever their colours and noise."""
    rng = np.random.default_rng(0)
    noisy = [Image.fromarray(rng.integers(118, 123, (32, 32, 3), dtype=np.uint8)) for _ in range(2)]
    plain = [Image.new("RGB", (50, 40), colour) for colour in ("black", "white", "red", "#900")]
    table = joined(facts(plain + noisy), facts(plain + noisy, format="JPEG"))
    different = np.array([f"{i:064x}" for i in range(len(table[0]))], object)
    assert find_duplicates(different, *table[1:]) == ()


def test_blank_files_with_the_same_bytes_are_exact(facts):
    assert ends(find_duplicates(*facts([Image.new("RGB", (8, 8), "red")] * 2))) == [(0, 1)]


def test_faint_copies_of_one_blank_ground_are_not_evidence():
    """The same rounding pattern, less than a grey level, under two files."""
    pattern = (np.indices((32, 32)).sum(0) // 8 % 2).astype(np.uint8)[..., None]
    thumbnails = np.stack([np.broadcast_to(200 + pattern, (32, 32, 3))] * 2)
    assert find_duplicates(distinct(2), alike(2), thumbnails) == ()
    strong = np.stack([np.broadcast_to(200 + 9 * pattern, (32, 32, 3))] * 2)
    assert ends(find_duplicates(distinct(2), alike(2), strong)) == [(0, 1)]


def test_drawings_in_black_and_white_are_compared(facts):
    """Every value may have been cut off, and nothing is left to estimate brightness from."""
    rng = np.random.default_rng(0)
    drawings = [
        Image.fromarray((rng.random((8, 8)) < 0.5).repeat(4, 0).repeat(4, 1)).convert("RGB")
        for _ in range(3)
    ]
    table = joined(facts(drawings), facts(drawings, format="JPEG", quality=90))
    assert set(np.unique(table[2][:3])) == {0, 255}
    assert ends(find_duplicates(*table)) == planted(3)


def test_a_negative_is_another_picture():
    values = coarse(0)
    assert find_duplicates(distinct(2), alike(2), as_thumbnails([values, -values])) == ()


def test_hashes_that_are_far_apart_rule_a_pair_out():
    """The sieve is used, with its width: 20 bits pass, 21 do not."""
    thumbnails = as_thumbnails([coarse(0)] * 2)
    for n_bits, expected in ((20, [(0, 1)]), (21, [])):
        for lowest in (0, 64 - n_bits):
            hashes = np.array([0, (2**n_bits - 1) << lowest], np.uint64)
            assert ends(find_duplicates(distinct(2), hashes, thumbnails)) == expected


# what is connected


def test_only_confirmed_pairs_link():
    """Both ends are copies of the middle, by themselves; the ends are not paired."""
    middle, change = coarse(0), coarse(1)
    thumbnails = as_thumbnails([middle + 0.27 * change, middle, middle - 0.27 * change])
    assert ends(find_duplicates(distinct(3), alike(3), thumbnails)) == [(0, 1), (1, 2)]
    assert find_duplicates(distinct(2), alike(2), thumbnails[::2]) == ()


def test_small_steps_below_the_threshold_do_not_chain():
    """A row of pictures, each much like its neighbours, but not enough."""
    start, other = coarse(0), coarse(1)
    angles = np.arange(6) * np.arccos(0.93)
    steps = as_thumbnails([np.cos(a) * start + np.sin(a) * other for a in angles])
    assert find_duplicates(distinct(6), alike(6), steps) == ()
    angles = np.arange(6) * np.arccos(0.97)
    steps = as_thumbnails([np.cos(a) * start + np.sin(a) * other for a in angles])
    chain = find_duplicates(distinct(6), alike(6), steps)
    assert ends(chain) == [(i, i + 1) for i in range(5)]


def test_what_is_connected_already_is_not_paired_again():
    """The ends of a fork, 0 and 1, are joined by 2; that 3 is like 1 too adds nothing."""
    middle, change = coarse(0), coarse(1)
    steps = (0.27, -0.27, 0, 0.01)
    thumbnails = as_thumbnails(middle + step * change for step in steps)
    assert ends(find_duplicates(distinct(4), alike(4), thumbnails)) == [(0, 2), (0, 3), (1, 2)]
    assert ends(find_duplicates(distinct(2), alike(2), thumbnails[[1, 3]])) == [(0, 1)]


def test_many_frames_of_one_scene_make_one_pair_less_than_frames():
    """Not 44,850: what is connected is not connected again."""
    rng = np.random.default_rng(0)
    frames = as_thumbnails([coarse(0)]).astype(int) + rng.integers(-3, 4, (300, 32, 32, 3))
    pairs = find_duplicates(distinct(300), alike(300), frames.clip(0, 255).astype(np.uint8))
    assert ends(pairs) == [(0, i) for i in range(1, 300)]


# blocks and memory


@pytest.mark.parametrize("n_bytes", [1, 3_000, 400_000])
@pytest.mark.parametrize("many", [-1.0, 2.0])
def test_blocks_do_not_matter(monkeypatch, n_bytes, many):
    """Nor does the way in which sketches are compared."""
    rng = np.random.default_rng(0)
    originals = as_thumbnails(map(coarse, range(20)))
    copies = originals[::-1] // 2 + rng.integers(0, 3, originals.shape, dtype=np.uint8)
    thumbnails = np.concatenate([originals, copies, originals[:5] + np.uint8(1)])
    expected = find_duplicates(distinct(45), alike(45), thumbnails)
    assert len(expected) == 25
    monkeypatch.setattr(duplicates, "_BLOCK_BYTES", n_bytes)
    monkeypatch.setattr(duplicates, "_MANY", many)
    found = find_duplicates(distinct(45), alike(45), thumbnails)
    assert ends(found) == ends(expected)
    np.testing.assert_allclose(
        [pair.correlation for pair in found], [pair.correlation for pair in expected], atol=1e-5
    )


@pytest.mark.parametrize("hashes", ["alike", "random"])
def test_memory_does_not_grow_with_the_square(monkeypatch, hashes):
    """With four times the pictures, four times the sketches; the blocks stay as they are."""
    monkeypatch.setattr(duplicates, "_BLOCK_BYTES", 500_000)
    rng = np.random.default_rng(0)
    thumbnails = rng.integers(0, 256, (1_600, 32, 32, 3), dtype=np.uint8)
    phash = alike(1_600)
    if hashes == "random":
        phash = rng.integers(0, 2**64, 1_600, dtype=np.uint64)
    sha256 = distinct(1_600)
    peaks = []
    for n in (400, 1_600):
        tracemalloc.start()
        assert find_duplicates(sha256[:n], phash[:n], thumbnails[:n]) == ()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3.5 * peaks[0]
    assert peaks[1] < 4_000_000


@pytest.fixture
def compared(monkeypatch):
    """How many thumbnails were compared with one, call by call."""
    numbers = []
    correlations = duplicates._correlations

    def counting(one, others):
        numbers.append(len(others))
        return correlations(one, others)

    monkeypatch.setattr(duplicates, "_correlations", counting)
    return numbers


def test_frames_of_one_scene_are_not_all_compared(compared):
    """What is connected is left out before the thumbnails are looked at."""
    find_duplicates(distinct(100), alike(100), as_thumbnails([coarse(0)] * 100))
    assert sum(compared) == 99


@pytest.mark.parametrize("many", [-1.0, 2.0])
def test_hashes_in_common_do_not_lead_to_comparisons_of_everything(monkeypatch, compared, many):
    """Sketches tell most pictures apart, in both ways of comparing them."""
    monkeypatch.setattr(duplicates, "_MANY", many)
    find_duplicates(distinct(50), alike(50), as_thumbnails(map(coarse, range(50))))
    assert sum(compared) == 0


def test_what_came_in_is_left_as_it_was():
    thumbnails = as_thumbnails([coarse(0)] * 2)
    thumbnails.flags.writeable = False
    before = thumbnails.copy()
    find_duplicates(distinct(2), alike(2), thumbnails)
    np.testing.assert_array_equal(thumbnails, before)


# labels


def test_conflicting_pairs_are_those_with_two_labels():
    pairs = (
        DuplicatePair(0, 1, True, 1.0),
        DuplicatePair(0, 2, True, 1.0),
        DuplicatePair(3, 4, False, 0.97),
    )
    assert with_conflicting_labels(pairs, ["a", "a", "b", "a", "b"]) == pairs[1:]


def test_no_label_contradicts_none():
    pairs = (
        DuplicatePair(0, 1, True, 1.0),
        DuplicatePair(1, 2, True, 1.0),
        DuplicatePair(2, 3, True, 1.0),
    )
    labels = np.array([None, "a", None, None], object)
    assert with_conflicting_labels(pairs, labels) == ()


def test_labels_that_differ_show_in_some_pair():
    """Though only as many pairs are listed as connect the pictures."""
    thumbnails = as_thumbnails([coarse(0)] * 4)
    sha256 = np.array(["a", "a", "b", "c"], object)
    pairs = find_duplicates(sha256, alike(4), thumbnails)
    for labels in itertools.product("xy", repeat=4):
        assert bool(with_conflicting_labels(pairs, labels)) == (len(set(labels)) > 1)


# real pictures


def test_what_a_store_holds_is_taken(tmp_path, make_store):
    """The thumbnails of that fixture are blank; two of its files have the same bytes."""
    codes = {"block2_pool": np.zeros((4, 3), np.float32)}
    path = make_store(
        tmp_path / "codes.h5", codes, list("aabb"), sha256=["1" * 64, "2" * 64, "3" * 64, "1" * 64]
    )
    store = open_store(path)
    pairs = find_duplicates(store.images.sha256, store.images.phash, store.thumbnails())
    assert pairs == (DuplicatePair(0, 3, True, 1.0),)
    assert with_conflicting_labels(pairs, store.images.label) == pairs


def test_emoji_are_different_and_their_copies_are_found(facts):
    """Flags and faces, the hardest of the sample images, in two styles."""
    files = sorted(f for c in ("faces", "flags") for f in (DATA / "train" / c).glob("*.png"))
    emoji = [to_rgb(Image.open(file)) for file in files]
    originals = facts(emoji)
    assert len(files) == 80
    assert find_duplicates(*originals) == ()
    saved = facts(emoji, format="JPEG", quality=50)
    half = facts([scaled(picture, 0.5) for picture in emoji])
    bright = facts([brighter(picture, 1.3) for picture in emoji])
    for copies in (saved, half, bright):
        found = ends(find_duplicates(*joined(originals, copies)))
        assert set(found) <= set(planted(80))
        assert len(found) >= 78


def test_emoji_that_differ_in_a_crest_are_linked(facts):
    """Saint Helena's flag and that of the Turks and Caicos Islands: known, and harmless."""
    names = ("train/flags/1f1f8-1f1ed-google.png", "val/flags/1f1f9-1f1e8-google.png")
    pairs = find_duplicates(*facts([to_rgb(Image.open(DATA / name)) for name in names]))
    assert ends(pairs) == [(0, 1)]


@pytest.mark.shared
def test_photographs_are_different_and_their_copies_are_found(shared, facts):
    """Aerial photographs: fields, grass and water of little contrast."""
    files = sorted((shared / "data" / "rsscn7_350").rglob("*.jpg"))[::7]
    photographs = [to_rgb(Image.open(file)) for file in files]
    assert len(files) == 50
    originals = facts(photographs, compress_level=1)
    bright = [scaled(brighter(picture, 1.3), 0.5) for picture in photographs]
    copies = facts(bright, format="JPEG", quality=60)
    found = ends(find_duplicates(*joined(originals, copies)))
    assert set(found) <= set(planted(50))
    assert len(found) >= 49

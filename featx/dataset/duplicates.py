"""Duplicates and near-duplicates among images.

Content hashes, perceptual hashes and thumbnails go in, as a store holds them; pairs of
positions come out. This module does not know files, codes or folds: the caller keeps pairs in
the same fold.

**What looks alike is not always a duplicate.** Photographs of one board under a fixed camera
correlate by 0.99, and scanned digits of one class by 0.95. So a near-duplicate must be much
closer than images of the set usually are:

* What the images of a set have in common is removed first: the part of each image along the mean
  image, and along the mean image moved or stretched by a fraction of a pixel. What is left of a
  photograph under a fixed camera is what only it shows.
* A group of copies is isolated: the next image is at least four times as far away. Images
  that come at all distances, such as digits, have no such gap. This is the ratio test of Lowe
  [2]_, for groups of any size.
* A chain is not identity: each image of a group was compared with one representative.

These comparisons use sketches: the differences between neighbours of 8x8 cells, which are invariant
to brightness and contrast. The pairs that they select are confirmed by the perceptual hash [1]_ and
by two correlations of the thumbnails:

* of the values of all channels, after subtracting the mean of the whole image, because sketches and
  hash do not depend on the tint;
* of the differences between neighbouring pixels. A white ground and a common outline add
  nothing to it: two faces whose values correlate by 0.97 have differences that correlate
  by 0.74.

Brightening an image clips light values at white, which lowers all correlations. One image
of each pair is therefore matched to the brightness of the other, and clipped like it. Cutting the
edges moves and stretches an image by less than a pixel of its thumbnail. A pair that does not match
then is compared again after its position was matched, by the method of Lucas and Kanade [3]_.

Recall and false pairs are measured by benchmarks/duplicates.py; the figures are in
benchmarks/README.md. Copies that were rotated, mirrored or converted to grey are not found.

References
----------
.. [1] C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
   Functions", 2010. https://www.phash.org/docs/pubs/thesis_zauner.pdf
.. [2] D. G. Lowe, "Distinctive Image Features from Scale-Invariant Keypoints",
   IJCV 60, 2004. https://doi.org/10.1023/B:VISI.0000029664.99615.94
.. [3] B. D. Lucas and T. Kanade, "An Iterative Image Registration Technique with an
   Application to Stereo Vision", IJCAI 1981.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.choices import Duplicates
from featx.text import counted

__all__ = [
    "DuplicatePair",
    "DuplicateSettings",
    "crowd_radius",
    "duplicate_notes",
    "find_duplicates",
    "is_patterned",
    "sketches_of",
    "with_conflicting_labels",
]

#: Largest number of different bits, of 64. One random pair in 500 has so few. For photographs 12
#: would be enough, but it would miss 6 % of emoji saved as JPEG of quality 30.
_MOST_BITS = 20

#: Number of values of a sketch: the differences between 8x8 cells, across and down, of 3 channels.
SKETCH_SIZE = 336

#: Largest distance (1 - correlation) of the sketches of copies. Photographs that were cut by 2 % or
#: brightened by 30 % are below 0.13, except for 1 in 100; of different photographs, the closest are
#: at 0.29.
MOST_DISTANCE = 0.3

#: Smaller distances are rounding errors of thumbnails, and count as this one.
_ROUNDING = 1e-3

#: The image next to a group of copies is at least this many times further away. With 3, a few
#: digits and more photographs of a fixed camera would be linked; with 4, no digits are.
ISOLATION = 4

#: Distances of the same pair, computed in two blocks, differ by less than this.
_TOLERANCE = 1e-5

#: Smallest number of images whose mean shows what a set has in common. In a smaller set, it may be
#: mostly the copies of one image, and distances to others say less about what is usual.
FEWEST_FOR_MEAN = 20

#: Shorter directions of a background, of 1, are rounding errors.
_LEAST_LENGTH = 1e-3

#: Smallest correlations of thumbnails, of values and of differences; the second in sets that are
#: too small for a mean, and in other sets. Pairs of faces by the same artist, moved to each other,
#: have 0.96 and 0.83.
_LEAST_CORRELATION = 0.95
_LEAST_EDGES_OF_FEW, _LEAST_EDGES = 0.85, 0.8

#: Fraction of the images from which on it is unusual that they have near-duplicates.
_LARGE_PART = 0.3

#: Steps of Gauss-Newton that match the position; a third step changes little.
_STEPS = 2

#: Standard deviation in grey levels below which a thumbnail is blank. Blank images contain only
#: rounding and noise, so they are not compared. The flattest photograph has 2.6.
_BLANK = 1.5

#: Values beyond these may have been clipped: averaging blurs 0 and 255 in a thumbnail.
_DARKEST, _LIGHTEST = 3, 252

#: Smallest number of values, of 3072, to match the brightness by; with fewer, all are used.
_FEWEST = 100

#: Added to the diagonal of the normal equations, which a constant image makes singular.
_RIDGE = 1e-3

_BLOCK_BYTES = 16_000_000
_Reals = NDArray[np.float32]
_Bytes = NDArray[np.uint8]
_Rows = NDArray[np.integer]


@dataclass(frozen=True, kw_only=True)
class DuplicateSettings:
    """How a verb treats near-duplicates.

    Parameters
    ----------
    duplicates : {"together", "keep"}, default="together"
        "together" treats near-duplicates as images of one group: they are never on both
        sides of a split, nor count as new images of a model that was fitted on one of them.
        "keep" treats them as different images.
    """

    duplicates: Duplicates = "together"


@dataclass(frozen=True)
class DuplicatePair:
    """Two files with the same image.

    Parameters
    ----------
    first, second : int
        Positions; first < second.
    exact : bool
        Whether the files have the same bytes.
    correlation : float
        Correlation of the thumbnails at matched brightness; 1.0 if exact.
    """

    first: int
    second: int
    exact: bool
    correlation: float


def find_duplicates(
    sha256: NDArray[np.object_], phash: NDArray[np.uint64], thumbnails: NDArray[np.uint8]
) -> tuple[DuplicatePair, ...]:
    """Find files with the same bytes, and images that are near-duplicates.

    m copies of one image give m - 1 pairs: each copy is paired with one of them, the
    representative. So thousands of frames of one scene do not give millions of pairs, and every
    image of a group was compared with the representative directly.

    Parameters
    ----------
    sha256 : ndarray of str, shape (n,)
        Hashes of the files' bytes; an empty hash is unknown and equals no other.
    phash : ndarray of uint64, shape (n,)
        Perceptual hashes.
    thumbnails : ndarray of uint8, shape (n, 32, 32, 3)
        Thumbnails, zeros if there is none. Blank images have no near-duplicates.

    Returns
    -------
    tuple of DuplicatePair
        In the order of the positions. Files with the same bytes are all paired with the
        first of them, which is compared with other images.

    Examples
    --------
    >>> hashes = np.array(["a1", "", "a1"], dtype=object)
    >>> find_duplicates(hashes, np.zeros(3, np.uint64), np.zeros((3, 32, 32, 3), np.uint8))
    (DuplicatePair(first=0, second=2, exact=True, correlation=1.0),)
    """
    pairs, rows = _same_bytes(sha256)
    rows = rows[is_patterned(thumbnails)[rows]]
    least_edges = _LEAST_EDGES_OF_FEW if len(rows) < FEWEST_FOR_MEAN else _LEAST_EDGES
    paired = np.zeros(len(rows), bool)
    for i, candidates in _candidates(phash[rows], thumbnails, rows, paired):
        for part in _parts(len(candidates)):
            others = candidates[part]
            ones = np.broadcast_to(thumbnails[rows[i]], (len(others), *thumbnails.shape[1:]))
            values, is_copy = _compare(ones, thumbnails[rows[others]], least_edges)
            for k in np.flatnonzero(is_copy):
                first, second = sorted((int(rows[i]), int(rows[others[k]])))
                pairs.append(DuplicatePair(first, second, False, float(values[k])))
                paired[[i, others[k]]] = True
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def with_conflicting_labels(
    pairs: Sequence[DuplicatePair], labels: Sequence[str | None]
) -> tuple[DuplicatePair, ...]:
    """Return the pairs whose two labels differ.

    If connected images have different labels, at least one pair has, provided that all of
    them have a label: remove images without one before `find_duplicates`.

    Parameters
    ----------
    pairs : sequence of DuplicatePair
        Result of `find_duplicates`.
    labels : sequence of str or None, of length n
        Label of each image. None means unlabelled, and never conflicts with a label.

    Examples
    --------
    >>> pairs = [DuplicatePair(0, 1, True, 1.0), DuplicatePair(1, 2, False, 0.99)]
    >>> with_conflicting_labels(pairs, ["ant", "ant", "bee"])
    (DuplicatePair(first=1, second=2, exact=False, correlation=0.99),)
    """
    return tuple(
        pair for pair in pairs if len({labels[pair.first], labels[pair.second]} - {None}) == 2
    )


def _same_bytes(sha256: NDArray[np.object_]) -> tuple[list[DuplicatePair], NDArray[np.intp]]:
    """Return the pairs of files with the same bytes, and one row for each content."""
    first: dict[str, int] = {}
    pairs, rows = [], []
    for row, digest in enumerate(sha256):
        start = first.setdefault(digest, row) if digest else row
        if start == row:
            rows.append(row)
        else:
            pairs.append(DuplicatePair(start, row, True, 1.0))
    return pairs, np.array(rows, np.intp)


def duplicate_notes(
    duplicates: Sequence[DuplicatePair], paths: NDArray[np.object_], y: NDArray[np.str_]
) -> list[str]:
    """Return notes on how many near-duplicates there are, and how many have different labels.

    Parameters
    ----------
    duplicates : sequence of DuplicatePair
        Result of `find_duplicates`.
    paths, y : ndarray of str, shape (n,)
        Paths and labels of the images.
    """
    if not duplicates:
        return []
    n_exact, first = sum(pair.exact for pair in duplicates), duplicates[0]
    notes = [
        f"{counted(len(duplicates), 'pair')} of near-duplicates ({n_exact} with the same "
        "bytes). Each pair stays in one fold, unless you use --duplicates keep. The first "
        f"pair: {paths[first.first]} and {paths[first.second]}."
    ]
    ends = {row for pair in duplicates if not pair.exact for row in (pair.first, pair.second)}
    if len(ends) > _LARGE_PART * len(y):
        notes.append(
            f"{len(ends)} of {counted(len(y), 'image')} look like another one of them. If these "
            "are different images, such as products under a fixed camera, use --duplicates keep. "
            "If they are frames or series of one object each, name these in a column group."
        )
    if other := with_conflicting_labels(duplicates, list(y)):
        first = other[0]
        notes.append(
            f"{counted(len(other), 'pair')} of near-duplicates with different labels. The first "
            f"pair: {paths[first.first]} ({y[first.first]}) and {paths[first.second]} "
            f"({y[first.second]})."
        )
    return notes


def is_patterned(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which thumbnails are not blank, (n,): blank images have no near-duplicates."""
    found = np.zeros(len(thumbnails), bool)
    for part in _parts(len(thumbnails)):
        variances = thumbnails[part].astype(np.float32).var(axis=(1, 2))
        found[part] = np.sqrt(variances.mean(1)) >= _BLANK
    return found


def sketches_of(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the sketches of thumbnails: differences between cells of 4x4 pixels.

    Parameters
    ----------
    thumbnails : ndarray of uint8, shape (n, 32, 32, 3)
        Thumbnails.

    Returns
    -------
    ndarray of float32, shape (n, 336)
        Vectors of length 1; zeros for a thumbnail of one colour.
    """
    sketches = np.empty((len(thumbnails), SKETCH_SIZE), np.float32)
    for part in _parts(len(thumbnails)):
        sketches[part] = _sketches(thumbnails[part])
    return sketches


def crowd_radius(near: NDArray[np.floating], beyond: float) -> tuple[float, int]:
    """Return the largest distance between an image and its copies, and the number of copies.

    Parameters
    ----------
    near : ndarray of shape (m,)
        Distances of the images that may be copies, m > 0.
    beyond : float
        Distance of the next image; infinite if there is none.

    Returns
    -------
    (float, int)
        The largest distance that is followed by a gap, up to `ISOLATION` times that distance, and
        the number of images up to it; (-1.0, 0) if there is no gap: then none of the images is
        closer than images of the set usually are.

    Examples
    --------
    >>> crowd_radius(np.array([0.02, 0.01, 0.09]), beyond=0.2)
    (0.02, 2)
    >>> crowd_radius(np.array([0.1, 0.15]), beyond=0.3)
    (-1.0, 0)
    """
    inside = np.maximum(np.sort(near), _ROUNDING)
    gaps = np.flatnonzero(np.append(inside[1:], beyond) > ISOLATION * inside)
    return (float(inside[gaps[-1]]), int(gaps[-1]) + 1) if len(gaps) else (-1.0, 0)


def _parts(n: int) -> Iterator[slice]:
    """Divide n rows into slices whose images need a few megabytes while they are compared."""
    step = max(1, _BLOCK_BYTES // 400_000)  # values, their slopes and intermediate arrays
    for start in range(0, n, step):
        yield slice(start, start + step)


def _rows_per_block(n: int) -> int:
    """Return how many rows of n distances are computed together."""
    return max(1, _BLOCK_BYTES // (16 * max(1, n)))  # two arrays of 8 bytes for each pair


def _candidates(
    phash: NDArray[np.uint64], thumbnails: _Bytes, rows: _Rows, paired: NDArray[np.bool_]
) -> Iterator[tuple[int, _Rows]]:
    """Yield positions in `rows` of representatives, each with those of possible copies.

    Images with the most neighbours come first, and of these the closest ones. The caller marks
    images as `paired`; they are not yielded again.
    """
    background = _background(thumbnails, rows)
    sketches = np.empty((len(rows), SKETCH_SIZE), np.float32)
    for part in _parts(len(rows)):
        sketches[part] = _foreground(_sketches(thumbnails[rows[part]]), background)
    radii, n_near = _neighbourhoods(sketches, background, thumbnails, rows)
    waiting = np.lexsort((radii, -n_near))[: np.count_nonzero(n_near)]
    others = np.sort(waiting)
    step = _rows_per_block(len(rows))
    while len(waiting := waiting[~paired[waiting]]):
        block, waiting = waiting[:step], waiting[step:]
        distances = 1 - sketches[block] @ sketches[others].T
        near = distances <= np.minimum(radii[block, None], radii[others]) + _TOLERANCE
        near &= np.bitwise_count(phash[block, None] ^ phash[others]) <= _MOST_BITS
        near &= block[:, None] != others
        for i, row in zip(block, near, strict=True):
            candidates = others[row & ~paired[others]]
            if not paired[i] and len(candidates):
                yield int(i), candidates


def _neighbourhoods(
    sketches: _Reals, background: _Reals, thumbnails: _Bytes, rows: _Rows
) -> tuple[_Reals, NDArray[np.intp]]:
    """Return up to which distance each image has possible copies, and how many; see `crowd_radius`.

    If brightness increases the distance of the nearest image, there may seem to be no gap, so
    this distance is computed again at matched brightness.
    """
    n = len(sketches)
    radii, n_near = np.full(n, -1, np.float32), np.zeros(n, np.intp)
    step = _rows_per_block(n)
    for start in range(0, n, step):
        distances = 1 - sketches[start : start + step] @ sketches.T
        own = np.arange(len(distances))
        distances[own, start + own] = np.inf  # the image itself does not count
        near = distances <= MOST_DISTANCE
        crowded = []
        for k in np.flatnonzero(near.any(axis=1)):
            found = crowd_radius(distances[k, near[k]], distances[k, ~near[k]].min())
            radii[start + k], n_near[start + k] = found
            if not n_near[start + k]:
                crowded.append(k)
        for part in _parts(len(crowded)):
            ks = np.array(crowded[part])
            closest, second = np.partition(distances[ks], 1, axis=1)[:, :2].T
            nearest = distances[ks].argmin(axis=1)
            whole, clipped = _ordered(thumbnails[rows[start + ks]], thumbnails[rows[nearest]])
            matched = _foreground(_sketches(_with_brightness(whole, clipped)), background)
            products = matched * _foreground(_sketches(clipped), background)
            isolated = second > ISOLATION * np.maximum(1 - products.sum(axis=1), _ROUNDING)
            radii[start + ks[isolated]], n_near[start + ks[isolated]] = closest[isolated], 1
    return radii, n_near


def _background(thumbnails: _Bytes, rows: _Rows) -> _Reals:
    """Return orthogonal directions of sketches that images have in common, (k, 336).

    They are those of the mean image, and of the mean image moved and stretched a little. There
    are none if there are too few images.
    """
    if len(rows) < FEWEST_FOR_MEAN:
        return np.zeros((0, SKETCH_SIZE), np.float32)
    total = np.zeros(thumbnails.shape[1:], np.int64)
    for part in _parts(len(rows)):
        total += thumbnails[rows[part]].sum(axis=0, dtype=np.int64)
    mean = (total / len(rows)).astype(np.float32)
    directions = _sketches(_terms(mean[None]).reshape(-1, *mean.shape)).T
    orthogonal, lengths, _ = np.linalg.svd(directions, full_matrices=False)
    return np.asarray(orthogonal[:, lengths > _LEAST_LENGTH].T)


def _foreground(sketches: _Reals, background: _Reals) -> _Reals:
    """Return what sketches show apart from the background, as vectors of length 1."""
    return _normalised(np.asarray(sketches - (sketches @ background.T) @ background, np.float32))


def _sketches(images: _Bytes | _Reals) -> _Reals:
    """Return the differences between cells of 4x4 pixels, as vectors of length 1, (n, 336)."""
    cells = images.reshape(-1, 8, 4, 8, 4, 3).mean((2, 4), dtype=np.float32)
    return _normalised(_differences(cells))


def _differences(images: _Reals) -> _Reals:
    """Return the differences between neighbours, across and down, one row for each image."""
    n = len(images)
    across, down = np.diff(images, axis=2), np.diff(images, axis=1)
    return np.concatenate([across.reshape(n, -1), down.reshape(n, -1)], axis=1)


def _normalised(vectors: _Reals) -> _Reals:
    """Scale vectors to length 1; zeros stay zeros, and correlate with nothing."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def _centred(vectors: _Reals) -> _Reals:
    return np.asarray(vectors - vectors.mean(axis=1, keepdims=True))


def _compare(ones: _Bytes, others: _Bytes, least_edges: float) -> tuple[_Reals, NDArray[np.bool_]]:
    """Return the correlation of the values of pairs, and whether they are copies, each (n,).

    Positions are matched only for pairs that are not copies at matched brightness alone.
    """
    whole, clipped = _ordered(ones, others)
    matched = _with_brightness(whole, clipped)
    values, edges = _correlations(matched, clipped)
    is_copy = (values >= _LEAST_CORRELATION) & (edges >= least_edges)
    rest = np.flatnonzero(~is_copy)
    if len(rest):
        matched = matched[rest]
        for _ in range(_STEPS):
            matched = _matched(_terms(matched), clipped[rest], matched)
        values[rest], edges[rest] = _correlations(matched, clipped[rest])
        is_copy[rest] = (values[rest] >= _LEAST_CORRELATION) & (edges[rest] >= least_edges)
    return values, is_copy


def _correlations(ones: _Reals, others: _Reals) -> tuple[_Reals, _Reals]:
    """Correlate pairs of images: their values, and their differences, each (n,)."""
    flat = len(ones), -1
    values = _normalised(_centred(ones.reshape(flat))) * _normalised(_centred(others.reshape(flat)))
    edges = _normalised(_differences(ones)) * _normalised(_differences(others))
    return values.sum(axis=1), edges.sum(axis=1)


def _ordered(ones: _Bytes, others: _Bytes) -> tuple[_Reals, _Reals]:
    """Return pairs so that only the second image can have been clipped: it has more extremes."""
    swap = (_n_extreme(others) >= _n_extreme(ones))[:, None, None, None]
    whole, clipped = np.where(swap, ones, others), np.where(swap, others, ones)
    return whole.astype(np.float32), clipped.astype(np.float32)


def _with_brightness(whole: _Reals, clipped: _Reals) -> _Reals:
    """Match images to the brightness and contrast of others."""
    flat = whole.reshape(len(whole), 1, -1)
    return _matched(np.concatenate([flat, np.ones_like(flat)], axis=1), clipped, whole)


def _terms(images: _Reals) -> _Reals:
    """Return images, a constant, their slopes, and these times the distance from the centre.

    To first order, a sum of these is an image that was moved and stretched [3]_. Shape (n, 6, d).
    """
    place = np.linspace(-1, 1, images.shape[1], dtype=np.float32)[:, None]
    down, across = np.gradient(images, axis=(1, 2))
    parts = (images, np.ones_like(images), across, down, across * place, down * place[:, None])
    return np.stack([part.reshape(len(images), -1) for part in parts], axis=1)


def _matched(terms: _Reals, clipped: _Reals, whole: _Reals) -> _Reals:
    """Return the sums of terms that are closest to clipped images, clipped at black and white.

    The fit is by least squares, on the values that are clipped in neither image.
    """
    inside = np.minimum(whole, clipped) > _DARKEST
    inside &= np.maximum(whole, clipped) < _LIGHTEST
    inside |= inside.sum(axis=(1, 2, 3), keepdims=True) < _FEWEST
    weighted = terms * inside.reshape(len(inside), 1, -1)
    products = weighted @ terms.transpose(0, 2, 1)
    products += _RIDGE * np.eye(terms.shape[1], dtype=np.float32)
    factors = np.linalg.solve(products, weighted @ clipped.reshape(len(clipped), -1, 1))
    sums = (factors.transpose(0, 2, 1) @ terms).reshape(clipped.shape)
    return np.asarray(np.clip(sums, 0, 255))


def _n_extreme(thumbnails: _Bytes) -> NDArray[np.intp]:
    """Count the values that may have been clipped, (n,)."""
    extreme = (thumbnails <= _DARKEST) | (thumbnails >= _LIGHTEST)
    return np.asarray(extreme.sum(axis=(1, 2, 3)))

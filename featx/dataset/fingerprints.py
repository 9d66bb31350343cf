"""Fingerprints: what a model keeps to recognise its training images and their groups.

Thumbnails and names of groups go in; `Fingerprints` come out, are saved with a model, and show
later which images are near-duplicates of the training images or belong to their groups. This module
does not know models or files.

**What a fingerprint holds.** The signs of 128 random projections of the sketch of a thumbnail
[1]_, 16 bytes in all: two images whose sketches have the angle a differ in about 128 a / pi bits. A
sketch holds the differences between 8x8 cells of the image, without its brightness. At best, a
reader could reconstruct an image of 8x8 cells, which shows no face, no text and no lesion; 128 bits
are a twelfth of the information in such an image. As with the SHA-256 of the files, anyone who has
an image can check whether it is one of the training images.

**What is kept of groups.** For each group, 8 bytes of the salted digest BLAKE2b of its name [2]_.
Names cannot be computed from digests. Each model has its own salt, so that a table of digests fits
one model only, and the groups of two models cannot be compared. Somebody who has the model can try
a name and see whether it is one of the groups. If that must not happen, replace the numbers of
patients before they become names of groups.

References
----------
.. [1] M. S. Charikar, "Similarity Estimation Techniques from Rounding Algorithms", STOC
   2002. https://doi.org/10.1145/509907.509965
.. [2] M.-J. Saarinen and J.-P. Aumasson, "The BLAKE2 Cryptographic Hash and Message
   Authentication Code (MAC)", RFC 7693, 2015. https://www.rfc-editor.org/rfc/rfc7693
"""

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featx.dataset.duplicates import (
    MOST_DISTANCE,
    SKETCH_SIZE,
    crowd_radius,
    is_patterned,
    sketches_of,
)

__all__ = ["Fingerprints"]

_SALT_BYTES = 16  # the most that BLAKE2b takes
_DIGEST_BYTES = 8
_N_BITS = 128
_BLOCK_BYTES = 16_000_000

#: An image that is near to more than this fraction of the training images, and to more than this
#: number, looks as these usually do, such as a photograph of a fixed camera.
_MOST_ALIKE, _FEW_ALIKE = 0.1, 3


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """The facts that recognise images and groups, without showing them.

    The repr shows none of it.

    Parameters
    ----------
    salt : str
        32 random hexadecimal digits, from which the projections follow.
    groups : tuple of str
        Digests of the names of the groups, sorted.
    signs : tuple of str
        32 hexadecimal digits for each image that is not blank, sorted.

    Raises
    ------
    ValueError
        A text has another length.
    """

    salt: str = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    signs: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Check that the texts have the lengths that are expected."""
        expected = (
            (_SALT_BYTES, [self.salt]),
            (_DIGEST_BYTES, self.groups),
            (_N_BITS // 8, self.signs),
        )
        for length, texts in expected:
            if any(len(bytes.fromhex(text)) != length for text in texts):
                message = f"a fingerprint does not have {length} bytes"
                raise ValueError(message)

    @classmethod
    def of(cls, groups: Iterable[str | None], thumbnails: NDArray[np.uint8]) -> "Fingerprints":
        """Return the fingerprints of images, with a new salt.

        Parameters
        ----------
        groups : iterable of str or None
            Names of their groups. An image with None or "" belongs to no group.
        thumbnails : ndarray of uint8, shape (n, 32, 32, 3)
            Thumbnails.

        Examples
        --------
        >>> thumbnails = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
        >>> known = Fingerprints.of(["patient 1", None], thumbnails)
        >>> known.have_group(["patient 1", "patient 2"]).tolist()
        [True, False]
        >>> known.are_near(thumbnails // 2).tolist()
        [True, True]
        """
        salt = secrets.token_hex(_SALT_BYTES)
        named = {_group_digest(name, salt) for name in groups if name}
        signs = _signs(thumbnails[is_patterned(thumbnails)], salt)
        packed = np.packbits(signs, axis=1)
        return cls(salt, tuple(sorted(named)), tuple(sorted(row.tobytes().hex() for row in packed)))

    def have_group(self, groups: Iterable[str | None]) -> NDArray[np.bool_]:
        """Return which names are names of the groups, (n,)."""
        known, salt = set(self.groups), self.salt
        return np.array([bool(g) and _group_digest(str(g), salt) in known for g in groups], bool)

    def are_near(self, thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which images are near-duplicates of those with fingerprints, (n,).

        As in `find_duplicates`, these are much closer than the next image is. An image that is
        near to a large part of the images is not a near-duplicate of them.
        """
        found = np.zeros(len(thumbnails), bool)
        if not self.signs:
            return found
        known = np.frombuffer(bytes.fromhex("".join(self.signs)), np.uint8).reshape(
            len(self.signs), -1
        )
        mine = _as_units(np.unpackbits(known, axis=1))
        rows = np.flatnonzero(is_patterned(thumbnails))
        most = max(_FEW_ALIKE, _MOST_ALIKE * len(mine))
        step = max(1, _BLOCK_BYTES // (16 * len(mine)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            # The mean product of signs is 1 - 2 a / pi for sketches with the angle a.
            products = _as_units(_signs(thumbnails[part], self.salt)) @ mine.T / _N_BITS
            distances = 1 - np.sin(np.pi / 2 * products)
            near = distances <= MOST_DISTANCE
            for k in np.flatnonzero(near.any(axis=1)):
                beyond = distances[k, ~near[k]].min(initial=np.inf)
                _, n_near = crowd_radius(distances[k, near[k]], beyond)
                found[part[k]] = 0 < n_near <= most
        return found


def _group_digest(name: str, salt: str) -> str:
    return hashlib.blake2b(
        name.encode(errors="surrogateescape"), digest_size=_DIGEST_BYTES, salt=bytes.fromhex(salt)
    ).hexdigest()


def _signs(thumbnails: NDArray[np.uint8], salt: str) -> NDArray[np.bool_]:
    """Return the signs of the projections of thumbnails, (n, 128)."""
    # Not NumPy's random numbers, which may change with its version.
    stream = hashlib.shake_256(bytes.fromhex(salt)).digest(SKETCH_SIZE * _N_BITS // 8)
    directions = _as_units(np.unpackbits(np.frombuffer(stream, np.uint8)))
    found: NDArray[np.bool_] = (
        sketches_of(thumbnails) @ directions.reshape(SKETCH_SIZE, _N_BITS) > 0
    )
    return found


def _as_units(bits: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return 1 for true and -1 for false."""
    return np.where(bits, np.float32(1), np.float32(-1))

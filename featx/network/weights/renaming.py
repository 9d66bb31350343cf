"""Layers of a file that are called otherwise: renames, checked or proposed.

Renames OLD -> NEW and a file's entries come in; the entries that they mean, an
identity, or a proposal goes out. A proposal is only ever said: nothing is
renamed unless the user types it. This file opens nothing and reads no array.
"""

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import OptionError, WeightsError
from featx.layers import weight_shapes
from featx.network.weights.layouts import Entry
from featx.text import did_you_mean

__all__ = [
    "RenameProposal",
    "Renames",
    "check_rename",
    "entry_labels",
    "find_renamed",
    "propose",
    "renamed_identity",
]

#: Pairs of a name in the file and the VGG19 layer that it is, sorted.
Renames = tuple[tuple[str, str], ...]

# More than all layers together, so that no walk leaves out what has its name.
_CERTAIN = 1_000
_LISTED = 10


@dataclass(frozen=True)
class RenameProposal:
    """A layer of a file that could be a layer of VGG19, by its shape and its place.

    Parameters
    ----------
    old : str
        What the file calls it.
    new : str
        The layer of VGG19.
    other : str or None, default=None
        Another layer of the file that it could be as well.
    """

    old: str
    new: str
    other: str | None = None

    @property
    def flag(self) -> str:
        """What to type.

        Examples
        --------
        >>> RenameProposal("conv2d", "block1_conv1").flag
        '--rename conv2d=block1_conv1'
        """
        return f"--rename {shlex.quote(f'{self.old}={self.new}')}"


def check_rename(rename: Mapping[str, str] | None) -> Renames:
    """Return renames, sorted, after the checks that need no file.

    Raises
    ------
    OptionError
        A new name is no layer with weights, or comes twice.

    Examples
    --------
    >>> check_rename({"conv_b": "block1_conv2", "conv_a": "block1_conv1"})
    (('conv_a', 'block1_conv1'), ('conv_b', 'block1_conv2'))
    """
    pairs = tuple(sorted((rename or {}).items()))
    first: dict[str, str] = {}
    for old, new in pairs:
        if weight_shapes(new) is None:
            message = (
                f"--rename {old}={new}: {new} has no weights. Expected OLD=NEW with a layer that "
                "has some, such as block1_conv1; all names: featx layers"
            )
            raise OptionError(message)
        if new in first:
            message = (
                f"Two layers of a file cannot both be {new}: --rename {first[new]}={new} and "
                f"--rename {old}={new}. Leave one of them out."
            )
            raise OptionError(message)
        first[new] = old
    return pairs


def entry_labels(entries: Sequence[Entry]) -> list[str]:
    """Return what a rename calls each entry: its name, with its place if others have it too.

    Examples
    --------
    >>> left, right = (Entry("a", place, (), (), "") for place in ("left", "right"))
    >>> entry_labels([left, right]), entry_labels([left])
    (['left/a', 'right/a'], ['a'])
    """
    count = Counter(entry.name for entry in entries)
    return [e.name if count[e.name] == 1 else f"{e.place}/{e.name}" for e in entries]


def find_renamed(entries: Sequence[Entry], rename: Renames, path: Path) -> dict[str, Entry]:
    """Return layer of VGG19 -> the entry that a rename says it is.

    Raises
    ------
    WeightsError
        The file has no layer of an old name, or several.
    """
    labels = entry_labels(entries)
    found: dict[str, Entry] = {}
    for old, new in rename:
        if labels.count(old) != 1:
            raise WeightsError(_no_such_layer(old, new, entries, path))
        found[new] = entries[labels.index(old)]
    return found


def renamed_identity(digest: str, rename: Renames) -> str:
    """Return the identity of a file whose layers are renamed.

    Parameters
    ----------
    digest : str
        sha256 of the file in hexadecimal.
    rename : tuple of (str, str)
        What `check_rename` returns.

    Returns
    -------
    str
        `digest` itself without renames; else the sha256 of the JSON text
        ``["DIGEST", [["OLD", "NEW"], ...]]``, since the same file then gives
        other numbers to the same layers.

    Examples
    --------
    >>> renamed_identity("6c5d", ())
    '6c5d'
    >>> renamed_identity("6c5d", (("a", "block1_conv1"),))[:12]
    'f489794cfb3f'
    """
    if not rename:
        return digest
    return hashlib.sha256(json.dumps([digest, rename]).encode()).hexdigest()


def propose(
    entries: Sequence[Entry], layers: Sequence[str], known: Mapping[str, Entry]
) -> dict[str, RenameProposal]:
    """Walk through a file and a network together, and pair what has the same shapes.

    As many layers as possible are paired, early ones first, in the order of both.
    What can be paired is walked through once more from either end: a layer that
    gets another entry from the other has two candidates, and if none does there
    is no other way.

    Parameters
    ----------
    entries : sequence of Entry
        Layers of the file, in its order.
    layers : sequence of str
        Layers of VGG19, in the network's order.
    known : mapping of str to Entry
        Layers whose entry is known already.

    Returns
    -------
    dict of str to RenameProposal
        Layer of VGG19 -> proposal, for those that have one and are not known.
    """
    labels = dict(zip(entries, entry_labels(entries), strict=True))
    most = _walk(entries, layers, known)
    paired = [layer for layer in layers if layer in most]
    forwards = _walk(entries, paired, known)
    backwards = _walk(entries[::-1], paired[::-1], known)
    proposals = {}
    for layer, entry in forwards.items():
        if layer not in known:
            other = backwards[layer]
            proposals[layer] = RenameProposal(
                labels[entry], layer, None if other == entry else labels[other]
            )
    return proposals


def _walk(
    entries: Sequence[Entry], layers: Sequence[str], known: Mapping[str, Entry]
) -> dict[str, Entry]:
    """Pair the most layers (a longest common subsequence); if all, with the first entries."""
    taken = {entry: layer for layer, entry in known.items()}
    shapes = [weight_shapes(layer) for layer in layers]

    def worth(i: int, j: int) -> int:
        if layers[i] in known or entries[j] in taken:
            return _CERTAIN if taken.get(entries[j]) == layers[i] else 0
        return int(entries[j].shapes == shapes[i])

    n_layers, n_entries = len(layers), len(entries)
    best = [[0] * (n_entries + 1) for _ in range(n_layers + 1)]  # of what is left from i and j on
    for i in reversed(range(n_layers)):
        for j in reversed(range(n_entries)):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + worth(i, j))
    pairs: dict[str, Entry] = {}
    i = j = 0
    while i < n_layers and j < n_entries:
        if worth(i, j) and best[i][j] == best[i + 1][j + 1] + worth(i, j):
            pairs[layers[i]] = entries[j]
            i, j = i + 1, j + 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            i += 1
    return pairs


def _no_such_layer(old: str, new: str, entries: Sequence[Entry], path: Path) -> str:
    labels = entry_labels(entries)
    same = [label for label, e in zip(labels, entries, strict=True) if old in {e.name, label}]
    flag = RenameProposal(old, new).flag
    if same:
        several = " and ".join(same[:2])
        return (
            f"{flag}: {path} has {len(same)} layers of the name {old}. Use one of them with its "
            f"place: {several}"
        )
    guess = did_you_mean(old, labels)
    more = len(labels) - _LISTED
    shown = [*labels[:_LISTED], *([f"and {more} more"] if more > 0 else [])]
    return (
        f"{flag}: {path} has no layer '{old}'.{guess}\n"
        f"The file holds: {', '.join(shown) or 'no layer'}.\n"
        f"Look inside: featx info {path}"
    )

"""Which entry of a file is which layer of VGG19, with proof.

Entries come in; the layers that they cover go out, or an error that says layer
by layer what does not fit. This file opens nothing and reads no array.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from featx.errors import WeightsError
from featx.layers import LAYERS, deepest, layers_up_to, weight_shapes
from featx.network.weights.layouts import Entry
from featx.network.weights.names import vgg19_name
from featx.network.weights.renaming import RenameProposal, entry_labels, propose
from featx.text import counted, nearest

__all__ = [
    "WEIGHTED",
    "How",
    "Match",
    "match_entries",
    "needed_layers",
    "propose_renames",
    "require",
]

How = Literal["by name", "by order and shapes"]

#: Names of all layers that have weights, in the network's order.
WEIGHTED = tuple(layer.name for layer in LAYERS if layer.kind != "pool")

_CONVOLUTIONS = tuple(layer.name for layer in LAYERS if layer.kind == "conv")

#: Names and lines that a message lists before it says "and N more".
_LISTED = 10


@dataclass(frozen=True)
class Match:
    """The layers of VGG19 that a file covers, and those that it does not.

    Parameters
    ----------
    how : {"by name", "by order and shapes"}
        How they were told apart.
    fits, misfits : dict of str to Entry
        Layer -> its entry, of the right shapes and of others.
    twice : dict of str to list of Entry
        Layer -> all its entries, where there are several.
    renamed : frozenset of str
        Layers whose entry the user named.
    """

    how: How
    fits: dict[str, Entry] = field(default_factory=dict)
    misfits: dict[str, Entry] = field(default_factory=dict)
    twice: dict[str, list[Entry]] = field(default_factory=dict)
    renamed: frozenset[str] = frozenset()


def needed_layers(layers: Iterable[str]) -> tuple[str, ...]:
    """Return the layers whose weights the network needs, cut after the deepest of `layers`."""
    return tuple(layer.name for layer in layers_up_to(deepest(layers)) if layer.kind != "pool")


def match_entries(entries: Sequence[Entry], renamed: Mapping[str, Entry] | None = None) -> Match:
    """Match entries to layers: by name, or by order and shapes if there are no names.

    One convolution of VGG19's name, or one that is `renamed`, is enough for
    names to count; a file is never matched half by name and half by order. An
    entry that is renamed has its own name no more, and a layer that is the new
    name of one is no other entry, whatever that is called.
    """
    renamed = renamed or {}
    named: dict[str, list[Entry]] = {name: [entry] for name, entry in renamed.items()}
    moved = set(renamed.values())
    for entry in entries:
        name = vgg19_name(entry.name)
        if name is not None and name not in renamed and entry not in moved:
            named.setdefault(name, []).append(entry)
    if renamed or not named.keys().isdisjoint(_CONVOLUTIONS):
        return _sorted_out("by name", named, frozenset(renamed))
    runs = list(_runs(entries))
    if not runs:
        return _sorted_out("by name", named)
    return _sorted_out(
        "by order and shapes",
        {name: [run[name] for run in runs if name in run] for name in runs[0]},
    )


def require(match: Match, entries: Sequence[Entry], layers: Iterable[str], path: Path) -> None:
    """Raise an error unless a file covers all that the network needs for `layers`.

    Raises
    ------
    WeightsError
        A layer is missing, has other shapes, or is there twice.
    """
    layers = tuple(layers)
    needed = needed_layers(layers)
    for name in needed:
        if name in match.twice:
            raise WeightsError(_twice(name, match.twice[name], path))
    lacking = [name for name in needed if name not in match.fits]
    if lacking:
        fitting = (
            f"{len(needed) - len(lacking)} of {counted(len(needed), 'layer')} with weights match."
        )
        lines = [f"{path} does not fit VGG19 up to {deepest(layers)}: {fitting}"]
        # All layers are walked through, or the ends of a block would seem to be anything.
        proposals = propose(entries, WEIGHTED, match.fits)
        proposals = {name: proposals[name] for name in needed if name in proposals}
        if proposals:
            lines += _table(needed, match, entries, proposals)
        else:
            complaints = [f"{name}: {_complaint(name, match, entries)}" for name in lacking]
            lines += [f"  {line}" for line in _listed(complaints)]
        unmatched = [name for name in lacking if name not in proposals]
        if unmatched:
            held = ", ".join(_listed([entry.name for entry in entries]))
            lines.append(f"The file holds: {held or 'no layer'}.")
        lines += _advice(unmatched, match, proposals)
        lines += _next_step(needed, unmatched, match, entries, proposals)
        raise WeightsError("\n".join([*lines, f"Look inside: featx info {path}"]))


def propose_renames(
    match: Match, entries: Sequence[Entry], layers: Sequence[str]
) -> tuple[RenameProposal, ...]:
    """Return all renames that would make a file fit, as far as its shapes and order allow.

    Parameters
    ----------
    match : Match
        What `match_entries` returns.
    entries : sequence of Entry
        Layers of the file, in its order.
    layers : sequence of str
        Layers of VGG19, in the network's order.

    Returns
    -------
    tuple of RenameProposal
        In the network's order; among them those of layers that fit already, but
        not by the file's own names. None if no further layer would fit.
    """
    proposals = propose(entries, WEIGHTED, match.fits)
    if proposals.keys().isdisjoint(layers):
        return ()
    labels = dict(zip(entries, entry_labels(entries), strict=True))
    return tuple(
        proposals.get(name) or RenameProposal(labels[match.fits[name]], name)
        for name in layers
        if name in proposals or (name in match.fits and vgg19_name(match.fits[name].name) != name)
    )


def _sorted_out(
    how: How, candidates: dict[str, list[Entry]], renamed: frozenset[str] = frozenset()
) -> Match:
    """Sort candidates into those that fit, those of other shapes, and doubles."""
    match = Match(how, renamed=renamed)
    for name in filter(candidates.__contains__, WEIGHTED):
        first, *others = candidates[name]
        if others:
            match.twice[name] = candidates[name]
        elif first.shapes == weight_shapes(name):
            match.fits[name] = first
        else:
            match.misfits[name] = first
    return match


def _runs(entries: Sequence[Entry]) -> Iterator[dict[str, Entry]]:
    """Find VGG19 among unnamed layers: its 16 convolutions, one after the other.

    One model at a time, since a nested model counts its layers anew. fc1 and
    fc2 belong to a run that they follow.
    """
    shapes = [weight_shapes(name) for name in WEIGHTED]
    places: dict[str, list[Entry]] = {}
    for entry in entries:
        places.setdefault(entry.place, []).append(entry)
    for inside in places.values():
        for start in range(len(inside) - len(_CONVOLUTIONS) + 1):
            pairs = zip(WEIGHTED, inside[start:], shapes, strict=False)
            run: dict[str, Entry] = {}
            for name, entry, expected in pairs:
                if entry.shapes != expected:
                    break
                run[name] = entry
            if len(run) >= len(_CONVOLUTIONS):
                yield run


def _twice(name: str, entries: Sequence[Entry], path: Path) -> str:
    places = " and ".join(entry.datasets[0] for entry in entries[:2])
    return (
        f"{path} holds {name} {len(entries)} times: {places}. Expected one VGG19. "
        "Save the one you mean by itself: model.get_layer(NAME).save_weights('one.weights.h5')"
    )


def _complaint(name: str, match: Match, entries: Sequence[Entry]) -> str:
    """Say in a few words what is wrong with one layer."""
    if name in match.misfits:
        found = " + ".join(map(str, match.misfits[name].shapes))
        expected = " + ".join(map(str, weight_shapes(name) or ()))
        where = f" in '{match.misfits[name].name}'" if name in match.renamed else ""
        return f"found {found}{where}, expected {expected}"
    strangers = [entry.name for entry in entries if vgg19_name(entry.name) is None]
    near = nearest(name, strangers)
    return "not in the file" + ("" if near is None else f"; nearest name '{near}'")


def _table(
    needed: Sequence[str],
    match: Match,
    entries: Sequence[Entry],
    proposals: Mapping[str, RenameProposal],
) -> Iterator[str]:
    """Say for each layer that is needed what it is in the file, or could be."""
    labels = dict(zip(entries, entry_labels(entries), strict=True))
    rows = [("VGG19", "in the file", "")]
    for name in needed:
        if name in match.fits:
            how = "by --rename" if name in match.renamed else match.how
            rows.append((name, labels[match.fits[name]], f"fits {how}"))
        elif name in proposals:
            found = proposals[name]
            other = f", and so would {found.other}" if found.other else ""
            rows.append((name, found.old, f"would fit by order and shapes{other}"))
        else:
            rows.append((name, "-", _complaint(name, match, entries)))
    first, second = (max(len(row[k]) for row in rows) for k in (0, 1))
    for name, label, remark in rows:
        yield f"  {name:{first}}  {label:{second}}  {remark}".rstrip()


def _next_step(
    needed: Sequence[str],
    unmatched: Sequence[str],
    match: Match,
    entries: Sequence[Entry],
    proposals: Mapping[str, RenameProposal],
) -> Iterator[str]:
    """Say how far the file serves, as it is or with which renames."""
    reach = needed[: needed.index(unmatched[0])] if unmatched else needed
    renames = propose_renames(match, entries, reach)
    if unmatched and proposals:
        yield f"Renaming alone does not make it fit: nothing is left for {', '.join(unmatched)}."
    if unmatched and reach:
        names = [layer.name for layer in LAYERS]
        last = names[names.index(unmatched[0]) - 1]
        served = "With renames it would serve" if renames else "It serves"
        yield f"{served} layers up to {last}: --layer {last}"
    if renames:
        unsure = [rename.new for rename in renames if rename.other]
        if unsure:
            yield f"More than one way is possible: see {', '.join(unsure)}."
        elif not unmatched:
            yield "The match is complete, and the only one in this order."
        instead = " in place of those given" if match.renamed else ""
        yield f"Compare it with your network, then add these flags{instead}:"
        yield "  " + " \\\n  ".join(rename.flag for rename in renames)


def _advice(
    unmatched: Sequence[str], match: Match, proposals: Mapping[str, RenameProposal]
) -> Iterator[str]:
    """Guess why nothing in the file can be some layers."""
    if not unmatched:
        return
    if any(_is_channels_first(name, entry) for name, entry in match.misfits.items()):
        yield (
            "Its kernels are ordered (out, in, height, width), as Theano and PyTorch do; Keras "
            "orders (height, width, in, out). Save the network from Keras, or use --weights "
            "imagenet."
        )
    elif unmatched[0] == "block3_conv4" and "block4_conv1" in {**match.fits, **proposals}:
        yield "Probably it is a VGG16, which has no block3_conv4. Use --weights imagenet."
    elif not match.fits and not match.misfits:
        yield "No layer has a name of VGG19, nor do all 16 convolutions follow in order by shape."


def _is_channels_first(name: str, entry: Entry) -> bool:
    expected = weight_shapes(name)
    if expected is None or len(expected[0]) != 4 or not entry.shapes:
        return False
    height, width, before, after = expected[0]
    return entry.shapes[0] == (after, before, height, width)


def _listed(items: Sequence[str]) -> list[str]:
    """Cut a list that would fill the screen."""
    more = len(items) - _LISTED
    return [*items[:_LISTED], *([f"and {more} more"] if more > 0 else [])]

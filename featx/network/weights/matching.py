"""Which entry of a file is which layer of VGG19, with proof.

Entries come in; the layers that they cover go out, or an error that says layer
by layer what does not fit. This file opens nothing and reads no array.
"""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from featx.errors import WeightsError
from featx.layers import LAYERS, deepest, layers_up_to, weight_shapes
from featx.network.weights.layouts import Entry
from featx.network.weights.names import vgg19_name

__all__ = ["WEIGHTED", "How", "Match", "match_entries", "needed_layers", "require"]

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
    """

    how: How
    fits: dict[str, Entry] = field(default_factory=dict)
    misfits: dict[str, Entry] = field(default_factory=dict)
    twice: dict[str, list[Entry]] = field(default_factory=dict)


def needed_layers(layers: Iterable[str]) -> tuple[str, ...]:
    """Return the layers whose weights the network needs, cut after the deepest of `layers`."""
    return tuple(layer.name for layer in layers_up_to(deepest(layers)) if layer.kind != "pool")


def match_entries(entries: Sequence[Entry]) -> Match:
    """Match entries to layers: by name, or by order and shapes if there are no names.

    One convolution of VGG19's name is enough for names to count; a file is
    never matched half by name and half by order.
    """
    named: dict[str, list[Entry]] = {}
    for entry in entries:
        name = vgg19_name(entry.name)
        if name is not None:
            named.setdefault(name, []).append(entry)
    if not named.keys().isdisjoint(_CONVOLUTIONS):
        return _sorted_out("by name", named)
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
        lines = [
            f"{path} does not fit VGG19 up to {deepest(layers)}: "
            f"{len(needed) - len(lacking)} of {len(needed)} layers with weights match.",
            *(f"  {line}" for line in _listed([_complaint(n, match, entries) for n in lacking])),
            f"The file holds: {', '.join(_listed([e.name for e in entries])) or 'no layer'}.",
            *_advice(lacking, match, path),
        ]
        raise WeightsError("\n".join(lines))


def _sorted_out(how: How, candidates: dict[str, list[Entry]]) -> Match:
    """Sort candidates into those that fit, those of other shapes, and doubles."""
    match = Match(how)
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
    for place in dict.fromkeys(entry.place for entry in entries):
        inside = [entry for entry in entries if entry.place == place]
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
    """Say in one line what is wrong with one layer."""
    if name in match.misfits:
        found = " + ".join(map(str, match.misfits[name].shapes))
        expected = " + ".join(map(str, weight_shapes(name) or ()))
        return f"{name}: found {found}, expected {expected}"
    strangers = [entry.name for entry in entries if vgg19_name(entry.name) is None]
    near = difflib.get_close_matches(name, strangers, n=1)
    return f"{name}: not in the file" + (f"; nearest name '{near[0]}'" if near else "")


def _advice(lacking: Sequence[str], match: Match, path: Path) -> Iterator[str]:
    """Guess the cause, and say what to type next."""
    if any(_is_channels_first(name, entry) for name, entry in match.misfits.items()):
        yield (
            "Its kernels are ordered (out, in, height, width), as Theano and PyTorch do; Keras "
            "orders (height, width, in, out). Save the network from Keras, or use --weights "
            "imagenet."
        )
    elif lacking[0] == "block3_conv4" and "block4_conv1" in match.fits:
        yield "Probably it is a VGG16, which has no block3_conv4. Use --weights imagenet."
    elif not match.fits and not match.misfits:
        yield "No layer has a name of VGG19, nor do all 16 convolutions follow in order by shape."
    if lacking[0] != WEIGHTED[0]:
        names = [layer.name for layer in LAYERS]
        reach = names[names.index(lacking[0]) - 1]
        yield f"It serves layers up to {reach}: --layer {reach}"
    yield f"Look inside: featx info {path}"


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

"""Errors for a weights file that does not hold what codes of some layers need.

The contents of a file, and the layers of VGG19 that it matches, come in; an error with a table
of both goes out, or nothing if the file is right. This file reads no arrays.
"""

from collections.abc import Iterable, Iterator, Sequence

from featx.errors import WeightsError
from featx.layers import LAYERS, deepest, layers_up_to, weight_shapes
from featx.network.weights.architecture import Difference, differences
from featx.network.weights.layouts import WEIGHTED, Contents, Entry, vgg19_name
from featx.network.weights.matching import Match, labelled, needed_layers
from featx.text import counted, nearest

__all__ = ["require"]

# Lines of a table: VGG19 has 18 layers with weights, often with as many others.
_LONGEST_TABLE = 40


def require(match: Match, contents: Contents, layers: Iterable[str]) -> None:
    """Raise an error unless a file holds all the weights that `layers` need.

    Raises
    ------
    WeightsError
        A layer is missing, has other shapes, or is there several times; or the network has
        other layers or settings than VGG19, so that its numbers are others.
    """
    cut, path = deepest(layers), contents.path
    needed = needed_layers([cut])
    for name in needed:
        if name in match.repeated:
            first, second, *_ = (entry.datasets[0] for entry in match.repeated[name])
            message = (
                f"{path} holds {name} {len(match.repeated[name])} times: {first} and {second}. "
                "Expected one VGG19. Save only the network that you mean: "
                "model.get_layer(NAME).save_weights('one.weights.h5')"
            )
            raise WeightsError(message)
    lacking = [name for name in needed if name not in match.fits]
    if lacking:
        found = f"{len(needed) - len(lacking)} of {counted(len(needed), 'layer')}"
        message = f"{path} does not match VGG19 up to {cut}: {found} with weights found."
        raise WeightsError("\n".join([message, *_details(match, contents, lacking)]))
    if others := differences(contents, match.fits, cut):
        raise WeightsError("\n".join(_another_network(others, match, contents, cut)))


def _another_network(
    others: Sequence[Difference], match: Match, contents: Contents, cut: str
) -> Iterator[str]:
    """Yield how a network differs from VGG19, and what to do next."""
    if all(each.is_sure for each in others):
        yield (
            f"{contents.path} has weights with the names and shapes of VGG19, but is another "
            f"network. Up to {cut} it has:"
        )
    else:
        yield (
            f"{contents.path} has weights with the names and shapes of VGG19, but may be another "
            f"network: it has layers that can change the numbers up to {cut}, and this layout "
            "does not hold their order."
        )
    yield from _table([(each.name, each.found, f"({each.expected})") for each in others])
    usable = [x.name for x in layers_up_to(cut) if not differences(contents, match.fits, x.name)]
    if usable:
        yield f"The file can be used for layers up to {usable[-1]}: --layer {usable[-1]}"
    if not all(each.is_sure for each in others):
        yield "If these layers come after VGG19, save the whole model: model.save('vgg19.keras')"
    yield (
        "featx computes VGG19, so codes would be those of neither network. Use the weights of a "
        "VGG19, or --weights bundled."
    )


def _details(match: Match, contents: Contents, lacking: list[str]) -> Iterator[str]:
    """Yield what VGG19 needs, what the file holds, and what to do next."""
    entries = contents.entries
    strangers = [entry.name for entry in entries if vgg19_name(entry.name) is None]
    yield "VGG19 needs:"
    yield from _table(
        [(x, _shapes(weight_shapes(x)), _complaint(x, match, strangers)) for x in lacking]
    )
    used = set(match.fits.values())
    unused = {entry: label for entry, label in labelled(entries).items() if entry not in used}
    yield "Other layers of the file:" if unused else "The file holds no other layers."
    yield from _table([(label, _shapes(entry.shapes)) for entry, label in unused.items()])
    yield from _explanation(match, lacking, entries)
    if {entry.shapes for entry in unused} & {weight_shapes(name) for name in lacking}:
        yield (
            "If layers of the file are layers of VGG19 under other names, add --rename OLD=NEW "
            "for each of them."
        )
        if match.matched_by != "name":
            yield "With --rename no layer is matched by order: rename the convolutions too."
    last = LAYERS[[layer.name for layer in LAYERS].index(lacking[0]) - 1].name
    if lacking[0] != WEIGHTED[0]:
        yield f"The file can be used for layers up to {last}: --layer {last}"
    yield f"List its contents with: featx info {contents.path}"


def _complaint(name: str, match: Match, strangers: list[str]) -> str:
    """Describe in a few words what is wrong with one layer."""
    if name in match.misfits:
        entry = match.misfits[name]
        return f"found {_shapes(entry.shapes)} in '{entry.name}'"
    near = nearest(name, strangers)
    return "not in the file" + ("" if near is None else f"; the nearest name is '{near}'")


def _explanation(match: Match, lacking: list[str], entries: Sequence[Entry]) -> Iterator[str]:
    """Suggest why a file does not match."""
    kernels = {entry.shapes[0] for entry in entries}
    if any(_channels_first(name) in kernels for name in lacking):
        yield (
            "Its kernels have the order (out, in, height, width) of Theano and PyTorch; Keras "
            "uses (height, width, in, out). Transpose each with kernel.transpose(2, 3, 1, 0), "
            "save the network with Keras, or use --weights imagenet."
        )
    elif lacking[0] == "block3_conv4" and "block4_conv1" in match.fits:
        yield "This is probably a VGG16, which has no block3_conv4. Use --weights imagenet."
    elif not match.fits and not match.misfits:
        yield (
            "No layer has a name of VGG19, and the file does not hold its 16 convolutions in "
            "order, one directly after the other."
        )


def _channels_first(name: str) -> tuple[int, ...]:
    """Return the shape of a convolution's kernel in PyTorch; nothing for a dense layer."""
    kernel, _ = weight_shapes(name) or ((), ())
    return (kernel[3], kernel[2], *kernel[:2]) if len(kernel) == 4 else ()


def _shapes(shapes: Sequence[tuple[int, ...]] | None) -> str:
    return " + ".join(map(str, shapes or ()))


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield rows as lines with aligned columns; a long table is cut."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows[:_LONGEST_TABLE]:
        yield "  " + "  ".join(f"{x:{w}}" for x, w in zip(row, widths, strict=True)).rstrip()
    if len(rows) > _LONGEST_TABLE:
        yield f"  and {len(rows) - _LONGEST_TABLE} more"

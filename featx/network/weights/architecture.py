"""Whether a file with the weights of VGG19 is a VGG19: what is between its layers.

The contents of a weights file and the layers that match VGG19 come in; the layers that would
change the numbers go out. If the file holds the model's config, the calls of the layers are
followed from one convolution to the next. Otherwise only the list of layers is known, and a
layer that could be between two convolutions counts as one that is.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from featx.layers import find_layer, layers_up_to
from featx.network.weights.configs import Call
from featx.network.weights.layouts import Contents, Entry, vgg19_name

__all__ = ["Difference", "differences"]

# Layers that do not change what a trained network computes.
_NEUTRAL = {
    *("InputLayer", "Identity", "ActivityRegularization", "Dropout", "AlphaDropout"),
    *("GaussianDropout", "GaussianNoise", "SpatialDropout2D"),
}
_POOLING = re.compile("(Max|Average)Pool")
_CONVOLUTIONS = {"Conv2D", "Convolution2D"}
_WEIGHTED = {*_CONVOLUTIONS, "Dense"}

# Classes of layers without arrays that change numbers, as Keras names their groups.
_AVERAGE = re.compile("average_?pooling2d")
_OTHERS = re.compile("leaky_?re_?lu|elu|thresholded_?re_?lu|unit_normalization")


@dataclass(frozen=True)
class Difference:
    """A layer of a file that is not in VGG19, or is another one there.

    Parameters
    ----------
    name : str
        Name of the layer in the file.
    found : str
        Its class, its shapes or the setting that differs.
    expected : str
        What VGG19 has instead.
    is_sure : bool, default=True
        Whether it is between layers of VGG19; otherwise the file does not give the order.
    """

    name: str
    found: str
    expected: str = "not in VGG19"
    is_sure: bool = True


def differences(contents: Contents, fits: Mapping[str, Entry], cut: str) -> tuple[Difference, ...]:
    """Return the layers up to `cut` in which a file is not a VGG19, in the file's order.

    Parameters
    ----------
    contents : Contents
        The file.
    fits : mapping of str to Entry
        Layer of VGG19 -> its entry in the file, for all layers that `cut` needs.
    cut : str
        The deepest layer that codes are taken from.
    """
    needed = [layer.name for layer in layers_up_to(cut) if layer.kind != "pool"]
    calls = {name: _calls_of(fits[name], contents.calls) for name in fits}
    if all(calls[name] for name in needed):
        found = _by_calls(calls, needed, cut)
    else:
        found = _by_list(contents, [fits[name] for name in needed], cut)
    order = {call.name: number for number, call in enumerate(contents.calls)}
    return tuple(sorted(dict.fromkeys(found), key=lambda each: order.get(each.name, 0)))


# from the config


def _calls_of(entry: Entry, calls: Sequence[Call]) -> list[Call]:
    """Return the calls of an entry's layer: by its group, or in older files by its name."""
    group = entry.datasets[0].rpartition("/vars/")[0]
    if group:
        return [call for call in calls if call.group == group]
    names = {entry.name, entry.group, vgg19_name(entry.name)}
    model = entry.place.partition("/")[2]  # the nested model, after "model_weights/"
    found = [call for call in calls if call.name in names]
    return [call for call in found if call.model.partition("/")[0] == model] or found


def _by_calls(
    calls: Mapping[str, list[Call]], needed: Sequence[str], cut: str
) -> Iterator[Difference]:
    """Follow the calls from the first convolution to `cut`."""
    known = {call for several in calls.values() for call in several}
    for call in (call for name in needed for call in calls[name]):
        yield from _check_geometry(call)
    for before, after in itertools.pairwise(needed):
        for call in calls[after]:
            path, reached = _back(call, known)
            starts = [start for start in calls[before] if start in reached]
            if not starts:
                expected = f"follows {calls[before][0].name}"
                yield Difference(call.name, "follows another layer", expected)
            yield from _check_path(starts, path, call, before[:6] != after[:6])
    for call in calls[needed[-1]]:
        pool = _next_pool(call, cut) if find_layer(cut).kind == "pool" else None
        path = _until_relu(call) if pool is None else [*_back(pool, known)[0], pool]
        yield from _check_path([call], path, None, pool is not None)


def _back(end: Call, known: Collection[Call]) -> tuple[list[Call], set[Call]]:
    """Return the calls before `end` up to known ones, and those that were reached."""
    found: dict[Call, None] = {}
    reached, waiting = set(), list(end.inputs)
    for call in waiting:  # grows
        if call in known:
            reached.add(call)
        elif call not in found:
            found[call] = None
            waiting += call.inputs
    return list(reversed(found)), reached


def _next_pool(call: Call, cut: str) -> Call | None:
    """Return the pooling that takes the output of a convolution, if any does."""
    found: dict[Call, None] = {}
    waiting = list(call.outputs)
    for each in waiting:  # grows
        if each not in found and each.kind not in _WEIGHTED:
            found[each] = None
            waiting += each.outputs
    pools = [each for each in found if _POOLING.match(each.kind)]
    pools.sort(key=lambda each: (each.name != cut, not each.kind.startswith("Max")))
    return pools[0] if pools else None


def _until_relu(call: Call) -> list[Call]:
    """Return the calls after a convolution without ReLU, up to the next ReLU."""
    path: list[Call] = []
    while not _is_relu(call) and call.outputs and call not in path[:-1]:
        relu = [each for each in call.outputs if _is_relu(each)]
        call = (relu or call.outputs)[0]
        if call.kind in _WEIGHTED:
            break
        path.append(call)
    return path


def _check_path(
    starts: Iterable[Call], path: Sequence[Call], end: Call | None, has_pool: bool
) -> Iterator[Difference]:
    """Compare the calls between two convolutions with those of VGG19."""
    pools = [call for call in path if _POOLING.match(call.kind)]
    for start in starts:
        yield from _check_activation(start, path)
    for call in path:
        if has_pool and call in pools[:1]:
            yield from _check_pool(call)
        elif call.kind in _WEIGHTED or not (
            _is_neutral(call) or _is_relu(call) or _fits_end(call, end)
        ):
            yield Difference(call.name, call.kind)
    if has_pool and not pools and end is not None:
        yield Difference(end.name, "no pooling before it", "MaxPooling2D before it")


def _is_neutral(call: Call) -> bool:
    return call.kind in _NEUTRAL or (call.kind == "Activation" and _activation(call) == "linear")


def _is_relu(call: Call) -> bool:
    """Return whether a call ends in a ReLU without other settings."""
    if call.kind in {"Activation", *_WEIGHTED}:
        return _activation(call) == "relu"
    if call.kind == "TFOpLambda":
        return str(call.setting("function")).endswith("nn.relu")
    return call.kind.lower() == "relu" and _is_plain(call.config)


def _is_plain(config: object) -> bool:
    """Return whether the settings of a ReLU are the default ones."""
    names = ("max_value", "negative_slope", "threshold")
    return not isinstance(config, dict) or all(not config.get(name) for name in names)


def _activation(call: Call) -> str:
    """Return the name of a call's activation."""
    match call.setting("activation"):
        case None:
            return "linear"
        case {"class_name": "ReLU", "config": config} if _is_plain(config):
            return "relu"
        case {"config": str(name)} | str(name) | {"class_name": str(name)}:
            return name.rpartition(".")[2]
    return "unknown"


def _fits_end(call: Call, end: Call | None) -> bool:
    """Return whether a call prepares its input for the next layer as VGG19 does."""
    if end is None:
        return False
    if call.kind == "ZeroPadding2D":
        return _is_valid(end) and _numbers(call.setting("padding")) <= {1}
    return end.kind == "Dense" and call.kind in {"Flatten", "Reshape"}


def _is_valid(call: Call) -> bool:
    return call.setting("padding", "border_mode") == "valid"


def _numbers(value: object) -> set[object]:
    """Return the numbers in a setting such as (2, 2) or ((1, 1), (1, 1)); nothing for None."""
    if isinstance(value, list):
        return {number for each in value for number in _numbers(each)}
    return set() if value is None else {value if isinstance(value, int) else "unknown"}


def _check_pool(call: Call) -> Iterator[Difference]:
    expected = "MaxPooling2D, 2 by 2, padding valid"
    if not call.kind.startswith("Max"):
        yield Difference(call.name, call.kind, expected)
        return
    size, strides = _numbers(call.setting("pool_size")), _numbers(call.setting("strides"))
    if size != {2} or not strides <= {2} or not _is_valid(call):
        padding = call.setting("padding", "border_mode")
        yield Difference(
            call.name,
            f"pool size {_shown(size)}, strides {_shown(strides or size)}, padding {padding}",
            expected,
        )


def _check_activation(call: Call, path: Iterable[Call]) -> Iterator[Difference]:
    """Check the activation of a convolution, which a ReLU may follow as its own layer."""
    is_linear = _activation(call) == "linear"
    if not _is_relu(call) and not (is_linear and any(map(_is_relu, path))):
        yield Difference(call.name, f"activation {_activation(call)}", "activation relu")


def _check_geometry(call: Call) -> Iterator[Difference]:
    """Check what the shapes of the weights do not show."""
    if call.kind == "Dense":
        return
    if call.kind not in _CONVOLUTIONS:
        yield Difference(call.name, call.kind, "Conv2D")
        return
    for names in (("strides", "subsample"), ("dilation_rate",)):
        if not (found := _numbers(call.setting(*names))) <= {1}:
            yield Difference(call.name, f"{names[0]} {_shown(found)}", f"{names[0]} 1")
    if _is_valid(call) and not any(_fits_end(each, call) for each in call.inputs):
        yield Difference(call.name, "padding valid", "padding same")


def _shown(numbers: Iterable[object]) -> str:
    return ", ".join(map(str, numbers))


# from the list of layers


def _by_list(contents: Contents, used: Sequence[Entry], cut: str) -> Iterator[Difference]:
    """Find other layers in a list of layers."""
    places = {entry.place for entry in used}
    inside = [layer for layer in contents.layers if layer.place in places]
    pools = [layer.name for layer in layers_up_to(cut) if layer.kind == "pool"]
    if contents.in_order:
        found = _between(inside, used, cut in pools)
    else:
        found = _among(inside, used, pools)
    for layer in dict.fromkeys(found):
        if layer in used or vgg19_name(layer.name):
            continue
        shapes = " + ".join(map(str, layer.shapes))
        is_sure = contents.in_order or layer.name in pools
        yield Difference(layer.name, shapes or _class(layer), is_sure=is_sure)


def _between(layers: Sequence[Entry], used: Sequence[Entry], has_pool: bool) -> Iterator[Entry]:
    """Yield layers that are in the order of the network, up to the end of the last block."""
    numbers = [number for number, layer in enumerate(layers) if layer in used]
    end = numbers[-1] + 1
    while end < len(layers) and not re.search("pool|flatten", layers[end].group):
        if not _has_one_number_for_a_channel(layers[end]):
            break
        end += 1
    for layer in layers[numbers[0] : end]:
        if layer.datasets or any(each.fullmatch(_class(layer)) for each in (_AVERAGE, _OTHERS)):
            yield layer
    if has_pool:
        yield from (layer for layer in layers[end : end + 1] if _AVERAGE.fullmatch(_class(layer)))


def _among(layers: Sequence[Entry], used: Sequence[Entry], pools: Sequence[str]) -> Iterator[Entry]:
    """Yield layers that could be between others: Keras 3 gives an order only within a class."""
    kind, widths = _class(used[0]), {entry.shapes[0][-1] for entry in used}
    convolutions = [layer for layer in layers if kind and _class(layer) == kind]
    numbers = [number for number, layer in enumerate(convolutions) if layer in used]
    if numbers:
        yield from convolutions[numbers[0] : numbers[-1]]
    n_max = sum(_class(layer) == "max_pooling2d" for layer in layers)
    for layer in layers:
        if layer.datasets:
            is_between = _has_one_number_for_a_channel(layer, widths)
        elif _AVERAGE.fullmatch(_class(layer)):
            is_between = layer.name in pools or n_max < len(pools)
        else:
            is_between = _OTHERS.fullmatch(_class(layer)) is not None
        if is_between:
            yield layer


def _has_one_number_for_a_channel(layer: Entry, widths: Collection[int] = ()) -> bool:
    """Return whether a layer has arrays as a normalization or a PReLU has, of these widths."""
    sizes = [[size for size in shape if size != 1] for shape in layer.shapes]
    return all(
        not size or (len(size) in (1, 3) and (not widths or size[-1] in widths)) for size in sizes
    )


def _class(layer: Entry) -> str:
    return re.sub(r"_\d+$", "", layer.group)

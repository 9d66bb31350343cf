"""The config of a model, read as data: its layers, and which layer takes which output.

The JSON that Keras wrote comes in; the layers go out, as groups of a weights file with their
names, and as calls that are linked to their inputs. Nested models are opened. Nothing in a
config is run, and a part that has another form is skipped. Keras 1, 2 and 3 are read. This
file does not know VGG19.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["Call", "config_names", "read_calls"]

# A real network has a few thousand; a hostile config could ask for millions of millions.
_MAX_LINKS = 1_000_000

_Ports = list[tuple[list["Call"], list["Call"]]]


@dataclass(eq=False, slots=True)
class Call:
    """One call of a layer: a layer that is used twice has two.

    Parameters
    ----------
    name : str
        Name of the layer.
    kind : str
        Its class.
    config : object
        Its settings, as json.loads returned them.
    group : str
        Its group in a weights file of Keras 3.
    model : str
        Names of the nested models that hold it, joined by slashes.
    inputs, outputs : list of Call
        The calls that it takes its input from, and that take its output.
    """

    name: str
    kind: str
    config: object
    group: str
    model: str
    inputs: list["Call"] = field(default_factory=list)
    outputs: list["Call"] = field(default_factory=list)

    def setting(self, *names: str) -> object:
        """Return the first setting that is there, None if none is."""
        found = (_member(self.config, name) for name in names)
        return next((value for value in found if value is not None), None)


def _member(value: object, key: str) -> object:
    """Return value[key] if `value` is a JSON object that has the key, else None."""
    return value.get(key) if isinstance(value, dict) else None


def config_names(model: object, path: str = "") -> dict[str, str]:
    """Find the layer of each group of a weights file from the model's config.

    Keras names a group after the class of its layer and numbers it: layers/conv2d,
    layers/conv2d_1, in the order of the model's layers. Each nested model starts again.

    Parameters
    ----------
    model : object
        The config of a model, as json.loads returned it.
    path : str, default=""
        Group of the model itself, with a slash at its end.

    Returns
    -------
    dict of str to str
        Group in the weights file -> name of the layer.

    Examples
    --------
    >>> conv = {"class_name": "Conv2D", "config": {"name": "block1_conv1"}}
    >>> config_names({"class_name": "Functional", "config": {"layers": [conv]}})
    {'layers/conv2d': 'block1_conv1'}
    """
    names: dict[str, str] = {}
    for layer, group in _grouped(model, path):
        names |= {group: _name(layer)} | config_names(layer, f"{group}/")
    return names


def read_calls(model: object) -> list[Call]:
    """Return every call of a layer in a model, linked to its inputs.

    Raises
    ------
    ValueError
        The config has more links than any network.

    Examples
    --------
    >>> layers = [{"class_name": "ReLU", "config": {"name": name}} for name in ("a", "b")]
    >>> a, b = read_calls({"class_name": "Sequential", "config": {"layers": layers}})
    >>> b.inputs[0].name, a.outputs[0].name
    ('a', 'b')
    """
    calls: list[Call] = []
    _Reader(calls).model(model, "", "")
    return calls


def _grouped(model: object, path: str) -> Iterator[tuple[object, str]]:
    """Yield the layers that a model or a wrapper holds, with their groups."""
    config = _member(model, "config")
    seen: Counter[str] = Counter()
    for layer in _layers(config):
        kind = _snake_case(str(_member(layer, "class_name")))
        number = f"_{seen[kind]}" if seen[kind] else ""
        seen[kind] += 1
        yield layer, f"{path}layers/{kind}{number}"
    if wrapped := _member(config, "layer"):  # a wrapper such as TimeDistributed holds one layer
        yield wrapped, f"{path}layer"


def _layers(config: object) -> list[object]:
    """Return the layers of a model's config, which was a list itself in Keras 1."""
    layers = config if isinstance(config, list) else _member(config, "layers")
    return layers if isinstance(layers, list) else []


def _name(layer: object) -> str:
    return str(_member(_member(layer, "config"), "name") or _member(layer, "name"))


def _snake_case(name: str) -> str:
    """Spell a class as Keras spells its group: MaxPooling2D -> max_pooling2d."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


class _Reader:
    """Makes the calls of a model; each call of a layer has ports, its first and last calls."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls, self._n_links = calls, 0

    def model(self, model: object, path: str, names: str) -> _Ports:
        """Add the layers of a model, and return the one pair of ports that it has."""
        held: dict[str, tuple[object, _Ports]] = {}
        for layer, group in _grouped(model, path):
            held[_name(layer)] = layer, self._layer(layer, group, names)
        config = _member(model, "config")
        links = {name: _inbound(layer) for name, (layer, _) in held.items()}
        if not any(links.values()):
            return self._chain([ports for _, ports in held.values()])
        for name, nodes in links.items():
            for number, node in enumerate(nodes):
                for source, call in _references(node):
                    if source in held:
                        self._link(_port(held[source][1], call)[1], _port(held[name][1], number)[0])
        ends = [_references(_member(config, f"{end}_layers")) for end in ("input", "output")]
        first, last = (
            [each for name, k in end if name in held for each in _port(held[name][1], k)[side]]
            for side, end in enumerate(ends)
        )
        return [(first, last)]

    def _layer(self, layer: object, group: str, names: str) -> _Ports:
        kind, name = str(_member(layer, "class_name")), _name(layer)
        config = _member(layer, "config")
        if _layers(config) or (kind == "TimeDistributed" and _member(config, "layer")):
            return self.model(layer, f"{group}/", f"{names}/{name}".lstrip("/"))
        calls = [Call(name, kind, config, group, names) for _ in _inbound(layer) or [None]]
        self._calls += calls
        return [([call], [call]) for call in calls]

    def _chain(self, ports: list[_Ports]) -> _Ports:
        """Link the layers of a Sequential, each to the one before."""
        if not ports:
            return [([], [])]
        for before, after in itertools.pairwise(ports):
            self._link(before[0][1], after[0][0])
        return [(ports[0][0][0], ports[-1][0][1])]

    def _link(self, sources: list[Call], targets: list[Call]) -> None:
        self._n_links += len(sources) * len(targets)
        if self._n_links > _MAX_LINKS:
            message = f"the config has more than {_MAX_LINKS:,} links"
            raise ValueError(message)
        for target in targets:
            target.inputs += sources
            for source in sources:
                source.outputs.append(target)


def _inbound(layer: object) -> list[object]:
    nodes = _member(layer, "inbound_nodes")
    return nodes if isinstance(nodes, list) else []


def _port(ports: _Ports, number: int) -> tuple[list[Call], list[Call]]:
    """Return the ports of a call; a nested model has one pair for all its calls."""
    return ports[min(max(number, 0), len(ports) - 1)]


def _references(node: object) -> list[tuple[str, int]]:
    """Return the layers that a part of a config refers to, and which of their calls.

    Keras 3 writes {"keras_history": [NAME, CALL, OUTPUT]}, Keras 1 and 2 [NAME, CALL, OUTPUT].
    """
    match node:
        case [str(name), int(call), int(), *more]:
            return [(name, call), *(found for each in more for found in _references(each))]
        case list():
            return [found for each in node for found in _references(each)]
        case dict():
            return [found for each in node.values() for found in _references(each)]
    return []

"""Several stores of the same images, seen as one.

Stores come in; the images that all of them hold, one recipe and one matrix of
codes go out. Images are matched by path and content, never by their place.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.codes.matrix import CodeMatrix, Rows
from featx.errors import OptionError, RecipeMismatchError, StoreError
from featx.recipe import Recipe
from featx.store import ImageTable, Store, open_store
from featx.text import counted

__all__ = ["JoinedStores", "join_stores"]

Codes = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class JoinedStores:
    """One or several stores, layers side by side.

    Parameters
    ----------
    stores : tuple of Store
        The stores; the first one's labels count.
    recipe : Recipe
        Of the codes, with the layers that are used.
    images : ImageTable
        Facts of the images that all stores hold.
    rows : tuple of ndarray of int, each of shape (n_images,)
        Where those images stand in each store.
    notes : tuple of str
        What was joined, and what was left out.
    """

    stores: tuple[Store, ...]
    recipe: Recipe
    images: ImageTable
    rows: tuple[Rows, ...]
    notes: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The first store's, which stands for all in messages."""
        return self.stores[0].path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The stores' files."""
        return tuple(store.path for store in self.stores)

    @property
    def provenance(self) -> dict[str, Any]:
        """Of the first store."""
        return self.stores[0].provenance

    def find_layer(self, layer: str) -> tuple[Store, Rows]:
        """Return the store that holds a layer, and where the images stand in it."""
        pairs = zip(self.stores, self.rows, strict=True)
        return next(pair for pair in pairs if layer in pair[0].recipe.layers)

    def matrix(self, images: Rows) -> CodeMatrix:
        """Return the codes of some images, (n, d), without reading them."""
        layers, rows = [], []
        for layer in self.recipe.layers:
            store, places = self.find_layer(layer)
            layers.append(store.flat_codes(layer))
            rows.append(places[images])
        return CodeMatrix(layers, rows)

    def take(self, images: Rows) -> "JoinedStores":
        """Return some of the images."""
        facts = {
            name: getattr(self.images, name)[images] for name in self.images.__dataclass_fields__
        }
        rows = tuple(places[images] for places in self.rows)
        return dataclasses.replace(self, images=ImageTable(**facts), rows=rows)

    def thumbnails(self, images: Rows) -> NDArray[np.uint8]:
        """Return the thumbnails of some images, (n, 32, 32, 3)."""
        return self.stores[0].thumbnails()[self.rows[0][images]]


def join_stores(codes: Codes, layer: str | Sequence[str] | None = None) -> JoinedStores:
    """Open one or several stores as one.

    Parameters
    ----------
    codes : Path, str or sequence of them
        Stores of the same images, each with layers of its own.
    layer : str or sequence of str, optional
        Layers to use; all by default.

    Raises
    ------
    StoreError
        A store cannot be read, or they have no image in common.
    RecipeMismatchError
        Their codes differ in more than the layers.
    OptionError
        Two hold the same layer, or none holds one that is wanted.
    """
    paths = [codes] if isinstance(codes, str | Path) else list(codes)
    stores = [open_store(path) for path in paths]
    if not stores:
        message = "No store was given. Make one first: featx extract IMAGES --layer block2_pool"
        raise OptionError(message)
    held = [name for store in stores for name in store.recipe.layers]
    wanted = _wanted(stores, held, layer or None)
    recipe = stores[0].recipe.with_layers(wanted)
    stores = [store for store in stores if set(store.recipe.layers) & set(wanted)]
    first = stores[0]
    for other in stores[1:]:
        _check_recipes(first, other)
    joined = f"Layers {'+'.join(recipe.layers)} are joined, each with the same weight."
    notes = [joined] if len(recipe.layers) > 1 else []
    if len(stores) == 1:
        every = np.arange(len(first.images))
        return JoinedStores((first,), recipe, first.images, (every,), tuple(notes))
    rows = _common(stores)
    images = _of_all(stores, rows)
    lost = [len(store.images) - len(images) for store in stores]
    if any(lost):
        counts = ", ".join(f"{n} of {s.path}" for n, s in zip(lost, stores, strict=True) if n)
        notes.append(f"Images that are not in every store are left out: {counts}.")
    notes += _other_labels(stores, rows)
    return JoinedStores(tuple(stores), recipe, images, tuple(rows), tuple(notes))


def _wanted(
    stores: Sequence[Store], held: Sequence[str], layer: str | Sequence[str] | None
) -> tuple[str, ...]:
    if len(stores) == 1:
        return stores[0].check_layers(layer)
    wanted = tuple(held) if layer is None else (layer,) if isinstance(layer, str) else tuple(layer)
    for name in wanted:
        if name not in held:
            message = (
                f"The stores hold codes of {', '.join(held)}, not of '{name}'. "
                "Use --layer with some of them."
            )
            raise OptionError(message)
        if list(held).count(name) > 1:
            message = f"More than one of the stores holds {name}. Leave one of them out."
            raise OptionError(message)
    return wanted


def _check_recipes(first: Store, other: Store) -> None:
    found = [d for d in other.recipe.differences(first.recipe) if d.field != "layers"]
    if found:
        message = (
            f"{other.path} cannot be joined with {first.path}, since its codes were made "
            f"otherwise: {'; '.join(map(str, found))}. Only the layers may differ. Extract again "
            f"with {' '.join(d.flag for d in found)}."
        )
        raise RecipeMismatchError(message)


def _common(stores: Sequence[Store]) -> list[Rows]:
    """Return where the images that all stores hold stand in each, in the first one's order."""
    places = [
        {key: row for row, key in enumerate(zip(s.images.path, s.images.sha256, strict=True))}
        for s in stores
    ]
    keys = [key for key in places[0] if all(key in place for place in places[1:])]
    if not keys:
        names = ", ".join(str(store.path) for store in stores)
        message = (
            f"{names} have no image in common, by path and content. Extract all from one folder."
        )
        raise StoreError(message)
    return [np.array([place[key] for key in keys]) for place in places]


def _of_all(stores: Sequence[Store], rows: Sequence[Rows]) -> ImageTable:
    """Return the first store's facts; the status is the least that any store has."""
    facts = {
        name: getattr(stores[0].images, name)[rows[0]]
        for name in stores[0].images.__dataclass_fields__
    }
    for store, places in zip(stores[1:], rows[1:], strict=True):
        worse = ~store.images.done[places] & (facts["status"] == 1)
        facts["status"] = np.where(worse, store.images.status[places], facts["status"])
        facts["reason"] = np.where(worse, store.images.reason[places], facts["reason"])
    return ImageTable(**facts)


def _other_labels(stores: Sequence[Store], rows: Sequence[Rows]) -> list[str]:
    labels = [store.images.label[places] for store, places in zip(stores, rows, strict=True)]
    n_other = int(sum(np.sum(label != labels[0]) for label in labels[1:]))
    if not n_other:
        return []
    differ = counted(n_other, "label differs", "labels differ")
    return [f"{differ} between the stores; those of {stores[0].path} count."]

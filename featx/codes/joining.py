"""Several stores of the same images, used as one.

Stores go in; the images that all of them contain, one recipe and one matrix of codes come
out. Images are matched by path and content, not by row.
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
from featx.text import composed, counted

__all__ = ["JoinedStores", "join_stores"]

Codes = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class JoinedStores:
    """One or several stores, layers side by side.

    Parameters
    ----------
    stores : tuple of Store
        The stores. Labels and thumbnails are taken from the first one.
    recipe : Recipe
        Recipe of the codes, with the layers in use.
    images : ImageTable
        Facts of the images that all stores contain.
    rows : tuple of ndarray of int, each of shape (n_images,)
        Rows of these images in each store.
    notes : tuple of str
        Warnings and other notes for the user.
    """

    stores: tuple[Store, ...]
    recipe: Recipe
    images: ImageTable
    rows: tuple[Rows, ...]
    notes: tuple[str, ...]

    @property
    def path(self) -> Path:
        """Path of the first store, which messages use for all."""
        return self.stores[0].path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Paths of the stores."""
        return tuple(store.path for store in self.stores)

    @property
    def provenance(self) -> dict[str, Any]:
        """Provenance of the first store."""
        return self.stores[0].provenance

    def find_layer(self, layer: str) -> tuple[Store, Rows]:
        """Return the store that contains a layer, and the rows of the images in it."""
        pairs = zip(self.stores, self.rows, strict=True)
        return next(pair for pair in pairs if layer in pair[0].recipe.layers)

    def matrix(self, images: Rows) -> CodeMatrix:
        """Return the codes of some images, (n, d), without reading them."""
        found = [(layer, *self.find_layer(layer)) for layer in self.recipe.layers]
        layers = [store.flat_codes(layer) for layer, store, _ in found]
        return CodeMatrix(layers, [rows[images] for _, _, rows in found])

    def take(self, images: Rows) -> "JoinedStores":
        """Return the stores with some of the images."""
        rows = tuple(each[images] for each in self.rows)
        return dataclasses.replace(self, images=_take(self.images, images), rows=rows)

    def thumbnails(self, images: Rows) -> NDArray[np.uint8]:
        """Return the thumbnails of some images, (n, 32, 32, 3)."""
        return self.stores[0].thumbnails()[self.rows[0][images]]


def join_stores(codes: Codes, layer: str | Sequence[str] | None = None) -> JoinedStores:
    """Open one or several stores as one.

    Parameters
    ----------
    codes : Path, str or sequence of them
        Stores of the same images, each with other layers.
    layer : str or sequence of str, optional
        Layers to use; all by default.

    Raises
    ------
    StoreError
        A store cannot be read, or the stores have no image in common.
    RecipeMismatchError
        The recipes of the codes differ in more than the layers.
    OptionError
        Two stores contain the same layer, or no store contains a requested one.
    """
    paths = [codes] if isinstance(codes, str | Path) else list(codes)
    stores = [open_store(path) for path in paths]
    if not stores:
        message = "No store was given. Make one first: featx extract IMAGES --layer block2_pool"
        raise OptionError(message)
    layers = _check_layers(stores, layer or None)
    recipe = stores[0].recipe.with_layers(layers)
    stores = [store for store in stores if set(store.recipe.layers) & set(layers)]
    first = stores[0]
    for other in stores[1:]:
        _check_recipes(first, other)
    notes = []
    if len(recipe.layers) > 1:
        notes.append(f"Layers {'+'.join(recipe.layers)} are joined, each with the same weight.")
    if len(stores) == 1:
        every = np.arange(len(first.images))
        return JoinedStores((first,), recipe, first.images, (every,), tuple(notes))
    rows = _common_rows(stores)
    images = _combined_facts(stores, rows)
    lost = [len(store.images) - len(images) for store in stores]
    if any(lost):
        counts = ", ".join(f"{n} of {s.path}" for n, s in zip(lost, stores, strict=True) if n)
        notes.append(f"Images that are not in every store are left out: {counts}.")
    labels = [store.images.label[each] for store, each in zip(stores, rows, strict=True)]
    if n_other := int(sum(np.sum(label != labels[0]) for label in labels[1:])):
        differ = counted(n_other, "label differs", "labels differ")
        notes.append(f"{differ} between the stores; those of {first.path} are used.")
    return JoinedStores(tuple(stores), recipe, images, tuple(rows), tuple(notes))


def _check_layers(stores: Sequence[Store], layer: str | Sequence[str] | None) -> tuple[str, ...]:
    if len(stores) == 1:
        return stores[0].check_layers(layer)
    present = [name for store in stores for name in store.recipe.layers]
    layers = tuple(present if layer is None else (layer,) if isinstance(layer, str) else layer)
    for name in layers:
        if name not in present:
            message = (
                f"The stores contain codes of {', '.join(present)}, but not of '{name}'. "
                "Use --layer with some of these."
            )
            raise OptionError(message)
        if present.count(name) > 1:
            message = f"More than one of the stores contains {name}. Leave one of them out."
            raise OptionError(message)
    return layers


def _check_recipes(first: Store, other: Store) -> None:
    found = [d for d in other.recipe.differences(first.recipe) if d.field != "layers"]
    if found:
        message = (
            f"{other.path} cannot be joined with {first.path}, because the recipes of their codes "
            f"differ: {'; '.join(map(str, found))}. Only the layers may differ. Extract again "
            f"with {' '.join(d.flag for d in found)}."
        )
        raise RecipeMismatchError(message)


def _common_rows(stores: Sequence[Store]) -> list[Rows]:
    """Return the rows of the images that all stores contain, in the order of the first one."""
    row_of = [
        {key: row for row, key in enumerate(zip(s.images.path, s.images.sha256, strict=True))}
        for s in stores
    ]
    if any(rows.keys().isdisjoint(row_of[0]) for rows in row_of[1:]):  # of a Mac and of Linux
        row_of = [{(composed(path), sha): k for (path, sha), k in rows.items()} for rows in row_of]
    common = [key for key in row_of[0] if all(key in rows for rows in row_of[1:])]
    if not common:
        names = ", ".join(str(store.path) for store in stores)
        message = (
            f"{names} have no image in common, by path and content. Extract all stores from the "
            "same folder."
        )
        raise StoreError(message)
    return [np.array([rows[key] for key in common]) for rows in row_of]


def _combined_facts(stores: Sequence[Store], rows: Sequence[Rows]) -> ImageTable:
    """Return the first store's facts; an image that is not done in one store is not done."""
    images = _take(stores[0].images, rows[0])
    for store, each in zip(stores[1:], rows[1:], strict=True):
        other = store.images
        worse = images.done & ~other.done[each]
        images = dataclasses.replace(
            images,
            status=np.where(worse, other.status[each], images.status),
            reason=np.where(worse, other.reason[each], images.reason),
        )
    return images


def _take(images: ImageTable, rows: Rows) -> ImageTable:
    return ImageTable(**{f.name: getattr(images, f.name)[rows] for f in dataclasses.fields(images)})

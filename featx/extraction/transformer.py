"""A scikit-learn transformer from images to codes.

Paths or arrays come in, and a matrix of codes goes out. Nothing is stored: if the codes do not
fit into memory, use `featx.extract`, which writes a store.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from featx.errors import ImageError, OptionError
from featx.extraction.batching import Batcher, Codes, flat_codes, settle_batch_size
from featx.extraction.pipeline import stream_codes
from featx.extraction.settings import TransformerSettings
from featx.images import File, array_views, as_file, as_rgb, check_batch, check_file
from featx.network import VGG19Backbone, WeightsSource, check_device, find_weights, load_backbone
from featx.recipe import Recipe
from featx.signatures import documented_by, method_taking_fields_of

__all__ = ["VGG19Codes"]


@documented_by(TransformerSettings)
class VGG19Codes(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Transform images into CNN codes of VGG19.

    The network [1]_ is pretrained and learns nothing from the images: `fit` only checks the
    settings and finds the weights.

    Attributes
    ----------
    recipe_ : Recipe
        Settings that determine the codes; set by `fit`.

    References
    ----------
    .. [1] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for
       Large-Scale Image Recognition", 2014. https://arxiv.org/abs/1409.1556

    Examples
    --------
    >>> codes = VGG19Codes("block1_pool", pool="avg", size=32)
    >>> codes.fit_transform(np.zeros((2, 48, 64, 3), np.uint8)).shape
    (2, 64)
    """

    @method_taking_fields_of(TransformerSettings)
    def __init__(self, settings: TransformerSettings) -> None:
        for each in dataclasses.fields(settings):
            setattr(self, each.name, getattr(settings, each.name))

    def fit(self, X: Any, y: object = None) -> Self:
        """Check the settings and the weights.

        Parameters
        ----------
        X : array-like
            Images, as `transform` takes them.
        y : object, optional
            Ignored.

        Returns
        -------
        VGG19Codes
            The transformer itself.

        Raises
        ------
        OptionError, WeightsError
            A setting has a value that is not allowed, or the weights cannot be found.
        """
        _as_images(X)
        settings = TransformerSettings(**self.get_params(deep=False))
        check_device(settings.device)
        source = find_weights(settings.weights, settings.layers, rename=settings.rename)
        self.recipe_ = settings.recipe(source.identity)
        self._lazy = _LazyBackbone(self.recipe_, source, settings.device)
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the codes of images.

        Parameters
        ----------
        X : array-like
            Paths or URLs, of shape (n,) or (n, 1); or uint8 images of shape (n, h, w, 3)
            in RGB or (n, h, w) in grey, or a list of images of different sizes. X is not
            changed.

        Returns
        -------
        ndarray of float32, shape (n, code_size)
            Codes of all layers, concatenated.

        Raises
        ------
        ImageError
            A file cannot be read.
        OptionError
            X contains something else.
        """
        check_is_fitted(self)
        images = _as_images(X)
        backbone = self._lazy.backbone
        size = settle_batch_size(self.batch_size, self.recipe_, len(images), backbone.device)
        if isinstance(images, tuple):
            batches = _codes_of_files(images, backbone, size)
        else:
            batches = _codes_of_arrays(images, Batcher(backbone, size))
        out, n_done = np.empty((len(images), self.recipe_.n_features), "f4"), 0
        for codes in batches:
            rows = flat_codes(codes, self.recipe_.layers)
            out[n_done : n_done + len(rows)] = rows
            n_done += len(rows)
        return out

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns: LAYER_0, LAYER_1 and so on.

        Parameters
        ----------
        input_features : object, optional
            Ignored.

        Returns
        -------
        ndarray of str, shape (code_size,)
            One name for each feature.
        """
        check_is_fitted(self)
        return np.array(self.recipe_.code_names(), dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


class _LazyBackbone:
    """A backbone that is built on first use, and again after unpickling."""

    def __init__(self, recipe: Recipe, source: WeightsSource, device: str) -> None:
        self._given = recipe, source, device

    @cached_property
    def backbone(self) -> VGG19Backbone:
        return load_backbone(*self._given)

    def __reduce__(self) -> tuple[Any, ...]:
        return _LazyBackbone, self._given


def _codes_of_files(
    files: Sequence[File], backbone: VGG19Backbone, batch_size: int
) -> Iterator[Codes]:
    for batch in stream_codes(files, backbone, batch_size):
        for failure in batch.failures:
            message = f"{files[failure.row]} cannot be read: {failure.reason}."
            raise ImageError(message, failure.sha256)
        yield batch.codes


def _codes_of_arrays(images: Sequence[NDArray[np.uint8]], batcher: Batcher) -> Iterator[Codes]:
    recipe, step = batcher.backbone.recipe, batcher.batch_size
    view = partial(array_views, size=recipe.view_size, resize=recipe.resize, scales=recipe.scales)
    for start in range(0, len(images), step):
        yield batcher([view(image) for image in images[start : start + step]])


def _as_images(X: Any) -> tuple[File, ...] | list[NDArray[np.uint8]]:
    """Return a tuple of paths, or a list of RGB arrays of shape (h, w, 3)."""
    items = X if isinstance(X, list | tuple | np.ndarray) else np.asarray(X)
    if isinstance(items, np.ndarray) and items.ndim == 2 and items.shape[1] == 1:
        items = items[:, 0]
    if isinstance(items, np.ndarray) and items.dtype.kind not in "OUS":
        check_batch(items)
    # NumPy cannot stack images of different shapes, so lists are not converted.
    if (isinstance(items, np.ndarray) and items.ndim == 0) or len(items) == 0:
        message = f"X must contain paths or uint8 images, but it is {X!r}."
        raise OptionError(message)
    if all(isinstance(item, str | Path) for item in items):
        return tuple(check_file(as_file(item)) for item in items)
    return [as_rgb(item) for item in items]

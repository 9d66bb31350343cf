"""Codes as a scikit-learn transformer, for pipelines of the user's own.

Paths or arrays come in; a matrix of codes goes out. Nothing is stored: for
more images than memory holds codes, `featx.extract` writes a store.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from featx.errors import ImageError, OptionError
from featx.extraction.batching import Batcher, BatchSize, settle_batch_size
from featx.extraction.pipeline import stream_codes
from featx.images import File, array_views, as_file, check_file
from featx.network import (
    Backbone,
    VGG19Backbone,
    WeightsSource,
    check_device,
    find_weights,
    load_backbone,
)
from featx.recipe import Jpeg, Pool, Precision, Preprocess, Recipe, Resize, ScalesJoin, image_size

__all__ = ["VGG19Codes"]

Codes = NDArray[np.float32]


class VGG19Codes(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns images into CNN codes of VGG19.

    The network is that of [1]_. It learns nothing from the images; `fit` checks the
    settings and finds the weights.

    Parameters
    ----------
    layer : str or sequence of str, default="block5_pool"
        Layers to take codes from; their names: ``featx layers``.
    pool : {"none", "avg", "max", "avg+max", "grid:N", "bilinear"}, default="none"
        Keep the whole map of a layer, flattened; its mean or maximum over the
        places, or both, which is twice as wide; the means of N x N cells,
        flattened; or the mean products of each two channels. Early layers are
        wide: 401,408 numbers at block2_pool.
    size : int, str or (int, int), default=224
        Image size that the network sees, in pixels: one number, "HxW" or
        (height, width).
    resize : {"squash", "crop", "pad"}, default="squash"
        Stretch the image to that size, cut out its middle, or add a border.
    jpeg : {"reduced", "full"}, default="reduced"
        Whether JPEGs much larger than `size` may be decoded at a part of their
        size, which is faster; see `featx.images.decoding`.
    weights : str, default="bundled"
        "bundled", "imagenet", an h5 or keras file, or "random:SEED".
    rename : mapping of str to str, optional
        Name of a layer in that file -> the layer of VGG19 that it is, where the
        file's names are its maker's own.
    preprocess : {"caffe", "unit"}, default="caffe"
        BGR minus ImageNet's mean, which VGG19's weights expect, or RGB / 255.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Arithmetic of the network.
    device : str, default="auto"
        "auto" (a GPU if there is one), "cpu", "gpu" or "gpu:N".
    batch_size : int or "auto", default="auto"
        Images that the network sees at once; halved where memory ends.
    flip : bool, default=False
        Whether a code is the mean of an image's and its mirror image's.
    crops : {1, 5, 10}, default=1
        The mean of the codes of four corners and the middle; with 10 of their mirror
        images too.
    scale : int or sequence of int, optional
        Shorter sides at which the network sees the whole image, instead of `size`.
    scales_join : {"mean", "stack"}, default="mean"
        What becomes of the codes of several scales.

    Attributes
    ----------
    recipe_ : Recipe
        What determines the codes' numbers.

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

    def __init__(  # noqa: PLR0913  those of `extract`
        self,
        layer: str | Sequence[str] = "block5_pool",
        *,
        pool: Pool = "none",
        size: int | str | tuple[int, int] = 224,
        resize: Resize = "squash",
        jpeg: Jpeg = "reduced",
        weights: str = "bundled",
        rename: Mapping[str, str] | None = None,
        preprocess: Preprocess = "caffe",
        precision: Precision = "float32",
        device: str = "auto",
        batch_size: BatchSize = "auto",
        flip: bool = False,
        crops: int = 1,
        scale: int | Sequence[int] = (),
        scales_join: ScalesJoin = "mean",
    ) -> None:
        self.layer = layer
        self.pool = pool
        self.size = size
        self.resize = resize
        self.jpeg = jpeg
        self.weights = weights
        self.rename = rename
        self.preprocess = preprocess
        self.precision = precision
        self.device = device
        self.batch_size = batch_size
        self.flip = flip
        self.crops = crops
        self.scale = scale
        self.scales_join = scales_join

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
            Itself.

        Raises
        ------
        OptionError, WeightsError
            A setting cannot be, or there are no such weights.
        """
        _as_images(X)
        check_device(self.device)
        layers = (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)
        source = find_weights(self.weights, layers, rename=self.rename)
        self.recipe_ = Recipe(
            weights=source.identity,
            layers=layers,
            pool=self.pool,
            size=image_size(self.size),
            resize=self.resize,
            jpeg=self.jpeg,
            preprocess=self.preprocess,
            precision=self.precision,
            flip=self.flip,
            crops=self.crops,
            scales=(self.scale,) if isinstance(self.scale, int) else tuple(self.scale),
            scales_join=self.scales_join,
        )
        self._backbone = _LazyBackbone(self.recipe_, source, self.device)
        return self

    def transform(self, X: Any) -> Codes:
        """Return the codes of images.

        Parameters
        ----------
        X : array-like
            Paths or URLs, of shape (n,) or (n, 1); or uint8 images, of shape
            (n, h, w, 3) in RGB, (n, h, w) in grey, or a list of such of any
            sizes. They are not changed.

        Returns
        -------
        ndarray of float32, shape (n, code_size)
            All layers side by side.

        Raises
        ------
        ImageError
            A file cannot be read.
        OptionError
            X is something else.
        """
        check_is_fitted(self)
        images = _as_images(X)
        backbone = self._backbone.load()
        size = settle_batch_size(self.batch_size, self.recipe_, len(images), backbone.device)
        out = np.empty((len(images), self.recipe_.width), "f4")
        if isinstance(images, tuple):
            self._of_files(images, backbone, size, out)
        else:
            self._of_arrays(images, Batcher(backbone, size), out)
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
            One for each number of a code.
        """
        check_is_fitted(self)
        return np.array(self.recipe_.code_names(), dtype=object)

    def _of_files(
        self, files: Sequence[File], backbone: Backbone, batch_size: int, out: Codes
    ) -> None:
        for batch in stream_codes(files, backbone, batch_size):
            for failure in batch.failures:
                message = f"{files[failure.row]} cannot be read: {failure.reason}."
                raise ImageError(message, failure.sha256)
            self._put(batch.codes, out[batch.rows[0] : batch.rows[-1] + 1])

    def _of_arrays(self, images: Sequence[NDArray[np.uint8]], batcher: Batcher, out: Codes) -> None:
        recipe, step = self.recipe_, batcher.batch_size
        for start in range(0, len(images), step):
            part = images[start : start + step]
            fitting = [
                array_views(image, recipe.view_size, recipe.resize, recipe.scales) for image in part
            ]
            self._put(batcher(fitting), out[start : start + step])

    def _put(self, codes: dict[str, NDArray[np.floating]], out: Codes) -> None:
        start = 0
        for layer in self.recipe_.layers:
            width = self.recipe_.code_size(layer)
            out[:, start : start + width] = codes[layer].reshape(len(out), width)
            start += width

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


class _LazyBackbone:
    """A backbone that is built when it is first needed, and again after a pickle."""

    def __init__(self, recipe: Recipe, source: WeightsSource, device: str) -> None:
        self._recipe, self._source, self._device = recipe, source, device
        self._built: VGG19Backbone | None = None

    def load(self) -> VGG19Backbone:
        if self._built is None:
            self._built = load_backbone(self._recipe, self._source, self._device)
        return self._built

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_built": None}


def _as_images(X: Any) -> tuple[File, ...] | list[NDArray[np.uint8]]:
    """Return a tuple of paths, or a list of RGB arrays of shape (h, w, 3)."""
    items = X if isinstance(X, list | tuple | np.ndarray) else np.asarray(X)
    if isinstance(items, np.ndarray) and items.ndim == 2 and items.shape[1] == 1:
        items = items[:, 0]
    # A list of arrays of several shapes is no array: NumPy is not asked for its shape.
    if (isinstance(items, np.ndarray) and items.ndim == 0) or len(items) == 0:
        message = f"Found no images in X. Expected paths or uint8 images, received {X!r}."
        raise OptionError(message)
    if all(isinstance(item, str | Path) for item in items):
        return tuple(check_file(as_file(item)) for item in items)
    return [_as_rgb(item) for item in items]


def _as_rgb(item: Any) -> NDArray[np.uint8]:
    image = np.asarray(item)
    if image.dtype != np.uint8 or image.ndim not in {2, 3} or image.shape[2:] not in {(), (3,)}:
        message = (
            f"Expected paths, or uint8 images of shape (n, height, width, 3). Received an item of "
            f"shape {image.shape} and dtype {image.dtype}. Images from 0 to 1 become uint8 by "
            "(255 * X).round().astype('uint8')."
        )
        raise OptionError(message)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)

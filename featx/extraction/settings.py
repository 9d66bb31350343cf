"""The settings of an extraction, each of which is listed once.

Values come in as a user types them. A frozen value goes out that `extract`, `plan`, the
transformer and the command line share. `featx.recipe.Recipe` and `prepare_extraction` check
the values.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from featx.choices import Dtype, Grey, Jpeg, Pool, Precision, Preprocess, Resize, ScalesJoin
from featx.images import MAX_PIXELS
from featx.recipe import Recipe, image_size
from featx.tables import TableSource

__all__ = [
    "BatchSize",
    "CodeSettings",
    "DecoderChoice",
    "DeviceSettings",
    "ExtractionSettings",
    "GreySettings",
    "ImageSettings",
    "NetworkSettings",
    "Progress",
    "TransformerSettings",
]

BatchSize = int | Literal["auto"]
DecoderChoice = int | Literal["auto", "threads"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """Where images come from.

    Parameters
    ----------
    images : Path or str, optional
        A folder of images, of class folders, or of train/, val/ and test/; "data" by
        default. It may be a zip or tar file, or a URL such as s3://….
    manifest : Path, str, DataFrame or mapping of str to sequence, optional
        A table with a column path and any of label, split, group, instead of `images`: a
        CSV or Parquet file, or columns in memory. Its paths are relative to its folder (to
        the working directory, if the table is in memory), or URLs.
    path_column : str, optional
        The column of paths in the manifest or in metadata.csv, if it has another name than
        path or file_name.
    group : str, optional
        A regular expression that finds the group (a patient, a site) in the path.
    prune : bool, default=False
        Remove the codes of images that are not in the list from an existing store. Without
        it, a run that would remove finished codes is refused.
    """

    images: Path | str | None = field(default=None, kw_only=False)
    manifest: TableSource | None = None
    path_column: str | None = None
    group: str | None = None
    prune: bool = False


@dataclass(frozen=True, kw_only=True)
class _LayerSettings:
    """Layers, pooling and image size; a separate base, so that these fields come first.

    Parameters
    ----------
    layer : str or sequence of str
        Layers to take codes from; `featx layers` lists their names.
    pool : {"none", "avg", "max", "avg+max", "grid:N", "bilinear"}, default="none"
        How each feature map is pooled: "none" keeps the whole map, "avg" and "max" take
        the mean and the maximum over all positions, "avg+max" both, "grid:N" the means of
        N x N cells, and "bilinear" the mean products of each pair of channels, for textures.
    size : int, str or (int, int), default=224
        Image size at the input of the network, in pixels: one number, "HxW" or
        (height, width).
    """

    layer: str | Sequence[str]
    pool: Pool = "none"
    size: int | str | tuple[int, int] = 224


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Where the network runs.

    Parameters
    ----------
    device : str, default="auto"
        "auto" (a GPU if there is one), "cpu", "gpu" or "gpu:N".
    """

    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class GreySettings:
    """How pixels of more than 8 bits become 8 bits.

    Parameters
    ----------
    grey : {"tags", "pillow"}, optional
        By what the file says of its bits, sign and polarity, or by the rule of featx 0.1;
        "tags" by default, or the rule of the store that is resumed. See `featx.images.grey`.
    white : float, optional
        The value of white in images of more than 8 bits, such as 4095 for 12 bits in 16; by
        default the largest value of their bits. Floats and 32-bit integers need one.
    """

    grey: Grey | None = None
    white: float | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(DeviceSettings, GreySettings):
    """The network, and what it sees of each image.

    Parameters
    ----------
    resize : {"squash", "crop", "pad"}, default="squash"
        How an image gets the size of the input: stretched, cropped to the centre, or padded.
    weights : str, default="bundled"
        "bundled", "imagenet" (the Keras release), an h5 or keras file, or "random:SEED".
    rename : mapping of str to str, optional
        Layer names of the weights file, and the VGG19 layer that each one corresponds to.
    preprocess : {"caffe", "unit"}, default="caffe"
        "caffe" is BGR minus the ImageNet mean, which the VGG19 weights expect; "unit" is
        RGB / 255, for networks trained that way.
    precision : {"float32", "tf32", "bfloat16"}, default="float32"
        Arithmetic of the network.
    flip : bool, default=False
        Average the codes of each image and its mirror image.
    crops : {1, 5, 10}, default=1
        5 averages the codes of the four corners and the centre; 10 adds their mirror images.
    """

    resize: Resize = "squash"
    weights: str = "bundled"
    rename: Mapping[str, str] | None = None
    preprocess: Preprocess = "caffe"
    precision: Precision = "float32"
    flip: bool = False
    crops: int = 1


@dataclass(frozen=True, kw_only=True)
class CodeSettings(NetworkSettings, _LayerSettings):
    """How images become codes.

    Parameters
    ----------
    jpeg : {"reduced", "full"}, default="reduced"
        "reduced" decodes a JPEG that is much larger than `size` at a fraction of its
        resolution, which is faster; see `featx.images.decoding`.
    batch_size : int or "auto", default="auto"
        Images per batch; halved if memory runs out.
    scale : int or sequence of int, optional
        Shorter sides, in pixels, at which the network sees the whole image with its aspect
        ratio, instead of `size` and `resize`.
    scales_join : {"mean", "stack"}, default="mean"
        Whether the codes of several scales are averaged or concatenated.
    """

    jpeg: Jpeg = "reduced"
    batch_size: BatchSize = "auto"
    scale: int | Sequence[int] = ()
    scales_join: ScalesJoin = "mean"

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers."""
        return (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)

    @property
    def scales(self) -> tuple[int, ...]:
        """Shorter sides of the scaled images; empty if `size` is used."""
        return (self.scale,) if isinstance(self.scale, int) else tuple(self.scale)

    def recipe(self, weights: str, dtype: Dtype = "float32") -> Recipe:
        """Return the recipe of the codes.

        Parameters
        ----------
        weights : str
            Identity of the weights; see `featx.network.WeightsSource`.
        dtype : {"float32", "float16"}, default="float32"
            Number type in the store.

        Raises
        ------
        OptionError
            A value is not allowed, or two values contradict each other.
        """
        given: dict[str, Any] = {"weights": weights, "dtype": dtype, "size": image_size(self.size)}
        given["grey"] = self.grey or "tags"
        names = {each.name for each in dataclasses.fields(Recipe)} - given.keys()
        return Recipe(**given, **{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class TransformerSettings(CodeSettings):
    """How `VGG19Codes` turns images into codes.

    Parameters
    ----------
    layer : str or sequence of str, default="block5_pool"
        Layers to take codes from; `featx layers` lists their names.
    """

    layer: str | Sequence[str] = field(default="block5_pool", kw_only=False)


@dataclass(frozen=True, kw_only=True)
class ExtractionSettings(CodeSettings, ImageSettings):
    """Settings of `extract`: its images, its codes and its output.

    Parameters
    ----------
    dtype : {"float32", "float16"}, default="float32"
        Number type in the store.
    decoders : int, "auto" or "threads", default="auto"
        Number of processes that decode images. "threads" decodes in threads of this process, one
        for each processor, and "auto" starts a process for each processor if the network turns
        out to wait for these threads.
    max_pixels : int, default=178956970
        An image with more pixels is recorded as unreadable.
    output : Path or str, default="codes.h5"
        The store to write.
    overwrite : bool, default=False
        Replace the store if it exists, instead of resuming it.
    progress : callable, optional
        Called with (images done, images in total) after each batch.
    show_download : bool, default=False
        Show a progress bar if weights are downloaded.
    """

    dtype: Dtype = "float32"
    decoders: DecoderChoice = "auto"
    max_pixels: int = MAX_PIXELS
    output: Path | str = "codes.h5"
    overwrite: bool = False
    progress: Progress | None = None
    show_download: bool = False

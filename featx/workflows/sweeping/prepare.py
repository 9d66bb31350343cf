"""What a sweep will try, checked before an image is read.

What the user asks for comes in; stores to be and candidates go out, the cheapest
first. Nothing runs here.
"""

import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featx.errors import OptionError
from featx.extraction import ExtractionJob, prepare_extraction
from featx.fitting.settings import ClassifierSettings
from featx.flags import flags_of
from featx.layers import LAYERS, activation_shape, find_layer, gflop
from featx.outputs import check_folder, made_folder
from featx.recipe import Recipe, check_sizes, image_size, size_text

__all__ = ["Candidate", "SweepJob", "prepare_sweep"]

_POOL_LAYERS = tuple(f"block{k}_pool" for k in range(1, 6))
# Layers that are joined, where they are there: late ones, and all but the first.
_JOINS = (_POOL_LAYERS[3:], _POOL_LAYERS[1:])
_POOLS = ("avg", "max", "avg+max", "grid:2")
# Flattened codes are swept unasked if they take no more of the disk.
_SHARE_OF_DISK = 0.25
_MOST_FLATTENED = 4_000_000_000


@dataclass(frozen=True)
class Candidate:
    """Codes to be judged.

    Parameters
    ----------
    layers : tuple of str
        One, or several that are joined.
    pool : str
        What becomes of a map.
    size : (int, int)
        Of the images, (height, width) in pixels.

    Examples
    --------
    >>> print(Candidate(("block4_pool", "block5_pool"), "avg", (224, 224)))
    block4_pool + block5_pool, avg, 224
    """

    layers: tuple[str, ...]
    pool: str
    size: tuple[int, int]

    def __str__(self) -> str:
        return f"{' + '.join(self.layers)}, {self.pool}, {size_text(self.size)}"

    @property
    def gflop(self) -> float:
        """What its deepest layer costs an image."""
        return max(gflop(layer, self.size) for layer in self.layers)


@dataclass(frozen=True)
class SweepJob:
    """What a sweep will do; `prepare_sweep` makes it, and no image was read yet.

    Parameters
    ----------
    extractions : mapping of ((int, int), str) to ExtractionJob
        By size and pooling: those of one size are made in one pass.
    candidates : tuple of Candidate
        The cheapest first.
    fit : dict
        Settings of `featx.fit` for all of them.
    budget : float or None
        Seconds, after which no further candidate is begun.
    folder : Path
        Where all goes.
    flags : str
        Images and settings of the codes, as they are typed.
    views : dict
        Settings of `featx.extract` that say what the network sees of an image beside
        its size: mirror images, crops.
    scaled : bool
        Whether sizes are scales: the shorter sides of whole images.
    notes : tuple of str
        What the user should know.
    """

    extractions: Mapping[tuple[tuple[int, int], str], ExtractionJob]
    candidates: tuple[Candidate, ...]
    fit: dict[str, Any]
    budget: float | None
    folder: Path
    flags: str
    views: dict[str, Any]
    scaled: bool
    notes: tuple[str, ...]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Sizes of the images, in the order of the passes."""
        return tuple(dict.fromkeys(size for size, _ in self.extractions))

    def extraction(self, candidate: Candidate) -> ExtractionJob:
        """Return what makes a candidate's codes."""
        return self.extractions[candidate.size, candidate.pool]

    def recipe(self, candidate: Candidate) -> Recipe:
        """Return the recipe of a candidate's codes."""
        return self.extraction(candidate).recipe.with_layers(candidate.layers)


def prepare_sweep(  # noqa: PLR0913  flat, as on the command line
    images: Path | str | None = None,
    *,
    layer: str | Sequence[str] = (),
    pool: str | Sequence[str] = (),
    size: int | str | Sequence[int | str] = 224,
    clf: str = "logistic",
    normalise: str = "l2",
    class_weight: str | None = None,
    folds: int = 5,
    weights: str = "bundled",
    rename: Mapping[str, str] | None = None,
    preprocess: str = "caffe",
    resize: str = "squash",
    precision: str = "float32",
    flip: bool = False,
    crops: int = 1,
    scale: int | Sequence[int] = (),
    device: str = "auto",
    manifest: Path | str | None = None,
    group: str | None = None,
    budget: float | None = None,
    output: Path | str = "sweep",
    overwrite: bool = False,
    seed: int = 0,
) -> SweepJob:
    """Check everything that a sweep needs; no image is read.

    Parameters
    ----------
    images : Path or str, default="data"
        A folder.
    layer : str or sequence of str, optional
        Layers beside the five pooling layers.
    pool : str or sequence of str, optional
        Poolings, instead of avg, max, avg+max, grid:2 and, where the disk has
        room, none.
    size : int, str or sequence of them, default=224
        Image sizes; each is a pass of its own.
    clf, normalise, class_weight, folds : optional
        Those of `featx.fit`.
    weights, rename, preprocess, resize, precision, flip, crops : optional
        Those of `featx.extract`.
    scale : int or sequence of int, optional
        Shorter sides of whole images, instead of `size`; each is a pass of its own.
    device, manifest, group : optional
        Those of `featx.extract`.
    budget : float, optional
        Seconds, after which no further pass or candidate is begun.
    output : Path or str, default="sweep"
        A folder. Stores that it holds are gone on with.
    overwrite : bool, default=False
        Whether to begin anew.
    seed : int, default=0
        Of all that is drawn.

    Returns
    -------
    SweepJob
        For `run_sweep`.

    Raises
    ------
    OptionError, ImagesError, WeightsError, StoreError
        See `featx.extract` and `featx.fit`.
    """
    wanted = {layer} if isinstance(layer, str) else set(layer)
    for name in wanted:
        find_layer(name)
    wanted |= set(_POOL_LAYERS)
    layers = [each.name for each in LAYERS if each.name in wanted]
    pools = [pool] if isinstance(pool, str) else list(dict.fromkeys(pool))
    sizes = [image_size(each) for each in ([size] if isinstance(size, int | str) else size)]
    scales = [scale] if isinstance(scale, int) else list(scale)
    check_sizes(sizes, scales)
    views = {"crops": crops, "flip": flip}
    if budget is not None and budget <= 0:
        message = f"No such budget: {budget:g} seconds. Expected --budget above 0, such as 10m."
        raise OptionError(message)
    fit: dict[str, Any] = {
        "clf": clf,
        "normalise": normalise,
        "class_weight": class_weight,
        "folds": folds,
        "seed": seed,
    }
    ClassifierSettings(**fit)  # checks them
    folder = _folder(Path(output))
    prepare = partial(
        prepare_extraction,
        images,
        weights=weights,
        rename=rename,
        preprocess=preprocess,  # type: ignore[arg-type]  # checked by Recipe
        resize=resize,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        flip=flip,
        crops=crops,
        device=device,
        manifest=manifest,
        group=group,
        overwrite=overwrite,
    )
    extractions: dict[tuple[tuple[int, int], str], ExtractionJob] = {}
    notes: list[str] = []
    with made_folder(folder):
        for shape in dict.fromkeys([image_size(each) for each in scales] or sizes):
            seen = partial(prepare, **({"scale": shape[0]} if scales else {"size": shape}))
            usual = [each for each in (*_POOLS, "none") if each not in _placed(scales, crops)]
            found, said = _stores(shape, layers, pools, usual, folder, seen)
            extractions |= {(shape, each): job for each, job in found.items()}
            notes += said
    candidates = [
        Candidate(own, each, shape)
        for (shape, each), job in extractions.items()
        for own in _layers_of(job.recipe)
    ]
    order = {name: place for place, name in enumerate([*_POOLS, "none"])}
    candidates.sort(
        key=lambda each: (
            round(each.gflop, 6),
            extractions[each.size, each.pool].recipe.with_layers(each.layers).code_bytes(),
            order.get(each.pool, len(order)),
        )
    )
    return SweepJob(
        extractions=extractions,
        candidates=tuple(candidates),
        fit=fit,
        budget=budget,
        folder=folder,
        flags=_flags(
            images,
            manifest=manifest,
            group=group,
            weights=weights,
            preprocess=preprocess,
            resize=resize,
            precision=precision,
            rename=rename,
        ),
        views=views,
        scaled=bool(scales),
        notes=tuple(notes),
    )


def _placed(scales: Sequence[int], crops: int) -> tuple[str, ...]:
    """Return the poolings whose places crops or scales do not leave in place."""
    if crops > 1:
        return ("none", "grid:2")
    return ("none",) if scales else ()


def _stores(  # noqa: PLR0917  of one caller
    size: tuple[int, int],
    layers: Sequence[str],
    pools: Sequence[str],
    usual: Sequence[str],
    folder: Path,
    prepare: Callable[..., ExtractionJob],
) -> tuple[dict[str, ExtractionJob], list[str]]:
    """Return what makes the stores of one size, by pooling, and what is left out, in words."""
    found: dict[str, ExtractionJob] = {}
    notes = []
    for pool in pools or usual:
        path = folder / store_name(size, pool)
        own = [name for name in layers if _can_be(name, pool, size)]
        if len(own) < len(layers):
            left = ", ".join(name for name in layers if name not in own)
            notes.append(
                f"At {size_text(size)} pixels the maps of {left} are too small for {pool}."
            )
        if not own:
            continue
        job = prepare(layer=own, pool=pool, output=path)
        if not pools and pool == "none" and not _has_room(job):
            notes.append(
                f"Flattened codes at {size_text(size)} pixels would take {job.n_bytes / 1e9:.1f} "
                "GB: they are left out (--pool none takes them in)."
            )
            continue
        found[pool] = job
    if not found:
        message = f"{' '.join(notes)} Nothing is left to try: use a larger --size."
        raise OptionError(message)
    return found, notes


def store_name(size: tuple[int, int], pool: str) -> str:
    """Return the name of the store of a size and a pooling, in a sweep's folder.

    Examples
    --------
    >>> store_name((224, 224), "grid:2")
    '224-grid-2.h5'
    """
    return f"{size_text(size)}-{pool.replace(':', '-')}.h5"


def _flags(images: Path | str | None, **given: Any) -> str:
    """Return images and settings as one types them, without those that are the defaults."""
    words = [] if given["manifest"] is not None else [shlex.quote(str(images or "data"))]
    return " ".join([*words, *flags_of(given, prepare_extraction)])


def _layers_of(recipe: Recipe) -> list[tuple[str, ...]]:
    """Return the layers of a store one by one, and those that are joined."""
    joined = [
        names for names in _JOINS if set(names) <= set(recipe.layers) and recipe.pool != "none"
    ]
    return [*((name,) for name in recipe.layers), *joined]


def _can_be(layer: str, pool: str, size: tuple[int, int]) -> bool:
    """Return whether a layer's map is large enough for a pooling, which Recipe checks as well."""
    if not pool.startswith("grid:") or not pool[5:].isdecimal():
        return True
    return min(activation_shape(layer, size)[:2]) >= int(pool[5:])


def _has_room(job: ExtractionJob) -> bool:
    free = shutil.disk_usage(job.output.parent).free
    return job.n_bytes <= min(_MOST_FLATTENED, _SHARE_OF_DISK * free)


def _folder(folder: Path) -> Path:
    """Return a folder that is a sweep's, or may be made for one."""
    check_folder(folder)
    own = {".h5", ".part", ".lock", ".json", ".csv", ".npz", ""}
    if folder.is_dir() and any(path.suffix not in own for path in folder.iterdir()):
        message = f"{folder} holds other files than a sweep's. Choose another -o."
        raise OptionError(message)
    return folder

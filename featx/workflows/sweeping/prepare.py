"""Prepare a sweep: settings come in; stores to make and candidates go out, the cheapest first.

Everything that can be wrong is found here, before an image is read. Nothing runs here.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from featx.errors import OptionError
from featx.extraction import ExtractionJob, prepare_extraction
from featx.extraction.settings import ImageSettings, NetworkSettings
from featx.layers import LAYERS, activation_shape, find_layer, gflop
from featx.outputs import made_folder
from featx.recipe import Recipe, check_sizes, image_size, size_text
from featx.signatures import takes_fields_of, values_of
from featx.temporaries import is_temporary
from featx.workflows.sweeping.settings import SweepProgress, SweepSettings

__all__ = ["POOL_LAYERS", "Candidate", "SweepJob", "prepare_sweep", "store_name"]

POOL_LAYERS = tuple(f"block{k}_pool" for k in range(1, 6))
# Layers whose codes are also tried together: the last two, and all but the first.
_JOINS = (POOL_LAYERS[3:], POOL_LAYERS[1:])
_POOLS = ("avg", "max", "avg+max", "grid:2", "none")
# By default flattened codes are tried if they take at most this fraction of the free disk space
# and this number of bytes.
_DISK_FRACTION = 0.25
_MOST_FLATTENED = 4_000_000_000


@dataclass(frozen=True)
class Candidate:
    """Codes to evaluate.

    Parameters
    ----------
    layers : tuple of str
        One layer, or several whose codes are concatenated.
    pool : str
        How the feature maps are pooled.
    size : (int, int)
        Height and width of the images, in pixels.

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
        """Cost of its deepest layer for one image."""
        return max(gflop(layer, self.size) for layer in self.layers)


@dataclass(frozen=True)
class SweepJob:
    """A sweep that is ready to run; `prepare_sweep` makes it.

    Parameters
    ----------
    settings : SweepSettings
        Settings of the sweep.
    extractions : mapping of ((int, int), str) to ExtractionJob
        Extractions by size and pooling; those of one size take one pass over the images.
    candidates : tuple of Candidate
        The cheapest first.
    folder : Path
        Folder for stores and results.
    notes : tuple of str
        Warnings and other notes for the user.
    progress : SweepProgress
        Functions to call while the sweep runs.
    """

    settings: SweepSettings
    extractions: Mapping[tuple[tuple[int, int], str], ExtractionJob]
    candidates: tuple[Candidate, ...]
    folder: Path
    notes: tuple[str, ...]
    progress: SweepProgress

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Image sizes, in the order of the passes."""
        return tuple(dict.fromkeys(size for size, _ in self.extractions))

    def extraction(self, candidate: Candidate) -> ExtractionJob:
        """Return the extraction of a candidate's codes."""
        return self.extractions[candidate.size, candidate.pool]

    def recipe(self, candidate: Candidate) -> Recipe:
        """Return the recipe of a candidate's codes."""
        return self.extraction(candidate).recipe.with_layers(candidate.layers)


@takes_fields_of(SweepSettings)
def prepare_sweep(settings: SweepSettings) -> SweepJob:
    """Check the settings of a sweep and plan its work; no image is read.

    Returns
    -------
    SweepJob
        For `run_sweep`.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed.
    ImagesError, WeightsError
        The images or the weights cannot be found.
    RecipeMismatchError, StoreError
        A store in the folder cannot be resumed with these settings.
    """
    scales = _as_tuple(settings.scale)
    sizes = [image_size(each) for each in _as_tuple(settings.size)]
    check_sizes(sizes, scales)
    folder = _check_sweep_folder(Path(settings.output))
    extractions: dict[tuple[tuple[int, int], str], ExtractionJob] = {}
    notes: list[str] = []
    with made_folder(folder):
        for size in dict.fromkeys([image_size(each) for each in scales] or sizes):
            found, new_notes = _extractions(settings, size)
            extractions |= {(size, pool): job for pool, job in found.items()}
            notes += new_notes
    candidates = [
        Candidate(own, pool, size)
        for (size, pool), job in extractions.items()
        for own in _combinations(job.recipe)
    ]

    def cost(candidate: Candidate) -> tuple[float, float, int]:
        job, pool = extractions[candidate.size, candidate.pool], candidate.pool
        n_bytes = job.recipe.with_layers(candidate.layers).code_bytes()
        place = _POOLS.index(pool) if pool in _POOLS else len(_POOLS)
        return round(candidate.gflop, 6), n_bytes, place

    return SweepJob(
        settings=settings,
        extractions=extractions,
        candidates=tuple(sorted(candidates, key=cost)),
        folder=folder,
        notes=tuple(dict.fromkeys(notes)),
        progress=settings.progress,
    )


def _as_tuple(values: str | int | Sequence[int | str]) -> tuple[Any, ...]:
    """Return one value or several as a tuple, each value once."""
    return (values,) if isinstance(values, str | int) else tuple(dict.fromkeys(values))


def _layers(wanted: str | Sequence[str]) -> list[str]:
    """Return the pooling layers and the wanted ones, in the order of the network."""
    names = {find_layer(name).name for name in _as_tuple(wanted)} | set(POOL_LAYERS)
    return [layer.name for layer in LAYERS if layer.name in names]


def _usual_pools(settings: SweepSettings) -> tuple[str, ...]:
    """Return the poolings to try by default: several crops or scales have no common positions."""
    if settings.crops > 1:
        return _POOLS[:3]
    return _POOLS[:4] if settings.scale else _POOLS


def _extractions(
    settings: SweepSettings, size: tuple[int, int]
) -> tuple[dict[str, ExtractionJob], list[str]]:
    """Return the extractions of one size by pooling, and notes on what is left out."""
    layers, pools = _layers(settings.layer), _as_tuple(settings.pool)
    prepare = partial(
        prepare_extraction,
        **values_of(settings, ImageSettings, NetworkSettings),
        **({"scale": size[0]} if settings.scale else {"size": size}),
        overwrite=settings.overwrite,
    )
    found: dict[str, ExtractionJob] = {}
    notes = []
    for pool in pools or _usual_pools(settings):
        own = [name for name in layers if _can_be_pooled(name, pool, size)]
        if len(own) < len(layers):
            too_small = ", ".join(name for name in layers if name not in own)
            notes.append(
                f"At {size_text(size)} pixels the feature maps of {too_small} are too small for "
                f"{pool}."
            )
        if not own:
            continue
        job = prepare(layer=own, pool=pool, output=Path(settings.output) / store_name(size, pool))
        if not pools and pool == "none" and not _has_room(job):
            notes.append(
                f"Flattened codes at {size_text(size)} pixels are left out, since they would take "
                f"{job.n_bytes / 1e9:.1f} GB. Use --pool none to include them."
            )
            continue
        found[pool] = job
        notes += job.notes
    if not found:
        message = f"{' '.join(notes)} Nothing is left to try. Use a larger --size."
        raise OptionError(message)
    return found, notes


def store_name(size: tuple[int, int], pool: str) -> str:
    """Return the name of the store of a size and a pooling, in the folder of a sweep.

    Examples
    --------
    >>> store_name((224, 224), "grid:2")
    '224-grid-2.h5'
    """
    return f"{size_text(size)}-{pool.replace(':', '-')}.h5"


def _combinations(recipe: Recipe) -> list[tuple[str, ...]]:
    """Return the layers of a store one by one, and the combinations that it has."""
    joined = [
        names for names in _JOINS if set(names) <= set(recipe.layers) and recipe.pool != "none"
    ]
    return [*((name,) for name in recipe.layers), *joined]


def _can_be_pooled(layer: str, pool: str, size: tuple[int, int]) -> bool:
    """Return whether the feature map of a layer is large enough for a pooling."""
    if not pool.startswith("grid:") or not pool[5:].isdecimal():
        return True
    return min(activation_shape(layer, size)[:2]) >= int(pool[5:])


def _has_room(job: ExtractionJob) -> bool:
    free = shutil.disk_usage(job.output.parent).free
    return job.n_bytes <= min(_MOST_FLATTENED, _DISK_FRACTION * free)


def _check_sweep_folder(folder: Path) -> Path:
    """Return the folder, if it is new, empty or holds nothing but files of a sweep."""
    own = {".h5", ".part", ".lock", ".json", ".csv", ".npz", ""}
    others = [
        path for path in folder.glob("*") if path.suffix not in own and not is_temporary(path)
    ]
    if others:
        message = (
            f"{folder} holds {others[0].name}, which featx sweep did not write. Use another -o."
        )
        raise OptionError(message)
    return folder

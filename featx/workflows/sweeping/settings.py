"""The settings of a sweep: each is listed here, once, unless an extraction has it too.

Values come in as a user types them; a frozen value goes out that `sweep` and the command
line share. `prepare_sweep` checks what the values allow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.choices import Classifier, ClassWeight, Normalise
from featx.extraction.settings import ImageSettings, NetworkSettings

__all__ = ["SweepProgress", "SweepSettings"]


@dataclass(frozen=True)
class SweepProgress:
    """Functions that a sweep calls to report its progress.

    Parameters
    ----------
    stage : callable
        Called with a sentence when a stage begins or ends.
    images : callable
        Called with (images done, images in total) while images are read.
    candidates : callable
        Called with (candidates evaluated, candidates in total).
    """

    stage: Callable[[str], None] = lambda text: None
    images: Callable[[int, int], None] = lambda done, total: None
    candidates: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True, kw_only=True)
class SweepSettings(NetworkSettings, ImageSettings):
    """What `sweep` compares, and how.

    Parameters
    ----------
    layer : str or sequence of str, optional
        Layers to try in addition to the five pooling layers.
    pool : str or sequence of str, optional
        Poolings to try, instead of avg, max, avg+max, grid:2 and, if the disk has room,
        none.
    size : int, str or sequence of them, default=224
        Image sizes to try; each takes one pass over the images.
    scale : int or sequence of int, optional
        Shorter sides, in pixels, at which the network sees the whole image, instead of
        `size`; each takes one pass over the images.
    clf : str, default="logistic"
        Classifier; see `featx.fit`.
    normalise : {"l2", "centre", "sqrt-l2", "none", "auto"}, default="l2"
        Normalization applied to each feature vector; see `featx.fit`.
    class_weight : {"balanced"}, optional
        Weigh classes so that small ones count as much as large ones.
    folds : int, default=5
        Number of folds of the cross-validation.
    budget : float, optional
        Seconds after which no further pass or candidate is started.
    output : Path or str, default="sweep"
        Folder for the stores and results. If it holds stores with the same settings, the
        sweep resumes.
    overwrite : bool, default=False
        Replace what the folder holds, instead of resuming.
    seed : int, default=0
        Random seed.
    progress : SweepProgress, optional
        Functions to call while the sweep runs.
    """

    layer: str | Sequence[str] = ()
    pool: str | Sequence[str] = ()
    size: int | str | Sequence[int | str] = 224
    scale: int | Sequence[int] = ()
    clf: Classifier = "logistic"
    normalise: Normalise = "l2"
    class_weight: ClassWeight | None = None
    folds: int = 5
    budget: float | None = None
    output: Path | str = "sweep"
    overwrite: bool = False
    seed: int = 0
    progress: SweepProgress = SweepProgress()

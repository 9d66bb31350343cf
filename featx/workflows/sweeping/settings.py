"""The settings of a sweep; those of images, network and classifier are shared with other verbs.

Values come in as a user types them; a frozen value goes out that `sweep` and the command
line share. `prepare_sweep` checks what needs the images or the weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import OptionError
from featx.extraction.settings import ImageSettings, NetworkSettings
from featx.fitting.settings import ClassifierSettings

__all__ = ["SweepProgress", "SweepSettings"]


@dataclass(frozen=True)
class SweepProgress:
    """Functions that a sweep calls to report its progress.

    Parameters
    ----------
    stage : callable
        Called with a sentence when a stage begins.
    images : callable
        Called with (images done, images in total) during a pass over the images.
    candidates : callable
        Called with (candidates evaluated, candidates in total).
    """

    stage: Callable[[str], None] = lambda text: None
    images: Callable[[int, int], None] = lambda done, total: None
    candidates: Callable[[int, int], None] = lambda done, total: None


@dataclass(frozen=True, kw_only=True)
class SweepSettings(ClassifierSettings, NetworkSettings, ImageSettings):
    """Settings of `sweep`: the candidates, the budget and the output.

    Parameters
    ----------
    layer : str or sequence of str, optional
        Layers to try in addition to the five pooling layers.
    pool : str or sequence of str, optional
        Poolings to try, instead of avg, max, avg+max, grid:2 and, if the disk has room,
        none.
    size : int, str or sequence of them, default=224
        Image sizes to try. Each takes one pass over the images.
    scale : int or sequence of int, optional
        Shorter sides, in pixels, at which the network sees the whole image, instead of
        `size`. Each takes one pass over the images.
    budget : float, optional
        Seconds after which no further pass or candidate is started.
    output : Path or str, default="sweep"
        Folder for stores and results. Stores that it holds are resumed.
    overwrite : bool, default=False
        Replace the stores in the folder, instead of resuming them.
    progress : SweepProgress, optional
        Functions to call while the sweep runs.
    """

    layer: str | Sequence[str] = ()
    pool: str | Sequence[str] = ()
    size: int | str | Sequence[int | str] = 224
    scale: int | Sequence[int] = ()
    budget: float | None = None
    output: Path | str = "sweep"
    overwrite: bool = False
    progress: SweepProgress = SweepProgress()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget is not None and self.budget <= 0:
            message = (
                f"--budget must be greater than 0, but it is {self.budget:g} seconds. Use a time "
                "such as 10m."
            )
            raise OptionError(message)

"""The settings of a report, each listed once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from featx.errors import OptionError
from featx.report.page_images import MAX_IMAGES_TO_LOOK_AT

__all__ = ["ReportSettings"]


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Settings of a report: its source, its output and its heat maps.

    Parameters
    ----------
    source : Path or str
        A model of `featx.fit`, or the folder of a sweep or of a fine-tuning.
    output : Path or str, default="report.html"
        The HTML file to write.
    codes : Path, str or sequence of them, optional
        The stores that a model was fitted on, if they were moved.
    labels : Path or str, optional
        The table of labels or splits that a model was fitted with, if it was moved.
    heat_maps : int, default=6
        Number of heat maps of the most confident mistakes, and of the least confident
        correct predictions, 0 to 24. They need a classifier whose decision scores are sums
        over positions, and the image files.
    fetch : bool, default=False
        Fetch images that are URLs, and weights that featx would download, for heat maps.
        Their addresses come from the store and from the model, so they are those of its author.
    trust : bool, default=False
        Open a .joblib model, which can run code of its author.
    overwrite : bool, default=False
        Replace the file if it exists.

    Raises
    ------
    OptionError
        `heat_maps` is out of range.
    """

    source: Path | str = field(kw_only=False)
    output: Path | str = field(default="report.html", kw_only=False)
    codes: Path | str | Sequence[Path | str] = ()
    labels: Path | str | None = None
    heat_maps: int = 6
    fetch: bool = False
    trust: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.heat_maps <= MAX_IMAGES_TO_LOOK_AT:
            message = (
                f"--heat-maps must be from 0 to {MAX_IMAGES_TO_LOOK_AT}, but it is "
                f"{self.heat_maps}."
            )
            raise OptionError(message)

    @property
    def stores(self) -> list[Path | str]:
        """The stores, as a list."""
        return [self.codes] if isinstance(self.codes, str | Path) else list(self.codes)

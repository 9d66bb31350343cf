"""What a page can be made of, told by the files that are there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import ModelError, OptionError
from featx.report.contents import Contents
from featx.report.gathering.classifiers import of_bundle
from featx.report.gathering.sweeps import of_sweep
from featx.report.gathering.tunings import of_tuning
from featx.text import printable

__all__ = ["Source", "find_source", "gather"]

_VERBS = {"classifier": "fit", "sweep": "sweep", "fine-tuning": "finetune"}


@dataclass(frozen=True)
class Source:
    """What a page is made of: "classifier", "sweep" or "fine-tuning", and its main file."""

    kind: str
    path: Path


def find_source(source: Path | str) -> Source:
    """Tell what a page is to be made of.

    Parameters
    ----------
    source : Path or str
        A bundle; the folder of a sweep or of a fine-tuning, or a file of these.

    Returns
    -------
    Source

    Raises
    ------
    OptionError
        It is none of these.
    """
    path = Path(source)
    if path.name in {"sweep.json", "run.json", "tuned.keras"}:
        path = path.parent
    if path.is_dir():
        for kind, name in (("sweep", "sweep.json"), ("fine-tuning", "run.json")):
            if (path / name).is_file():
                return Source(kind, path / name)
    elif path.suffix in {".skops", ".joblib"}:
        return Source("classifier", path)
    message = (
        f"No page can be made of {printable(str(source))}. Expected a bundle (NAME.skops, of featx "
        "fit), or the folder of a finished featx sweep or featx finetune, which holds its "
        "sweep.json or run.json. Make one first: featx fit CODES -o model.skops"
    )
    raise OptionError(message)


def gather(
    source: Source,
    *,
    codes: Sequence[Path | str] = (),
    labels: Path | str | None = None,
    trust: bool = False,
) -> Contents:
    """Read a source and what it refers to.

    Parameters
    ----------
    source : Source
        Of `find_source`.
    codes : sequence of Path or str, optional
        The stores that a bundle was fitted on, if they lie elsewhere now.
    labels : Path or str, optional
        The table that gave a bundle's images labels or splits, if it lies elsewhere now.
    trust : bool, default=False
        Whether to open a .joblib bundle, which can run any code of its maker.

    Returns
    -------
    Contents

    Raises
    ------
    OptionError
        `codes` or `labels` for what is no bundle.
    ModelError
        The source cannot be read.
    """
    if source.kind != "classifier" and (codes or labels):
        message = (
            f"{printable(str(source.path))} knows its own codes and labels: --codes and --labels "
            "belong to a bundle. Leave them out."
        )
        raise OptionError(message)
    try:
        if source.kind == "classifier":
            return of_bundle(source.path, codes, labels, trust=trust)
        if source.kind == "fine-tuning":
            return of_tuning(source.path)
        return of_sweep(source.path)
    except (LookupError, TypeError, AttributeError) as error:
        message = (
            f"{printable(str(source.path))} lacks what a page needs ({error!r}): another featx wrote "
            f"it, or it was changed. Make it again: featx {_VERBS[source.kind]} --overwrite"
        )
        raise ModelError(message) from error

"""The source of a page: a model, a sweep or a fine-tuning, found by its files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featx.errors import ModelError, OptionError
from featx.report.contents import Contents
from featx.report.gathering.finetunings import finetuning_contents
from featx.report.gathering.models import model_contents
from featx.report.gathering.sweeps import sweep_contents
from featx.text import printable

__all__ = ["Source", "find_source", "gather"]

_VERBS = {"model": "fit", "sweep": "sweep", "fine-tuning": "finetune"}


@dataclass(frozen=True)
class Source:
    """The source of a page: "model", "sweep" or "fine-tuning", and its main file."""

    kind: str
    path: Path


def find_source(source: Path | str) -> Source:
    """Find the kind and the main file of a source.

    Parameters
    ----------
    source : Path or str
        A model, the folder of a sweep or of a fine-tuning, or a file in such a folder.

    Raises
    ------
    OptionError
        The path is something else.
    """
    path = Path(source)
    if path.name in {"sweep.json", "run.json", "tuned.keras"}:
        path = path.parent
    if path.is_dir():
        for kind, name in (("sweep", "sweep.json"), ("fine-tuning", "run.json")):
            if (path / name).is_file():
                return Source(kind, path / name)
    elif path.suffix in {".skops", ".joblib"}:
        return Source("model", path)
    message = (
        f"There is no report about {printable(str(source))}. Use a model (NAME.skops, of featx "
        "fit), or the folder of a finished featx sweep or featx finetune, which contains "
        "sweep.json or run.json. Fit a model first: featx fit CODES -o model.skops"
    )
    raise OptionError(message)


def gather(
    source: Source,
    *,
    codes: Sequence[Path | str] = (),
    labels: Path | str | None = None,
    trust: bool = False,
) -> Contents:
    """Read a source, and the files that it refers to.

    Parameters
    ----------
    source : Source
        The result of `find_source`.
    codes : sequence of Path or str, optional
        The stores that a model was fitted on, if they were moved.
    labels : Path or str, optional
        The table of labels or splits that a model was fitted with, if it was moved.
    trust : bool, default=False
        Open a .joblib model, which can run code of its author.

    Raises
    ------
    OptionError
        `codes` or `labels` are given, but the source is not a model.
    ModelError
        The source cannot be read.
    """
    path, name = source.path, printable(str(source.path))
    if source.kind != "model" and (codes or labels):
        message = (
            f"--codes and --labels are for models of featx fit, but {name} is of a {source.kind}, "
            "which finds its codes and labels itself. Leave them out."
        )
        raise OptionError(message)
    try:
        if source.kind == "model":
            return model_contents(path, codes, labels, trust=trust)
        return sweep_contents(path) if source.kind == "sweep" else finetuning_contents(path)
    except (LookupError, TypeError, AttributeError) as error:
        message = (
            f"{name} lacks values that a report needs ({error!r}): another version of featx wrote "
            f"it, or it was changed. Make it again: featx {_VERBS[source.kind]} --overwrite"
        )
        raise ModelError(message) from error

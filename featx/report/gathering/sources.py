"""The source of a page: a model, a sweep or a fine-tuning, found by its files."""

from pathlib import Path

from featx.documents import FieldError
from featx.errors import ModelError, OptionError
from featx.report.contents import Contents
from featx.report.gathering.finetunings import finetuning_contents
from featx.report.gathering.models import model_contents
from featx.report.gathering.sweeps import sweep_contents
from featx.report.settings import ReportSettings
from featx.text import printable

__all__ = ["find_source", "gather"]

_VERBS = {"model": "fit", "sweep": "sweep", "fine-tuning": "finetune"}


def find_source(source: Path | str) -> tuple[str, Path]:
    """Return "model", "sweep" or "fine-tuning", and the main file.

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
                return kind, path / name
    elif path.suffix in {".skops", ".joblib"}:
        return "model", path
    message = (
        f"There is no report about {printable(str(source))}. Use a model (NAME.skops, of featx "
        "fit), or the folder of a finished featx sweep or featx finetune, which contains "
        "sweep.json or run.json. Fit a model first: featx fit CODES -o model.skops"
    )
    raise OptionError(message)


def gather(settings: ReportSettings) -> Contents:
    """Read a source, and the files that it refers to.

    Raises
    ------
    OptionError
        `codes` or `labels` are given, but the source is not a model.
    ModelError
        The source cannot be read.
    """
    kind, path = find_source(settings.source)
    name = printable(str(path))
    if kind != "model" and (settings.codes or settings.labels):
        message = (
            f"--codes and --labels are for models of featx fit, but {name} is of a {kind}, "
            "which finds its codes and labels itself. Leave them out."
        )
        raise OptionError(message)
    try:
        if kind == "model":
            return model_contents(path, settings)
        return sweep_contents(path) if kind == "sweep" else finetuning_contents(path)
    except FieldError as error:
        message = (
            f"{name} does not hold what a report needs: {printable(error)}. It was changed, or "
            f"another version of featx wrote it. Make it again: featx {_VERBS[kind]} --overwrite"
        )
        raise ModelError(message) from error

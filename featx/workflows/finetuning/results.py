"""The results of a fine-tuning, and the file run.json that holds them.

The facts of a run are written to run.json; the same facts, or the file, become a
`Finetuned`. Both this version of run.json and that of featx 0.1 are read here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.errors import ModelError
from featx.finetuning.history import EpochRecord, TrainingResult, from_version_1
from featx.metrics import Score
from featx.outputs import whole_file
from featx.text import printable

__all__ = ["COMPARED", "Finetuned", "finetuned_from", "read_finetuned", "write_run"]

#: Names of the classifiers that are compared on the test set, in run.json.
COMPARED = ("majority", "probe", "tuned", "fit_on_tuned")
_FORMAT = {"format": "featx-finetuning", "format_version": 2}


@dataclass(frozen=True)
class Finetuned:
    """The result of a fine-tuning.

    Parameters
    ----------
    folder : Path
        The folder of all files.
    scores : mapping of str to Score
        Accuracy on the test set: of the "majority" class, the linear "probe", the "tuned"
        network, and a classifier on the tuned network's codes, "fit_on_tuned".
    gain : Score
        Accuracy of the tuned network minus that of the probe, with the interval of the
        paired bootstrap.
    training : TrainingResult
        The results of each epoch.
    advice : str
        Which of the two to use.
    facts : dict
        The content of run.json.
    """

    folder: Path
    scores: Mapping[str, Score]
    gain: Score
    training: TrainingResult
    advice: str
    facts: dict[str, Any]


def finetuned_from(folder: Path, facts: dict[str, Any]) -> Finetuned:
    """Return the result that the content of run.json describes."""
    return Finetuned(
        folder=folder,
        scores={name: Score(**facts[name]) for name in COMPARED},
        gain=Score(**facts["gain"]),
        training=TrainingResult(
            history=tuple(EpochRecord(**record) for record in facts["history"]),
            best=facts["best_epoch"],
            ended=facts["ended"],
            resumed=facts["resumed_epochs"],
            micro_batch=facts["micro_batch"],
        ),
        advice=facts["advice"],
        facts=facts,
    )


def write_run(folder: Path, facts: Mapping[str, Any]) -> Finetuned:
    """Write run.json, and return the result that it describes."""
    written = {**_FORMAT, **facts}
    with whole_file(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(written, indent=2))
    return finetuned_from(folder, written)


def read_finetuned(path: Path | str) -> Finetuned:
    """Read the run.json of a finished fine-tuning, of this version or of featx 0.1.

    Parameters
    ----------
    path : Path or str
        The file.

    Raises
    ------
    ModelError
        The file cannot be read, is damaged, or has a newer format.
    """
    path = Path(path)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != _FORMAT["format"]:
            raise ValueError(facts["format"])
        version = facts.get("format_version", 1)
        if version == 1:
            facts = {**from_version_1(facts), **_FORMAT}
        elif version != _FORMAT["format_version"]:
            message = f"format version {version} is newer than this featx"
            raise ValueError(message)
        return finetuned_from(path.parent, facts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        message = (
            f"{printable(str(path))} cannot be read as the result of a fine-tuning ({error!r}): "
            "it is damaged, or another version of featx wrote it. Make it again: featx finetune "
            f"-o {printable(str(path.parent))} --overwrite"
        )
        raise ModelError(message) from error

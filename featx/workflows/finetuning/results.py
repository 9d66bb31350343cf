"""The results of a fine-tuning, and the file run.json that holds them.

The facts of a run are written to run.json; the same facts, or the file, become a
`Finetuned`. Both this version of run.json and that of featx 0.1 are read here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from featx.choices import Classifier, HeadInit, Normalise
from featx.documents import FieldError, check_format, conform, read_json
from featx.errors import ModelError
from featx.finetuning.history import EpochRecord, TrainingResult, from_version_1
from featx.finetuning.settings import TrainingSettings
from featx.metrics import Evaluation, Score
from featx.outputs import whole_file
from featx.recipe import Recipe
from featx.text import printable

__all__ = [
    "COMPARED",
    "Finetuned",
    "ProbeFacts",
    "RunRecord",
    "finetuned_from",
    "read_finetuned",
    "write_run",
]

#: Names of the classifiers that are compared on the test set, in run.json.
COMPARED = ("majority", "probe", "tuned", "fit_on_tuned")
_FORMAT, _FORMAT_VERSION = "featx-finetuning", 2


@dataclass(frozen=True)
class SplitCounts:
    """Numbers of images of a fine-tuning.

    Parameters
    ----------
    train, early_stopping, test : int
        Images of each set.
    test_from : str
        Where the test set comes from.
    """

    train: int
    early_stopping: int
    test: int
    test_from: str


@dataclass(frozen=True)
class HeadFacts:
    """The head of a fine-tuned network.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the hidden layers.
    init : {"probe", "random"}
        How its weights were initialised.
    """

    hidden: tuple[int, ...]
    init: HeadInit


@dataclass(frozen=True)
class ProbeFacts:
    """Settings of `featx.fit` for the linear probe.

    Parameters
    ----------
    clf, normalise, settings
        See `FitSettings`.
    """

    clf: Classifier = "logistic"
    normalise: Normalise = "l2"
    settings: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Identity:
    """The part of the identity of a run that is read again.

    Parameters
    ----------
    probe : ProbeFacts
        Stored as text, which is JSON.
    """

    probe: Annotated[ProbeFacts, lambda text: conform(ProbeFacts, json.loads(text))]


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json, as far as it is used.

    Parameters
    ----------
    identity : Identity
        The settings of the probe.
    recipe : Recipe
        The recipe of the codes of the linear probe.
    training : TrainingSettings
        How the network was trained.
    head : HeadFacts
        The head.
    split : SplitCounts
        Numbers of images.
    notes : tuple of str
        Notes for the user.
    majority, probe, tuned, fit_on_tuned : Score
        Accuracies on the test set.
    gain : Score
        See `Finetuned`.
    advice : str
        Which of probe and network to use.
    tuned_scores : Evaluation or None
        Scores of the tuned network; None if an early version wrote less.
    history : tuple of EpochRecord
        Epoch 0 and all later ones.
    best_epoch : int
        The epoch whose weights were kept.
    ended : str
        Why the training ended.
    resumed_epochs : int
        Number of epochs that an earlier run had completed.
    micro_batch : int
        Images per forward pass at the end.
    seconds : float
        Duration of the run.
    """

    identity: Identity
    recipe: Annotated[Recipe, lambda value: Recipe.from_json(json.dumps(value))]
    training: TrainingSettings
    head: HeadFacts
    split: SplitCounts
    notes: tuple[str, ...]
    majority: Score
    probe: Score
    tuned: Score
    fit_on_tuned: Score
    gain: Score
    advice: str
    tuned_scores: Annotated[Evaluation | None, Evaluation.from_dict]
    history: tuple[EpochRecord, ...]
    best_epoch: int
    ended: str
    resumed_epochs: int
    micro_batch: int
    seconds: float

    def __post_init__(self) -> None:
        """Check that the best epoch is one of the epochs, which are numbered from 0."""
        if [each.epoch for each in self.history] != list(range(len(self.history))):
            message = "the epochs of history are not 0, 1, 2 and so on"
            raise ValueError(message)
        if not 0 <= self.best_epoch < len(self.history):
            message = f"best_epoch is {self.best_epoch}, which is not an epoch of history"
            raise ValueError(message)


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
        Accuracy of the tuned network minus that of the probe, on the same images.
    training : TrainingResult
        The results of each epoch.
    advice : str
        Which of the two to use.
    facts : dict
        The content of run.json.
    record : RunRecord
        The same as checked values.
    """

    folder: Path
    scores: Mapping[str, Score]
    gain: Score
    training: TrainingResult
    advice: str
    facts: dict[str, Any] = field(repr=False)
    record: RunRecord = field(repr=False)


def finetuned_from(folder: Path, facts: dict[str, Any]) -> Finetuned:
    """Return the result that the content of run.json describes.

    Raises
    ------
    FieldError
        A value does not fit.
    """
    record = conform(RunRecord, facts)
    return Finetuned(
        folder=folder,
        scores={name: getattr(record, name) for name in COMPARED},
        gain=record.gain,
        training=TrainingResult(
            history=record.history,
            best=record.best_epoch,
            ended=record.ended,
            resumed=record.resumed_epochs,
            micro_batch=record.micro_batch,
        ),
        advice=record.advice,
        facts=facts,
        record=record,
    )


def write_run(folder: Path, facts: Mapping[str, Any]) -> Finetuned:
    """Write run.json, and return the result that it describes."""
    text = json.dumps({"format": _FORMAT, "format_version": _FORMAT_VERSION, **facts}, indent=2)
    with whole_file(folder / "run.json") as temporary:
        temporary.write_text(text)
    return finetuned_from(folder, json.loads(text))


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
    name, folder = printable(str(path)), printable(str(path.parent))
    remedy = f"Make it again: featx finetune -o {folder} --overwrite"
    try:
        facts = read_json(path)
        if isinstance(facts, dict) and facts.get("format_version", 1) == 1:
            check_format(facts, _FORMAT, 1)
            facts = {**from_version_1(facts), "format_version": _FORMAT_VERSION}
        check_format(facts, _FORMAT, _FORMAT_VERSION)
        return finetuned_from(path.parent, facts)
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror or error}. {remedy}"
        raise ModelError(message) from error
    except FieldError as error:
        message = (
            f"{name} does not hold the results of a fine-tuning: {printable(error)}. It was "
            f"changed, or another version of featx wrote it. {remedy}"
        )
        raise ModelError(message) from error

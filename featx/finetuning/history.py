"""The history of a training: its records, and the files that show them.

Records of epochs come in; history.csv, learning-curve.png and events for TensorBoard go
out. This file does not know how the network is trained.
"""

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from featx.documents import any_float
from featx.errors import OptionError
from featx.outputs import whole_file, write_csv
from featx.recipe import Recipe

__all__ = ["EpochRecord", "TensorBoardLog", "TrainingResult", "from_version_1", "write_history"]


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch; epoch 0 is the network before training.

    Parameters
    ----------
    epoch : int
        Its number.
    rate : float
        Learning rate of the head at the end of the epoch; 0 for epoch 0.
    loss, accuracy : float or None
        Means over the training batches, with augmentation and before each step; None for
        epoch 0.
    stopping_loss, stopping_accuracy : float
        Log loss and accuracy on the early-stopping set after the epoch.
    seconds : float
        Duration.
    images_per_second : float
        Training speed; 0 for epoch 0.
    """

    epoch: int
    rate: float
    loss: float | None
    accuracy: float | None
    stopping_loss: Annotated[float, any_float]
    stopping_accuracy: float
    seconds: float
    images_per_second: float


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Parameters
    ----------
    history : tuple of EpochRecord
        Epoch 0 and all later ones.
    best : int
        The epoch with the smallest loss on the early-stopping set; the network has its
        weights.
    ended : str
        Why the training ended.
    resumed : int
        Number of epochs that an earlier run had completed.
    micro_batch : int
        Images per forward pass at the end.
    """

    history: tuple[EpochRecord, ...]
    best: int
    ended: str
    resumed: int
    micro_batch: int


def write_history(folder: Path, result: TrainingResult) -> None:
    """Write history.csv, with a row for each epoch, and learning-curve.png.

    Parameters
    ----------
    folder : Path
        The folder to write to; existing files of these names are replaced.
    result : TrainingResult
        The epochs.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    names = [field.name for field in dataclasses.fields(EpochRecord)]
    write_csv(folder / "history.csv", names, map(dataclasses.astuple, result.history))
    with whole_file(folder / "learning-curve.png") as temporary:
        _figure(result).savefig(temporary, format="png", dpi=120)


def _figure(result: TrainingResult) -> Any:
    """Draw loss and accuracy of the training set and of the early-stopping set by epoch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    history, best = result.history, result.best
    epochs = [record.epoch for record in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        trained = [getattr(record, name) for record in history if record.loss is not None]
        axes.plot(epochs[len(epochs) - len(trained) :], trained, color="0.6", label="training set")
        stopping = [getattr(record, f"stopping_{name}") for record in history]
        axes.plot(epochs, stopping, color="C0", label="early-stopping set")
        axes.plot(best, stopping[best], "o", color="C3", label=f"best: epoch {best}")
        axes.axhline(stopping[0], color="C0", linestyle=":", linewidth=1, label="epoch 0")
        axes.set_xlabel("epoch")
        axes.set_title({"loss": "log loss", "accuracy": "accuracy"}[name])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    # The legend is below both axes, because curves may go through any corner.
    lines = figure.axes[0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
    return figure


class TensorBoardLog:
    """Write the record of each epoch where TensorBoard finds it.

    Parameters
    ----------
    folder : Path
        The folder of the events, for tensorboard --logdir FOLDER.

    Raises
    ------
    OptionError
        TensorFlow, which writes the events, is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tensorflow as tf
        except ImportError as error:
            message = (
                "--tensorboard needs TensorFlow, which is not installed. pip install tensorflow"
            )
            raise OptionError(message) from error
        folder.mkdir(parents=True, exist_ok=True)
        # tf.summary needs the package tensorboard, which the records of events do without.
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._event, self._summary = tf.compat.v1.Event, tf.compat.v1.Summary
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")

    def add(self, record: EpochRecord) -> None:
        """Write one epoch."""
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in dataclasses.asdict(record).items()
            if value is not None and name != "epoch"
        ]
        self._write(step=record.epoch, summary=self._summary(value=values))

    def _write(self, **facts: Any) -> None:
        event = self._event(wall_time=time.time(), **facts)
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def from_version_1(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint or run.json of featx 0.1 with the keys of this version.

    Values are not checked here.
    """
    renamed = _renamed(facts, {"tuning": "training", "parts": "split"})
    stopping = {f"stop_{name}": f"stopping_{name}" for name in ("loss", "accuracy")}
    counts = {
        "fitted": "train",
        "stopping": "early_stopping",
        "untouched": "test",
        "where": "test_from",
    }
    for name, names in (("history", stopping), ("split", counts)):
        if name in renamed:
            renamed[name] = _renamed(renamed[name], names)
    if isinstance(identity := renamed.get("identity"), Mapping):
        renamed["identity"] = {**identity, "recipe": _with_all_fields(identity.get("recipe"))}
    return dict(renamed)


def _with_all_fields(recipe: Any) -> Any:
    """Return the JSON of a recipe with the fields that recipes have got since."""
    try:
        return Recipe.from_json(recipe).to_json()
    except (OptionError, TypeError, ValueError):  # it is refused where it is compared
        return recipe


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return an object of JSON, or a list of objects, under other names."""
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, Mapping):
        return value
    return {names.get(name, name): each for name, each in value.items()}

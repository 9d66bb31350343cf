"""The history of a training, for people: a table, a figure and TensorBoard's files.

Epochs come in; history.csv and learning-curve.png go out, and events for
TensorBoard while it runs. This file does not know how they were trained.
"""

import csv
import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from featx.errors import OptionError
from featx.finetuning.steps import Epoch
from featx.finetuning.training import Trained
from featx.outputs import whole_file

__all__ = ["TensorBoardLog", "write_history"]


def write_history(folder: Path, trained: Trained) -> None:
    """Write history.csv, a row an epoch, and learning-curve.png.

    Parameters
    ----------
    folder : Path
        Where to; files of these names are replaced.
    trained : Trained
        The epochs, and which of them is the best.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    names = [field.name for field in dataclasses.fields(Epoch)]
    with (
        whole_file(folder / "history.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(dataclasses.asdict(epoch) for epoch in trained.history)
    with whole_file(folder / "learning-curve.png") as temporary:
        figure = _figure(trained.history, trained.best)
        figure.savefig(temporary, format="png", dpi=120)


def _figure(history: Sequence[Epoch], best: int) -> Any:
    """Draw loss and accuracy by epoch: of training, and of the part that stops."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    trained = [epoch for epoch in history if epoch.loss is not None]
    numbers = [epoch.epoch for epoch in history]
    for axes, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        axes.plot(
            [epoch.epoch for epoch in trained],
            [getattr(epoch, name) for epoch in trained],
            color="0.6",
            label="part that is trained on",
        )
        stop = [getattr(epoch, f"stop_{name}") for epoch in history]
        axes.plot(numbers, stop, color="C0", label="part that stops")
        axes.plot(best, stop[best], "o", color="C3", label=f"best: epoch {best}")
        axes.axhline(stop[0], color="C0", linestyle=":", linewidth=1, label="epoch 0")
        axes.set_xlabel("epoch")
        axes.set_title({"loss": "log loss", "accuracy": "accuracy"}[name])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    # Below both, as no corner of them is free for sure.
    lines = figure.axes[0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False)
    return figure


class TensorBoardLog:
    """Writes each epoch's numbers where TensorBoard finds them.

    Parameters
    ----------
    folder : Path
        Of the events: tensorboard --logdir FOLDER.

    Raises
    ------
    OptionError
        TensorFlow, which writes them, is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tensorflow as tf
        except ImportError as error:
            message = "--tensorboard needs TensorFlow to write its files. pip install tensorflow"
            raise OptionError(message) from error
        folder.mkdir(parents=True, exist_ok=True)
        # Records of events are all that TensorBoard reads; tf.summary needs it to be installed.
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        self._event, self._summary = tf.compat.v1.Event, tf.compat.v1.Summary
        self._writer = tf.io.TFRecordWriter(str(folder / name))
        self._write(file_version="brain.Event:2")

    def add(self, epoch: Epoch) -> None:
        """Write one epoch."""
        values = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in dataclasses.asdict(epoch).items()
            if value is not None and name != "epoch"
        ]
        self._write(step=epoch.epoch, summary=self._summary(value=values))

    def _write(self, **facts: Any) -> None:
        event = self._event(wall_time=time.time(), **facts)
        self._writer.write(event.SerializeToString())
        self._writer.flush()

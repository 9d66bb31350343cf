"""The training: epochs until there is no improvement, with a checkpoint after each of them.

A network, its inputs and labels come in; the network goes out with the weights of its best
epoch, and the history. Random numbers of an epoch depend only on the seed and the epoch's
number, so a resumed run gives the same result as an uninterrupted one. This file knows
neither image files nor classifiers.

References
----------
.. [1] A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, "Fine-Tuning can
   Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
   https://arxiv.org/abs/2202.10054
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featx.documents import FieldError, conform
from featx.errors import OptionError, StoreError
from featx.finetuning.checkpoints import load_checkpoint, save_checkpoint
from featx.finetuning.history import EpochRecord, TrainingResult
from featx.finetuning.inputs import TrainingInputs
from featx.finetuning.network import Network
from featx.finetuning.settings import TrainingSettings
from featx.finetuning.trainer import Array, Labels, Trainer, as_array, choose_micro_batch
from featx.network import PossibleMemoryError
from featx.signatures import values_of
from featx.text import counted

__all__ = ["check_resumable", "train"]

logger = logging.getLogger(__name__)

# With --schedule plateau: epochs without improvement, and the factor of the rate after them.
_PLATEAU_EPOCHS = 2
_PLATEAU_FACTOR = 0.5


def train(
    network: Network,
    inputs: TrainingInputs,
    labels: Labels,
    settings: TrainingSettings,
    checkpoint: Path,
    *,
    identity: Mapping[str, Any],
    progress: Callable[[EpochRecord, int], None] = lambda record, most: None,
) -> TrainingResult:
    """Train a network until the early-stopping set does not improve, or resume a training.

    The number of images per forward pass is estimated from the free memory. If the memory
    runs out nevertheless, the number is halved and the epoch starts over. This changes only
    the random numbers of dropout and augmentation.

    Parameters
    ----------
    network : Network
        The network; it gets the weights of the best epoch.
    inputs : TrainingInputs
        Images or activations.
    labels : Labels
        Labels of the rows.
    settings : TrainingSettings
        How the network is trained.
    checkpoint : Path
        File of the state after each epoch. If it exists, the training is resumed.
    identity : mapping of str to object
        What a resumed run must share with the earlier one besides `settings`: weights,
        images and so on, as JSON holds them.
    progress : callable, optional
        Called with (record of the epoch, maximum number of epochs) after each epoch.

    Raises
    ------
    OptionError
        The checkpoint belongs to a run with other settings, or the memory is too small for
        one image.
    StoreError, OutputError
        The checkpoint cannot be read or written.
    """
    facts = _facts(settings, identity)
    size = choose_micro_batch(network, settings, activations=inputs.is_activations)
    # When memory runs out, JAX may have freed these variables already.
    fixed = [(each, as_array(each)) for each in network.model.non_trainable_variables]
    trainer = Trainer(network, inputs, labels, settings, size)
    if checkpoint.exists():
        state = _load(checkpoint, facts)
    else:
        weights = trainer.weights()
        state = _State([], 0, 1.0, "", weights, trainer.optimizer_state(), weights)
    trainer.restore(state.weights, state.optimizer)
    resumed = max(0, len(state.history) - 1)
    while not state.ended and len(state.history) <= settings.epochs:
        try:
            record = trainer.epoch(len(state.history), state.plateau)
        except MemoryError as error:
            size = _halved(size, error)
            trainer = Trainer(network, inputs, labels, settings, size)
            for variable, array in fixed:
                variable.assign(array)
            trainer.restore(state.weights, state.optimizer)
            continue
        _add(state, record, trainer, settings)
        _save(checkpoint, facts, state)
        if record is not None:
            progress(record, settings.epochs)
    trainer.restore(state.best_weights, [])
    ended = state.ended or f"{counted(settings.epochs, 'epoch')} completed"
    return TrainingResult(tuple(state.history), state.best, ended, resumed, size)


@dataclass
class _State:
    """The state of a training between two epochs, as a checkpoint holds it."""

    history: list[EpochRecord]
    best: int
    plateau: float
    ended: str
    weights: Sequence[Array]
    optimizer: Sequence[Array]
    best_weights: Sequence[Array]


def _add(
    state: _State, record: EpochRecord | None, trainer: Trainer, settings: TrainingSettings
) -> None:
    """Add an epoch to the state; without a record, end the training."""
    number = len(state.history)
    if record is None:
        state.ended = (
            f"the loss was not finite in epoch {number}, so the weights are those of epoch "
            f"{state.best}. Use a smaller --lr than {settings.rate:g}"
        )
        return
    state.history.append(record)
    state.weights, state.optimizer = trainer.weights(), trainer.optimizer_state()
    if record.stopping_loss < state.history[state.best].stopping_loss:
        state.best, state.best_weights = number, state.weights
    since = number - state.best
    if settings.schedule == "plateau" and since and since % _PLATEAU_EPOCHS == 0:
        state.plateau *= _PLATEAU_FACTOR
    if since >= settings.patience:
        state.ended = f"no improvement in {counted(since, 'epoch')}"


def _save(path: Path, facts: Mapping[str, Any], state: _State) -> None:
    arrays = {"weights": state.weights, "optimizer": state.optimizer, "best": state.best_weights}
    history = [dataclasses.asdict(each) for each in state.history]
    known = {"best": state.best, "plateau": state.plateau, "ended": state.ended}
    save_checkpoint(path, arrays, {**facts, "history": history, **known})


def _load(path: Path, facts: Mapping[str, Any]) -> _State:
    arrays, known = _read(path)
    _check_same(path, facts, known)
    values = list(known.history), known.best, known.plateau, known.ended
    return _State(*values, arrays["weights"], arrays.get("optimizer", []), arrays["best"])


@dataclass(frozen=True)
class _Known:
    """The schema of the facts of a checkpoint."""

    training: Mapping[str, Any]
    identity: Mapping[str, Any]
    history: tuple[EpochRecord, ...]
    best: int
    plateau: float
    ended: str


def _read(path: Path) -> tuple[dict[str, list[Array]], _Known]:
    arrays, facts = load_checkpoint(path)
    try:
        known = conform(_Known, facts)
        if not {"weights", "best"} <= arrays.keys() or not 0 <= known.best < len(known.history):
            message = "it lacks weights, or the best of its epochs"
            raise FieldError(message)
        return arrays, known
    except FieldError as error:
        message = (
            f"{path} does not hold an unfinished fine-tuning: {error}. Use --overwrite to start "
            "over, or another -o."
        )
        raise StoreError(message) from error


def _halved(size: int, error: MemoryError) -> int:
    if size == 1:
        if isinstance(error, PossibleMemoryError):
            raise error.backend_error
        message = (
            "The memory is too small for one image in the network. Use a smaller --size, "
            "--freeze-until with a later layer, or --device cpu."
        )
        raise OptionError(message) from error
    logger.warning(
        "memory ran out with %d images per forward pass: trying %d, with accumulated gradients",
        size,
        size // 2,
    )
    return size // 2


def check_resumable(
    checkpoint: Path, settings: TrainingSettings, identity: Mapping[str, Any]
) -> None:
    """Check, before other files are written, that `train` can resume if a checkpoint exists.

    Raises
    ------
    OptionError
        The checkpoint belongs to a run with other settings; the message names them.
    StoreError
        The checkpoint cannot be read.
    """
    if checkpoint.exists():
        _check_same(checkpoint, _facts(settings, identity), _read(checkpoint)[1])


def _facts(settings: TrainingSettings, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"training": values_of(settings, TrainingSettings), "identity": dict(identity)}


def _check_same(path: Path, facts: Mapping[str, Any], earlier: _Known) -> None:
    changed = [
        f"{name.replace('_', '-')} is {now.get(name)}, was {before.get(name)}"
        for now, before in (
            (facts["training"], earlier.training),
            (facts["identity"], earlier.identity),
        )
        for name in {**now, **before}
        if now.get(name) != before.get(name)
    ]
    if changed:
        message = (
            f"{path.parent} holds a run with other settings: {'; '.join(changed)}. Use the "
            "previous settings to resume, --overwrite to start over, or another -o."
        )
        raise OptionError(message)

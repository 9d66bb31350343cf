"""The training: epochs until no gain, the best weights kept, and a state that survives a kill.

A network, what it is shown and labels come in; the network goes out with the
weights of its best epoch, and a history. What an epoch draws follows from the
seed and its number alone, so a run that goes on from its checkpoint does what
a straight one does. This file knows neither files of images nor classifiers.

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

from numpy.typing import NDArray

from featx.errors import OptionError
from featx.finetuning.checkpoints import load_checkpoint, save_checkpoint
from featx.finetuning.network import Network
from featx.finetuning.settings import Tuning
from featx.finetuning.steps import Epoch, Labels, Shown, Steps, as_array, settle_micro_batch

__all__ = ["Trained", "check_same", "train"]

logger = logging.getLogger(__name__)

Array = NDArray[Any]

# Of --schedule plateau: epochs without gain, and what the rate is then multiplied by.
_PLATEAU_EPOCHS = 2
_PLATEAU_FACTOR = 0.5


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Parameters
    ----------
    history : tuple of Epoch
        Epoch 0 and all that followed.
    best : int
        The epoch whose weights the network has now: of least loss on the part
        that stops.
    ended : str
        Why it ended, in words.
    resumed : int
        Epochs that an earlier run had done.
    micro_batch : int
        Images that were in the network at once, at the end.
    """

    history: tuple[Epoch, ...]
    best: int
    ended: str
    resumed: int
    micro_batch: int


Progress = Callable[[Epoch, int], None]


def train(
    network: Network,
    shown: Shown,
    labels: Labels,
    tuning: Tuning,
    checkpoint: Path,
    *,
    identity: Mapping[str, Any],
    progress: Progress = lambda epoch, most: None,
) -> Trained:
    """Train a network until the part that stops gains no more; go on if it was begun.

    As many images of a batch are in the network at once as memory is estimated to
    hold; where it ends all the same, half of them, and the epoch is begun again.
    That changes no step, but for what dropout and augmentation draw.

    Parameters
    ----------
    network : Network
        It has the weights of the best epoch afterwards.
    shown : Shown
        Images or activations.
    labels : Labels
        What the rows are.
    tuning : Tuning
        How it is trained.
    checkpoint : Path
        Where the state is kept after every epoch. If the file exists, the
        training goes on from it.
    identity : mapping of str to object
        What, beside `tuning`, a run must share with the one that it goes on
        from: weights, parts and so on, as JSON holds them.
    progress : callable, optional
        Called after each epoch with its numbers and the most epochs there are.

    Returns
    -------
    Trained

    Raises
    ------
    OptionError
        The checkpoint is of a run with other settings; or memory ends with one
        image at a time.
    StoreError, OutputError
        The checkpoint cannot be read or written.
    """
    facts: dict[str, Any] = {"tuning": dataclasses.asdict(tuning), "identity": dict(identity)}
    size = settle_micro_batch(network, tuning, activations=shown.is_activations)
    # JAX may have given away the memory of these when it needs more than there is.
    fixed = [(each, as_array(each)) for each in network.whole.non_trainable_variables]
    steps = Steps(network, shown, labels, tuning, size)
    if checkpoint.exists():
        state = _load(checkpoint, facts)
    else:
        weights = steps.weights()
        state = _State([], 0, 1.0, "", weights, steps.optimizer_state(), weights)
    steps.restore(state.weights, state.optimizer)
    resumed = max(0, len(state.history) - 1)
    while not state.ended and len(state.history) <= tuning.epochs:
        try:
            found = steps.epoch(len(state.history), state.plateau)
        except MemoryError as error:
            size = _halved(size, error)
            steps = Steps(network, shown, labels, tuning, size)
            for variable, array in fixed:
                variable.assign(array)
            steps.restore(state.weights, state.optimizer)
            continue
        _add(state, found, steps, tuning)
        _save(checkpoint, facts, state)
        if found is not None:
            progress(found, tuning.epochs)
    ended = state.ended or f"all {tuning.epochs} epochs are done"
    steps.restore(state.best_weights, [])
    return Trained(tuple(state.history), state.best, ended, resumed, size)


@dataclass
class _State:
    """A training between two epochs, as a checkpoint keeps it."""

    history: list[Epoch]
    best: int
    plateau: float
    ended: str
    weights: Sequence[Array]
    optimizer: Sequence[Array]
    best_weights: Sequence[Array]


def _add(state: _State, found: Epoch | None, steps: Steps, tuning: Tuning) -> None:
    """Add an epoch, or that its loss was no number, to the state."""
    number = len(state.history)
    if found is None:
        state.ended = (
            f"the loss was no number in epoch {number}: the weights are those of epoch "
            f"{state.best}. Use a smaller --lr than {tuning.rate:g}"
        )
        return
    state.history.append(found)
    state.weights, state.optimizer = steps.weights(), steps.optimizer_state()
    if found.stop_loss < state.history[state.best].stop_loss:
        state.best, state.best_weights = number, state.weights
    since = number - state.best
    if tuning.schedule == "plateau" and since and since % _PLATEAU_EPOCHS == 0:
        state.plateau *= _PLATEAU_FACTOR
    if since >= tuning.patience:
        state.ended = f"no gain in {since} epochs"


def _save(path: Path, facts: Mapping[str, Any], state: _State) -> None:
    arrays = {"weights": state.weights, "optimizer": state.optimizer, "best": state.best_weights}
    history = [dataclasses.asdict(each) for each in state.history]
    known = {"best": state.best, "plateau": state.plateau, "ended": state.ended}
    save_checkpoint(path, arrays, {**facts, "history": history, **known})


def _load(path: Path, facts: Mapping[str, Any]) -> _State:
    arrays, known = load_checkpoint(path)
    check_same(path, facts, known)
    return _State(
        [Epoch(**each) for each in known["history"]],
        known["best"],
        known["plateau"],
        known["ended"],
        arrays["weights"],
        arrays["optimizer"],
        arrays["best"],
    )


def _halved(size: int, error: MemoryError) -> int:
    if size == 1:
        message = (
            "Memory ends with one image at a time in the network. Use a smaller --size, "
            "--freeze-until a later layer, or --device cpu."
        )
        raise OptionError(message) from error
    logger.warning(
        "memory ended with %d images at a time: going on with %d, whose gradients are added up",
        size,
        size // 2,
    )
    return size // 2


def check_same(path: Path, facts: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint whose "tuning" or "identity" differ, and name what does."""
    changed = [
        f"{name.replace('_', '-')} is {facts[part].get(name)}, was {earlier[part].get(name)}"
        for part in ("tuning", "identity")
        for name in {**facts[part], **earlier[part]}
        if facts[part].get(name) != earlier[part].get(name)
    ]
    if changed:
        message = (
            f"{path.parent} holds a run with other settings: {'; '.join(changed)}. Use the old "
            "ones to go on, --overwrite to begin anew, or another -o."
        )
        raise OptionError(message)

"""The training: epochs of steps, the best weights kept, and a state that survives a kill.

A network, what it is shown and labels come in; the network goes out with the
weights of its best epoch, and a history. What an epoch draws follows from the
seed and its number alone, so a run that goes on from its checkpoint does what
a straight one does. This file knows neither files of images nor classifiers.

References
----------
.. [1] A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, "Fine-Tuning can
   Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
   https://arxiv.org/abs/2202.10054
.. [2] J. Howard and S. Ruder, "Universal Language Model Fine-tuning for Text
   Classification", 2018: rates that fall from block to block, and blocks that
   thaw one by one. https://arxiv.org/abs/1801.06146
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from featx.errors import OptionError
from featx.finetuning.augmentation import reseed
from featx.finetuning.checkpoints import load_checkpoint, save_checkpoint
from featx.finetuning.network import Network
from featx.finetuning.options import Tuning

__all__ = ["Epoch", "Labels", "Shown", "Trained", "as_array", "check_same", "logits", "train"]

Array = NDArray[Any]
Rows = NDArray[np.integer]

# Of --schedule plateau: epochs without gain, and what the rate is then multiplied by.
_PLATEAU_EPOCHS = 2
_PLATEAU_FACTOR = 0.5
_STEP_FACTOR = 0.1


class Shown(Protocol):
    """What the network is shown: images, or activations of its last frozen layer."""

    @property
    def is_activations(self) -> bool:
        """Whether rows are activations, for the network's tail."""

    def batch(self, rows: Rows, epoch: int) -> Array:
        """Return rows as the network takes them; epoch 0 is as they are, nothing augmented."""


@dataclass(frozen=True)
class Labels:
    """Labels, and which rows they teach and which they stop.

    Parameters
    ----------
    numbers : ndarray of int, shape (n,)
        Of each row, the place of its class in the head.
    weights : ndarray of shape (n,)
        What a row counts in the loss.
    fitted, stopping : ndarray of int
        Rows that are trained on, and rows that end the training.
    """

    numbers: Rows
    weights: NDArray[np.float64]
    fitted: Rows
    stopping: Rows


@dataclass(frozen=True)
class Epoch:
    """One epoch in numbers; epoch 0 is the network as it came.

    Parameters
    ----------
    epoch : int
        Its number.
    rate : float
        Learning rate of the head at its end; 0 for epoch 0.
    loss, accuracy : float or None
        Of the batches that were trained on, augmented as they were, while the
        weights moved; None for epoch 0.
    stop_loss, stop_accuracy : float
        Of the part that stops.
    seconds : float
        What it took.
    images_per_second : float
        Trained on; 0 for epoch 0.
    """

    epoch: int
    rate: float
    loss: float | None
    accuracy: float | None
    stop_loss: float
    stop_accuracy: float
    seconds: float
    images_per_second: float


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
    """

    history: tuple[Epoch, ...]
    best: int
    ended: str
    resumed: int


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
        The checkpoint is of a run with other settings.
    StoreError, OutputError
        The checkpoint cannot be read or written.
    """
    run = _Run(network, shown, labels, tuning)
    history: list[Epoch] = []
    best, plateau = 0, 1.0
    best_weights = run.weights()
    facts: dict[str, Any] = {"tuning": dataclasses.asdict(tuning), "identity": dict(identity)}
    ended = ""
    if checkpoint.exists():
        arrays, earlier = load_checkpoint(checkpoint)
        check_same(checkpoint, facts, earlier)
        run.restore(arrays["weights"], arrays.get("optimizer", []))
        best_weights = arrays["best"]
        history = [Epoch(**each) for each in earlier["history"]]
        best, plateau, ended = earlier["best"], earlier["plateau"], earlier["ended"]
    resumed = max(0, len(history) - 1)

    def keep() -> None:
        save_checkpoint(
            checkpoint,
            {"weights": run.weights(), "optimizer": run.optimizer_state(), "best": best_weights},
            {
                **facts,
                "history": [dataclasses.asdict(each) for each in history],
                "best": best,
                "plateau": plateau,
                "ended": ended,
            },
        )

    if not history:
        began = time.perf_counter()
        loss, accuracy = run.stop_scores()
        seconds = time.perf_counter() - began
        history.append(Epoch(0, 0.0, None, None, loss, accuracy, seconds, 0.0))
        keep()
        progress(history[-1], tuning.epochs)
    while not ended and len(history) <= tuning.epochs:
        number = len(history)
        found = run.epoch(number, plateau)
        if found is None:
            ended = (
                f"the loss was no number in epoch {number}: the weights are those of epoch "
                f"{best}. Use a smaller --lr than {tuning.rate:g}"
            )
            keep()
            break
        history.append(found)
        if found.stop_loss < history[best].stop_loss:
            best, best_weights = number, run.weights()
        since = number - best
        if tuning.schedule == "plateau" and since and since % _PLATEAU_EPOCHS == 0:
            plateau *= _PLATEAU_FACTOR
        if since >= tuning.patience:
            ended = f"no gain in {since} epochs"
        keep()
        progress(found, tuning.epochs)
    ended = ended or f"all {tuning.epochs} epochs are done"
    run.restore(best_weights, [])
    return Trained(tuple(history), best, ended, resumed)


class _Run:
    """A model with its optimizer, and the steps of an epoch."""

    def __init__(self, network: Network, shown: Shown, labels: Labels, tuning: Tuning) -> None:
        self._network, self._shown, self._labels, self._tuning = network, shown, labels, tuning
        self._model = network.tail if shown.is_activations else network.augmented
        self._eval = network.tail if shown.is_activations else network.whole
        (self._cut,) = network.recipe.layers
        self._variables = list(self._model.trainable_variables)
        self._n_steps = math.ceil(len(labels.fitted) / tuning.batch_size)
        self._scales: dict[str, float] = {}
        self._compile()

    def weights(self) -> list[Array]:
        """Return what is trained, as it is now."""
        return [as_array(variable) for variable in self._variables]

    def optimizer_state(self) -> list[Array]:
        """Return what the optimizer remembers."""
        return [as_array(variable) for variable in self._optimizer.variables]

    def restore(self, weights: Sequence[Array], optimizer: Sequence[Array]) -> None:
        """Set weights, and what the optimizer remembers if that is given."""
        for variable, array in zip(self._variables, weights, strict=True):
            variable.assign(array)
        if optimizer:
            for variable, array in zip(self._optimizer.variables, optimizer, strict=True):
                variable.assign(array)

    def stop_scores(self) -> tuple[float, float]:
        """Return log loss and accuracy on the part that stops."""
        rows = self._labels.stopping
        found = logits(self._network, self._shown, rows, self._tuning.batch_size)
        own = self._labels.numbers[rows]
        losses = logsumexp(found, axis=1) - found[np.arange(len(rows)), own]
        return float(losses.mean()), float(np.mean(found.argmax(axis=1) == own))

    def epoch(self, number: int, plateau: float) -> Epoch | None:
        """Go over the training part once; None where the loss was no number."""
        began = time.perf_counter()
        tuning, labels = self._tuning, self._labels
        self._thaw(number)
        reseed(self._network.drawing, tuning.seed, number)
        rng = np.random.default_rng([tuning.seed, number])
        order = rng.permutation(labels.fitted)
        total = {"loss": 0.0, "accuracy": 0.0}
        rate = 0.0
        with self._network.device.scope():
            for step in range(self._n_steps):
                rows = order[step * tuning.batch_size : (step + 1) * tuning.batch_size]
                rate = plateau * self._rate((number - 1) * self._n_steps + step)
                self._optimizer.learning_rate = rate
                found = self._step(rows, number)
                if not math.isfinite(found["loss"]):
                    return None
                total = {name: total[name] + len(rows) * found[name] for name in total}
        loss, accuracy = self.stop_scores()
        if not math.isfinite(loss):
            return None
        seconds = time.perf_counter() - began
        speed = len(order) / seconds
        mean = {name: value / len(order) for name, value in total.items()}
        return Epoch(number, rate, mean["loss"], mean["accuracy"], loss, accuracy, seconds, speed)

    def _step(self, rows: Rows, epoch: int) -> dict[str, float]:
        """Train on a batch; its rows' weights add up to 1, and what fills it up weighs nothing."""
        weights = np.zeros(self._tuning.batch_size, np.float32)
        weights[: len(rows)] = self._labels.weights[rows] / self._labels.weights[rows].sum()
        x = _filled(self._shown.batch(rows, epoch), self._tuning.batch_size)
        y = _filled(self._labels.numbers[rows], self._tuning.batch_size)
        self._model.reset_metrics()
        found = self._model.train_on_batch(x, y, sample_weight=weights, return_dict=True)
        return {name: float(value) for name, value in found.items()}

    def _rate(self, step: int) -> float:
        """Return the head's learning rate at a step, but for the plateau's share."""
        tuning, n_steps = self._tuning, self._n_steps * self._tuning.epochs
        # The optimizer knows nothing of the slopes yet in the first epoch: it is led in.
        start = min(1.0, (step + 1) / self._n_steps)
        if tuning.schedule == "cosine":
            return tuning.rate * start * (1 + math.cos(math.pi * step / n_steps)) / 2
        if tuning.schedule == "step":
            n_falls = (step >= n_steps / 2) + (step >= 3 * n_steps / 4)
            return tuning.rate * start * float(_STEP_FACTOR**n_falls)
        return tuning.rate * start

    def _thaw(self, epoch: int) -> None:
        """Set the scales of an epoch; where they changed, the step is compiled anew."""
        names = {variable.path: variable.path.partition("/")[0] for variable in self._variables}
        scales = {path: self._tuning.scale(name, self._cut, epoch) for path, name in names.items()}
        if scales != self._scales:
            self._scales.update(scales)
            self._model.make_train_function(force=True)

    def _compile(self) -> None:
        import keras

        with self._network.device.scope():
            self._optimizer = _optimizer(self._tuning, lambda path: self._scales[path])
            self._model.compile(
                optimizer=self._optimizer,
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
                weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
                # XLA on the CPU costs TensorFlow a fifth of its speed; JAX is nothing else, and
                # "auto" leaves it out, without a warning, where a layer says that it cannot.
                jit_compile="auto" if keras.backend.backend() == "jax" else False,
            )
            self._optimizer.build(self._variables)


def logits(network: Network, shown: Shown, rows: Rows, batch_size: int) -> NDArray[np.float64]:
    """Return the logits of some rows, as they are, (n, k).

    Parameters
    ----------
    network : Network
        With the weights that it has now.
    shown : Shown
        Images or activations.
    rows : ndarray of int, shape (n,)
        Which.
    batch_size : int
        Rows at a time.
    """
    model = network.tail if shown.is_activations else network.whole
    found = np.empty((len(rows), len(network.head.classes)))
    with network.device.scope():
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            x = _filled(shown.batch(part, 0), batch_size)
            found[start : start + len(part)] = as_array(model.predict_on_batch(x))[: len(part)]
    return found


def _filled(batch: Array, n: int) -> Array:
    """Repeat the first row until there are n: the device compiles for one shape."""
    if len(batch) == n:
        return batch
    return np.concatenate([batch, np.repeat(batch[:1], n - len(batch), axis=0)])


def as_array(variable: Any) -> Array:
    """Return a backend's tensor, or a variable, as a NumPy array of its own."""
    import keras

    # A variable of TensorFlow warns when NumPy takes it; its tensor does not.
    return np.array(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable)))


def check_same(path: Path, facts: Mapping[str, Any], earlier: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint whose "tuning" or "identity" differ, and name what does."""
    changed = [
        f"{name.replace('_', '-')} is {facts[part][name]}, was {earlier[part].get(name)}"
        for part in ("tuning", "identity")
        for name in facts[part]
        if facts[part][name] != earlier[part].get(name)
    ]
    if changed:
        message = (
            f"{path.parent} holds a run with other settings: {'; '.join(changed)}. Use the old "
            "ones to go on, --overwrite to begin anew, or another -o."
        )
        raise OptionError(message)


def _optimizer(tuning: Tuning, scale: Callable[[str], float]) -> Any:
    """Return Keras's optimizer, with a rate for each variable and its own weight decay."""
    if tuning.optimizer == "sgd":
        return _scaled("SGD")(tuning.weight_decay, scale, momentum=0.9)
    return _scaled("AdamW")(tuning.weight_decay, scale, weight_decay=0.0)


@functools.cache
def _scaled(name: str) -> Any:
    import keras

    kind: Any = getattr(keras.optimizers, name)

    class Scaled(kind):  # type: ignore[misc]
        """An optimizer whose rate differs by variable, and that leaves biases their size.

        Keras's own weight decay goes by one rate for all variables, so that it
        would move those that are not thawed.
        """

        def __init__(self, decay: float, scale: Callable[[str], float], **settings: Any) -> None:
            super().__init__(**settings)
            self._decay, self._scale = decay, scale

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # TensorFlow hands over its own variable, which does not know its path.
            path = self._trainable_variables[self._get_variable_index(variable)].path
            scale = self._scale(path)
            if scale == 0:
                return
            rate = learning_rate * scale
            if self._decay and not path.endswith("/bias"):
                shrunk = keras.ops.multiply(
                    variable, keras.ops.cast(rate * self._decay, variable.dtype)
                )
                self.assign_sub(variable, shrunk)
            super().update_step(gradient, variable, rate)

    return Scaled

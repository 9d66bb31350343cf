"""The steps of a training: batches, gradients, rates by block, and what an optimizer remembers.

A network, what it is shown and labels come in; weights change, epoch by epoch.
A batch goes through the network in micro-batches, as many images as memory
holds; their gradients add up to the batch's, so that memory changes no result.
This file does not know when to stop, and writes nothing.

References
----------
.. [1] J. Howard and S. Ruder, "Universal Language Model Fine-tuning for Text
   Classification", 2018: rates that fall from block to block, and blocks that
   thaw one by one. https://arxiv.org/abs/1801.06146
"""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from featx.finetuning.augmentation import reseed
from featx.finetuning.network import Network
from featx.finetuning.settings import Tuning
from featx.layers import activation_shape, layers_up_to
from featx.network import activation_bytes, memory_errors

__all__ = ["Epoch", "Labels", "Shown", "Steps", "as_array", "logits", "settle_micro_batch"]

Array = NDArray[Any]
Rows = NDArray[np.integer]

_STEP_FACTOR = 0.1
# What is left is for weights, what the optimizer remembers, and what the estimate misses.
_SHARE_OF_MEMORY = 0.5


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


class Steps:
    """A network with its optimizer, and the steps of its epochs.

    Parameters
    ----------
    network : Network
        Its weights change.
    shown : Shown
        Images or activations.
    labels : Labels
        What the rows are.
    tuning : Tuning
        How it is trained.
    micro_batch : int
        Images in the network at once. A larger batch is divided, and its
        gradients are added up before a step is made.
    """

    def __init__(
        self, network: Network, shown: Shown, labels: Labels, tuning: Tuning, micro_batch: int
    ) -> None:
        self._network, self._shown, self._labels, self._tuning = network, shown, labels, tuning
        self._model = network.tail if shown.is_activations else network.augmented
        (self._cut,) = network.recipe.layers
        self._variables = list(self._model.trainable_variables)
        self._n_steps = math.ceil(len(labels.fitted) / tuning.batch_size)
        self._n_parts = math.ceil(tuning.batch_size / micro_batch)
        # No larger than an even division needs.
        self._micro_batch = math.ceil(tuning.batch_size / self._n_parts)
        self._scales: dict[str, float] = {}
        self._compile()

    def weights(self) -> list[Array]:
        """Return what is trained, as it is now."""
        return [as_array(variable) for variable in self._variables]

    def optimizer_state(self) -> list[Array]:
        """Return what the optimizer remembers between two batches, the number of batches first."""
        count, *others = (as_array(variable) for variable in self._remembered())
        return [count // self._n_parts, *others]

    def restore(self, weights: Sequence[Array], optimizer: Sequence[Array]) -> None:
        """Set weights, and what the optimizer remembers if that is given."""
        for variable, array in zip(self._variables, weights, strict=True):
            variable.assign(array)
        if optimizer:
            count, *others = optimizer
            arrays = [count * self._n_parts, *others]
            for variable, array in zip(self._remembered(), arrays, strict=True):
                variable.assign(array)

    def _remembered(self) -> list[Any]:
        """Return the optimizer's variables: its count, and all but sums of half a batch."""
        count, *others = self._optimizer.variables
        return [count, *(each for each in others if "gradient_accumulator" not in each.path)]

    def stop_scores(self) -> tuple[float, float]:
        """Return log loss and accuracy on the part that stops."""
        rows = self._labels.stopping
        found = logits(self._network, self._shown, rows, self._micro_batch)
        own = self._labels.numbers[rows]
        losses = logsumexp(found, axis=1) - found[np.arange(len(rows)), own]
        return float(losses.mean()), float(np.mean(found.argmax(axis=1) == own))

    def epoch(self, number: int, plateau: float) -> Epoch | None:
        """Go over the training part once, in epoch 0 not at all.

        Parameters
        ----------
        number : int
            Of the epoch: all that is drawn follows from it and the seed.
        plateau : float
            What the rate is multiplied by.

        Returns
        -------
        Epoch or None
            None where the loss was no number.

        Raises
        ------
        MemoryError
            The device has too little memory for the images at once.
        """
        with memory_errors(self._micro_batch):
            return self._trained(number, plateau) if number else self._as_it_came()

    def _as_it_came(self) -> Epoch:
        began = time.perf_counter()
        loss, accuracy = self.stop_scores()
        return Epoch(0, 0.0, None, None, loss, accuracy, time.perf_counter() - began, 0.0)

    def _trained(self, number: int, plateau: float) -> Epoch | None:
        began = time.perf_counter()
        tuning, labels = self._tuning, self._labels
        self._thaw(number)
        reseed(self._network.drawing, tuning.seed, number)
        rng = np.random.default_rng([tuning.seed, number])
        order = rng.permutation(labels.fitted)
        total = np.zeros(2)
        rate = 0.0
        with self._network.computing():
            for step in range(self._n_steps):
                rows = order[step * tuning.batch_size : (step + 1) * tuning.batch_size]
                rate = plateau * self._rate((number - 1) * self._n_steps + step)
                self._optimizer.learning_rate = rate
                found = self._step(rows, number)
                if not np.isfinite(found).all():
                    return None
                total += len(rows) * found
        stop_loss, stop_accuracy = self.stop_scores()
        if not math.isfinite(stop_loss):
            return None
        seconds = time.perf_counter() - began
        loss, accuracy = (float(mean) for mean in total / len(order))
        speed = len(order) / seconds
        return Epoch(number, rate, loss, accuracy, stop_loss, stop_accuracy, seconds, speed)

    def _step(self, rows: Rows, epoch: int) -> NDArray[np.float64]:
        """Train on a batch, and return its loss and accuracy, means by weight.

        Its rows' weights add up to 1, and what fills it up weighs nothing.
        """
        n, whole = self._micro_batch, np.zeros(self._n_parts * self._micro_batch, np.float32)
        whole[: len(rows)] = self._labels.weights[rows] / self._labels.weights[rows].sum()
        x = self._shown.batch(rows, epoch)
        y = _filled(self._labels.numbers[rows], len(whole))
        total = np.zeros(2)
        for start in range(0, len(whole), n):
            part, weights = x[start : start + n], whole[start : start + n]
            # The last batch may be smaller, and a part of it empty: the optimizer counts parts.
            part = _filled(part if len(part) else x[:1], n)
            self._model.reset_metrics()
            # Keras takes the mean of the parts' gradients; the batch's is their sum.
            found = self._model.train_on_batch(
                part, y[start : start + n], sample_weight=weights * self._n_parts, return_dict=True
            )
            share = float(weights.sum())
            total += [float(found["loss"]) / self._n_parts, share * float(found["accuracy"])]
        return total

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
            self._optimizer = _optimizer(
                self._tuning, lambda path: self._scales[path], self._n_parts
            )
            self._model.compile(
                optimizer=self._optimizer,
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
                weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
                # XLA on the CPU costs TensorFlow a fifth of its speed; JAX is nothing else, and
                # "auto" leaves it out, without a warning, where a layer says that it cannot.
                jit_compile="auto" if keras.backend.backend() == "jax" else False,
            )
            self._optimizer.build(self._variables)


def settle_micro_batch(network: Network, tuning: Tuning, *, activations: bool) -> int:
    """Return how many images of a batch to have in the network at once.

    A whole batch, unless it would fill more than half of the free memory: half
    of it then, and so on.

    Parameters
    ----------
    network : Network
        What is trained, and where.
    tuning : Tuning
        The batch size, and what is frozen.
    activations : bool
        Whether the frozen layers' activations are there already.
    """
    recipe, size = network.recipe, tuning.batch_size
    free = network.device.free_bytes()
    if free is None:
        return size
    n_frozen = len(tuning.frozen(recipe.layers[0]))
    behind = layers_up_to(recipe.layers[0])[n_frozen:]
    # The way back needs what each layer that learns, and those behind it, gave.
    kept = 4 * sum(math.prod(activation_shape(layer.name, recipe.size)) for layer in behind)
    needed = 2 * kept if activations else kept + activation_bytes(recipe)
    while size > 1 and size * needed > _SHARE_OF_MEMORY * free:
        size = math.ceil(size / 2)
    return size


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
    with network.computing():
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


def _optimizer(tuning: Tuning, scale: Callable[[str], float], n_parts: int) -> Any:
    """Return Keras's optimizer, with a rate for each variable and its own weight decay."""
    settings: dict[str, Any] = {"gradient_accumulation_steps": n_parts if n_parts > 1 else None}
    if tuning.optimizer == "sgd":
        return _scaled("SGD")(tuning.weight_decay, scale, momentum=0.9, **settings)
    return _scaled("AdamW")(tuning.weight_decay, scale, weight_decay=0.0, **settings)


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
            # At a rate of 0 a layer keeps every bit, but its slopes are remembered: it thaws with
            # steps of the usual size.
            rate = learning_rate * scale
            if self._decay and not path.endswith("/bias"):
                shrunk = keras.ops.multiply(
                    variable, keras.ops.cast(rate * self._decay, variable.dtype)
                )
                self.assign_sub(variable, shrunk)
            super().update_step(gradient, variable, rate)

    return Scaled

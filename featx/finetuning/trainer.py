"""One epoch of training: batches, gradients, learning rates by block, and the optimizer's state.

A network, its inputs and labels come in; its weights change. A batch goes through the
network in micro-batches of as many images as the memory holds. Their gradients add up to
those of the batch, so the memory does not change the result. The inputs of the next batch are
loaded while a batch is computed. This file does not decide when training ends, and writes
nothing.

References
----------
.. [1] J. Howard and S. Ruder, "Universal Language Model Fine-tuning for Text
   Classification", 2018: learning rates that fall from block to block, and gradual
   unfreezing. https://arxiv.org/abs/1801.06146
"""

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from featx.finetuning.augmentation import reseed
from featx.finetuning.history import EpochRecord
from featx.finetuning.inputs import Rows, TrainingInputs, load_ahead
from featx.finetuning.network import Network
from featx.finetuning.settings import TrainingSettings
from featx.layers import activation_shape, layers_up_to
from featx.network import activation_bytes
from featx.network.devices import memory_errors

__all__ = ["Labels", "Trainer", "as_array", "choose_micro_batch", "logits"]

Array = NDArray[Any]

_STEP_FACTOR = 0.1
# The rest is for weights, the optimizer's state, and what the estimate misses.
_MEMORY_FRACTION = 0.5


@dataclass(frozen=True)
class Labels:
    """Labels of all rows, and the rows of the training and early-stopping sets.

    Parameters
    ----------
    numbers : ndarray of int, shape (n,)
        Index of each row's class in the head.
    weights : ndarray of shape (n,)
        Weight of each row in the loss.
    train_rows, stopping_rows : ndarray of int
        Rows of the training set and of the early-stopping set.
    """

    numbers: Rows
    weights: NDArray[np.float64]
    train_rows: Rows
    stopping_rows: Rows


class Trainer:
    """A network with its optimizer.

    Parameters
    ----------
    network : Network
        The network; its weights change.
    inputs : TrainingInputs
        Images or activations.
    labels : Labels
        Labels of the rows.
    settings : TrainingSettings
        How the network is trained.
    micro_batch : int
        Images per forward pass. A larger batch is divided, and its gradients are added up
        before the step.
    """

    def __init__(
        self,
        network: Network,
        inputs: TrainingInputs,
        labels: Labels,
        settings: TrainingSettings,
        micro_batch: int,
    ) -> None:
        import keras

        self._network, self._inputs, self._labels = network, inputs, labels
        self._settings = settings
        self._model = network.tail if inputs.is_activations else network.training_model
        (self._cut,) = network.recipe.layers
        self._variables = list(self._model.trainable_variables)
        self._n_steps = math.ceil(len(labels.train_rows) / settings.images_per_step)
        self._n_parts = math.ceil(settings.images_per_step / micro_batch)
        # Equal parts need no larger micro-batch than this.
        self._micro_batch = math.ceil(settings.images_per_step / self._n_parts)
        self._scales: dict[str, float] = {}
        with network.device.scope():
            self._optimizer = _optimizer(settings, self._scales, self._n_parts)
            self._model.compile(
                optimizer=self._optimizer,
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
                weighted_metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
                # On the CPU, XLA makes TensorFlow a fifth slower. JAX always uses XLA, and
                # "auto" leaves it out, without a warning, if a layer does not support it.
                jit_compile="auto" if keras.backend.backend() == "jax" else False,
            )
            self._optimizer.build(self._variables)

    def weights(self) -> list[Array]:
        """Return the current values of the trained weights."""
        return [as_array(variable) for variable in self._variables]

    def optimizer_state(self) -> list[Array]:
        """Return the optimizer's state between two batches; the number of batches is first."""
        count, *others = (as_array(variable) for variable in self._state_variables())
        return [count // self._n_parts, *others]

    def restore(self, weights: Sequence[Array], optimizer: Sequence[Array]) -> None:
        """Set the weights, and the optimizer's state unless it is empty."""
        for variable, array in zip(self._variables, weights, strict=True):
            variable.assign(array)
        if optimizer:
            count, *others = optimizer
            arrays = [count * self._n_parts, *others]
            for variable, array in zip(self._state_variables(), arrays, strict=True):
                variable.assign(array)

    def _state_variables(self) -> list[Any]:
        """Return the optimizer's variables except the gradients of an incomplete batch."""
        count, *others = self._optimizer.variables
        return [count, *(each for each in others if "gradient_accumulator" not in each.path)]

    def stopping_scores(self) -> tuple[float, float]:
        """Return log loss and accuracy on the early-stopping set."""
        rows = self._labels.stopping_rows
        found = logits(self._network, self._inputs, rows, self._micro_batch)
        y = self._labels.numbers[rows]
        losses = logsumexp(found, axis=1) - found[np.arange(len(rows)), y]
        return float(losses.mean()), float(np.mean(found.argmax(axis=1) == y))

    def epoch(self, number: int, plateau: float) -> EpochRecord | None:
        """Train on the training set once; epoch 0 only computes the scores.

        Parameters
        ----------
        number : int
            Number of the epoch; with the seed it determines all random numbers.
        plateau : float
            Factor of the learning rate.

        Returns
        -------
        EpochRecord or None
            None if the loss was not finite.

        Raises
        ------
        MemoryError
            The micro-batch does not fit into the device's memory.
        """
        start, n_images, rate = time.perf_counter(), 0, 0.0
        loss = accuracy = None
        with memory_errors(self._micro_batch):
            if number:
                n_images = len(self._labels.train_rows)
                loss, accuracy, rate = self._train(number, plateau)
                if not math.isfinite(loss):
                    return None
            stopping_loss, stopping_accuracy = self.stopping_scores()
            if number and not math.isfinite(stopping_loss):
                return None
        seconds = time.perf_counter() - start
        return EpochRecord(
            epoch=number,
            rate=rate,
            loss=loss,
            accuracy=accuracy,
            stopping_loss=stopping_loss,
            stopping_accuracy=stopping_accuracy,
            seconds=seconds,
            images_per_second=n_images / seconds,
        )

    def _train(self, epoch: int, plateau: float) -> tuple[float, float, float]:
        """Train on all batches; return the means of loss and accuracy, and the last rate."""
        settings, n_images = self._settings, self._settings.images_per_step
        self._set_scales(epoch)
        reseed(self._network.random_layers, settings.seed, epoch)
        rng = np.random.default_rng([settings.seed, epoch])
        order = rng.permutation(self._labels.train_rows)
        total, rate = np.zeros(2), 0.0
        parts = [order[k : k + n_images] for k in range(0, len(order), n_images)]
        with (
            self._network.computing(),
            contextlib.closing(load_ahead(self._inputs, parts, epoch)) as batches,
        ):
            for step, (rows, batch) in enumerate(zip(parts, batches, strict=True)):
                rate = plateau * self._rate((epoch - 1) * self._n_steps + step)
                self._optimizer.learning_rate = rate
                total += len(rows) * self._step(rows, batch)
                if not np.isfinite(total).all():
                    break
        loss, accuracy = total / len(order)
        return float(loss), float(accuracy), rate

    def _step(self, rows: Rows, batch: Array) -> NDArray[np.float64]:
        """Train on the inputs of rows, and return the weighted means of loss and accuracy.

        The weights of the rows are scaled to a sum of 1; padding has weight 0.
        """
        n, weights = self._micro_batch, np.zeros(self._n_parts * self._micro_batch, np.float32)
        weights[: len(rows)] = self._labels.weights[rows] / self._labels.weights[rows].sum()
        x = _padded(batch, len(weights))
        y = _padded(self._labels.numbers[rows], len(weights))
        total = np.zeros(2)
        # Parts of the last batch may be padding only, because the optimizer counts the parts.
        for start in range(0, len(weights), n):
            part = slice(start, start + n)
            w = weights[part]
            self._model.reset_metrics()
            # Keras averages the gradients of the parts, but the batch's gradient is their sum.
            found = self._model.train_on_batch(
                x[part], y[part], sample_weight=w * self._n_parts, return_dict=True
            )
            loss, accuracy = float(found["loss"]), float(found["accuracy"])
            total += [loss / self._n_parts, float(w.sum()) * accuracy]
        return total

    def _rate(self, step: int) -> float:
        """Return the head's learning rate at a step, before the factor of the plateau."""
        settings, n_steps = self._settings, self._n_steps * self._settings.epochs
        # Warm-up in the first epoch, when the optimizer has no estimate of the gradients yet.
        warm_up = min(1.0, (step + 1) / self._n_steps)
        if settings.schedule == "cosine":
            return settings.rate * warm_up * (1 + math.cos(math.pi * step / n_steps)) / 2
        if settings.schedule == "step":
            n_falls = (step >= n_steps / 2) + (step >= 3 * n_steps / 4)
            return settings.rate * warm_up * float(_STEP_FACTOR**n_falls)
        return settings.rate * warm_up

    def _set_scales(self, epoch: int) -> None:
        """Set the relative learning rates of an epoch; if they changed, recompile the step."""
        paths = [variable.path for variable in self._variables]
        scales = {
            path: self._settings.scale(path.partition("/")[0], self._cut, epoch) for path in paths
        }
        if scales != self._scales:
            self._scales.update(scales)
            self._model.make_train_function(force=True)


def choose_micro_batch(network: Network, settings: TrainingSettings, *, activations: bool) -> int:
    """Return how many images of a batch go through the network at once.

    The batch is halved until it needs at most half of the free memory.

    Parameters
    ----------
    network : Network
        The network and its device.
    settings : TrainingSettings
        The batch size and the frozen layers.
    activations : bool
        Whether the inputs are activations of the last frozen layer.
    """
    recipe, size = network.recipe, settings.images_per_step
    free = network.device.free_bytes()
    if free is None:
        return size
    n_frozen = len(settings.frozen(recipe.layers[0]))
    trained = layers_up_to(recipe.layers[0])[n_frozen:]
    # Backpropagation needs the activations of all layers after the frozen ones.
    kept = 4 * sum(math.prod(activation_shape(layer.name, recipe.size)) for layer in trained)
    needed = 2 * kept if activations else kept + activation_bytes(recipe)
    while size > 1 and size * needed > _MEMORY_FRACTION * free:
        size = math.ceil(size / 2)
    return size


def logits(
    network: Network, inputs: TrainingInputs, rows: Rows, batch_size: int
) -> NDArray[np.float64]:
    """Return the logits of rows without augmentation, of shape (n, k).

    Parameters
    ----------
    network : Network
        The network with its current weights.
    inputs : TrainingInputs
        Images or activations.
    rows : ndarray of int, shape (n,)
        The rows.
    batch_size : int
        Rows per forward pass.
    """
    model = network.tail if inputs.is_activations else network.model
    found = np.empty((len(rows), len(network.head.classes)))
    starts = range(0, len(rows), batch_size)
    parts = [rows[start : start + batch_size] for start in starts]
    with network.computing(), contextlib.closing(load_ahead(inputs, parts, 0)) as batches:
        for start, part, batch in zip(starts, parts, batches, strict=True):
            computed = as_array(model.predict_on_batch(_padded(batch, batch_size)))
            found[start : start + len(part)] = computed[: len(part)]
    return found


def _padded(batch: Array, n: int) -> Array:
    """Repeat the first row until there are n rows, because each shape is compiled separately."""
    if len(batch) == n:
        return batch
    return np.concatenate([batch, np.repeat(batch[:1], n - len(batch), axis=0)])


def as_array(variable: Any) -> Array:
    """Copy a tensor or a variable of any backend to a NumPy array."""
    import keras

    # NumPy warns when it converts a variable of TensorFlow, but not when it converts a tensor.
    return np.array(keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable)))


def _optimizer(settings: TrainingSettings, scales: Mapping[str, float], n_parts: int) -> Any:
    """Return an optimizer with a learning rate for each variable; biases have no weight decay.

    Keras's own weight decay uses one rate for all variables, so it would change frozen blocks
    too.
    """
    import keras

    is_sgd = settings.optimizer == "sgd"
    base: Any = keras.optimizers.SGD if is_sgd else keras.optimizers.AdamW
    own = {"momentum": 0.9} if is_sgd else {"weight_decay": 0.0}

    class Scaled(base):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # TensorFlow passes its own variable, which does not have Keras's path.
            path = self._trainable_variables[self._get_variable_index(variable)].path
            # At a rate of 0 a layer keeps its weights, but the optimizer follows its gradients,
            # so that its first steps after unfreezing have the usual size.
            rate = learning_rate * scales[path]
            if settings.weight_decay and not path.endswith("/bias"):
                decay = keras.ops.cast(rate * settings.weight_decay, variable.dtype)
                self.assign_sub(variable, keras.ops.multiply(variable, decay))
            super().update_step(gradient, variable, rate)

    return Scaled(gradient_accumulation_steps=n_parts if n_parts > 1 else None, **own)

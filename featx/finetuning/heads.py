"""The head: what turns codes into logits, as arrays and as Keras layers.

Arrays come in, of a linear classifier that was fitted elsewhere or drawn at
random; Keras layers that compute the same go out, and after training the
arrays again. A head knows neither images nor where its numbers came from.

References
----------
.. [1] A. Kumar, A. Raghunathan, R. Jones, T. Ma and P. Liang, "Fine-Tuning can
   Distort Pretrained Features and Underperform Out-of-Distribution", 2022.
   https://arxiv.org/abs/2202.10054
.. [2] X. Glorot and Y. Bengio, "Understanding the difficulty of training deep
   feedforward neural networks", 2010.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import OptionError

__all__ = ["Head", "Normalise", "custom_layers", "head_layers", "random_head", "read_head"]

Normalise = Literal["none", "l2", "sqrt-l2", "centre"]
Array = NDArray[np.floating]


# Arrays have no one truth value, so two heads are compared by nobody.
@dataclass(frozen=True, eq=False)
class Head:
    """What turns codes into logits.

    Parameters
    ----------
    classes : tuple of str
        Names of the logits, k of them.
    normalise : {"none", "l2", "sqrt-l2", "centre"}
        What becomes of a code first: it stays, or is made unit length; its
        signed root is made unit length; or `mean` is taken from the unit code
        and the rest made unit length again. Zeros stay zeros.
    mean : ndarray of shape (d,), optional
        For "centre" only.
    kernels : tuple of ndarray
        One of shape (d, k) is a linear head; several, each as wide as the next
        is high, are a perceptron with ReLU between them.
    biases : tuple of ndarray
        One for each kernel.

    Raises
    ------
    OptionError
        The arrays do not fit each other, the classes or `normalise`.

    Examples
    --------
    >>> head = Head(("ant", "bee"), "l2", None, (np.eye(2),), (np.zeros(2),))
    >>> head.logits([[3.0, 4.0], [0.0, 0.0]])
    array([[0.6, 0.8],
           [0. , 0. ]])
    """

    classes: tuple[str, ...]
    normalise: Normalise
    mean: Array | None
    kernels: tuple[Array, ...]
    biases: tuple[Array, ...]

    def __post_init__(self) -> None:
        if self.normalise not in get_args(Normalise):
            message = (
                f"No such normalise: {self.normalise!r}. Expected one of "
                f"{', '.join(get_args(Normalise))}. Use --normalise l2."
            )
            raise OptionError(message)
        shapes = [kernel.shape for kernel in self.kernels]
        fits = (
            bool(shapes)
            and all(len(shape) == 2 for shape in shapes)
            and all(left[1] == right[0] for left, right in itertools.pairwise(shapes))
            and shapes[-1][1] == len(self.classes)
            and [bias.shape for bias in self.biases] == [shape[1:] for shape in shapes]
        )
        mean = None if self.mean is None else self.mean.shape
        if not fits or mean != (shapes[0][:1] if self.normalise == "centre" else None):
            message = (
                f"These arrays are no head for {len(self.classes)} classes and normalise "
                f"{self.normalise}: kernels {shapes}, biases "
                f"{[bias.shape for bias in self.biases]}, mean {mean}. Expected kernels (d, ...) "
                "to (..., classes), a bias for each, and a mean (d,) for centre only. Make the "
                "head again: featx fit CODES"
            )
            raise OptionError(message)

    @property
    def code_size(self) -> int:
        """How many numbers the code of an image has, d."""
        return int(self.kernels[0].shape[0])

    def logits(self, codes: ArrayLike) -> NDArray[np.float64]:
        """Return logits in float64: what the layers must agree with.

        Parameters
        ----------
        codes : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n, k)
        """
        x = np.asarray(codes, dtype=np.float64)
        if self.normalise == "sqrt-l2":
            x = np.sign(x) * np.sqrt(np.abs(x))
        if self.normalise != "none":
            x = _unit(x)
        if self.mean is not None:
            x = _unit(x - self.mean)
        last = len(self.kernels) - 1
        for k, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            x = x @ kernel.astype(np.float64) + bias
            if k < last:
                x = np.maximum(x, 0)
        return x


def random_head(
    classes: Sequence[str],
    code_size: int,
    hidden: Sequence[int],
    seed: int,
    normalise: Normalise = "none",
) -> Head:
    """Draw a head: Glorot-uniform kernels [2]_, biases of zero, as Keras begins.

    Parameters
    ----------
    classes : sequence of str
        Names of the logits.
    code_size : int
        How many numbers a code has.
    hidden : sequence of int
        Widths of the layers between codes and logits; none for a linear head.
    seed : int
        The same draws the same, on every backend.
    normalise : {"none", "l2", "sqrt-l2"}, default="none"
        See `Head`.
    """
    rng = np.random.default_rng(seed)
    widths = [code_size, *hidden, len(classes)]
    kernels = []
    for rows, columns in itertools.pairwise(widths):
        limit = np.sqrt(6 / (rows + columns))
        kernels.append(rng.uniform(-limit, limit, (rows, columns)).astype(np.float32))
    biases = [np.zeros(width, np.float32) for width in widths[1:]]
    return Head(tuple(classes), normalise, None, tuple(kernels), tuple(biases))


def head_layers(head: Head, dropout: float = 0.0) -> list[Any]:
    """Return Keras layers that compute a head, its arrays their weights.

    They compute in float32 whatever the backbone before them does: logits of
    bfloat16 have three digits, too few for a loss.

    Parameters
    ----------
    head : Head
        Its mean stays as it is in training, kernels and biases can be trained.
    dropout : float, default=0.0
        Share of numbers that training sets to zero: of codes before the only
        kernel, or of every later kernel's input.

    Returns
    -------
    list of keras.Layer
        To be called one after another on activations, (n, h, w, c) or (n, d).
        By name: head_flatten; head_root, head_unit, head_centre, as normalise
        asks for; head_dense1, head_dense2 ... and head_logits, each with
        head_dropout1, head_dropout2 ... before it where it has one.
    """
    from keras import layers

    made = [layers.Flatten(data_format="channels_last", dtype="float32", name="head_flatten")]
    ours = custom_layers()
    if head.normalise == "sqrt-l2":
        made.append(ours["SignedRoot"](dtype="float32", name="head_root"))
    if head.normalise != "none":
        made.append(ours["UnitRows"](dtype="float32", name="head_unit"))
    if head.mean is not None:
        made.append(_with_weights(ours["CentredRows"], [head.mean], name="head_centre"))
    last = len(head.kernels) - 1
    for k, arrays in enumerate(zip(head.kernels, head.biases, strict=True)):
        if dropout > 0 and (k > 0 or last == 0):
            name = f"head_dropout{max(k, 1)}"
            # A seed of its own, so that two runs are alike even where nobody calls `reseed`.
            made.append(layers.Dropout(dropout, seed=k, dtype="float32", name=name))
        name, activation = ("head_logits", None) if k == last else (f"head_dense{k + 1}", "relu")
        dense = functools.partial(layers.Dense, arrays[1].size, activation)
        made.append(_with_weights(dense, arrays, name=name))
    return made


def read_head(head: Head, layers: Iterable[Any]) -> Head:
    """Return a head with the arrays that its layers have now.

    Parameters
    ----------
    head : Head
        That `head_layers` was given.
    layers : iterable of keras.Layer
        What it returned; others between them, as of a whole model, are passed over.
    """
    found = {layer.name: layer.get_weights() for layer in layers if layer.name.startswith("head_")}
    names = [f"head_dense{k}" for k in range(1, len(head.kernels))]
    kernels, biases = zip(*(found[name] for name in [*names, "head_logits"]), strict=True)
    mean = None if head.mean is None else found["head_centre"][0]
    return dataclasses.replace(head, mean=mean, kernels=kernels, biases=biases)


@functools.cache
def custom_layers() -> dict[str, Any]:
    """Return the head's own Keras layers by name, and register them with Keras.

    Call it once before `keras.models.load_model` of a model that has a head.

    Returns
    -------
    dict of str to type
        SignedRoot, UnitRows and CentredRows; Keras knows them as "featx>...".
    """
    import keras
    from keras import ops

    def unit(x: Any) -> Any:
        squares = ops.sum(ops.square(x), axis=-1, keepdims=True)
        some = squares > 0
        # The inner `where` keeps the root away from zero: its infinite slope times the outer
        # one's 0 would be nan. A row of zeros is left, and its gradient is zero.
        scale = ops.where(some, ops.rsqrt(ops.where(some, squares, 1.0)), 0.0)
        return x * scale

    register = keras.saving.register_keras_serializable("featx")

    @register
    class SignedRoot(keras.layers.Layer):  # type: ignore[misc]
        """Takes the square root of each number and keeps its sign.

        The slope at zero, where ReLU puts most numbers, is taken as zero.
        """

        def call(self, x: Any) -> Any:
            size = ops.abs(x)
            return ops.sign(x) * ops.sqrt(ops.where(size > 0, size, 1.0))

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    @register
    class UnitRows(keras.layers.Layer):  # type: ignore[misc]
        """Makes rows unit length; rows of zeros stay zeros."""

        def call(self, x: Any) -> Any:
            return unit(x)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    @register
    class CentredRows(keras.layers.Layer):  # type: ignore[misc]
        """Subtracts a mean, which training leaves alone, and makes rows unit length."""

        def build(self, input_shape: Any) -> None:
            self.mean = self.add_weight(
                shape=(input_shape[-1],), initializer="zeros", trainable=False, name="mean"
            )

        def call(self, x: Any) -> Any:
            return unit(x - self.mean)

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    return {layer.__name__: layer for layer in (SignedRoot, UnitRows, CentredRows)}


def _with_weights(make: Any, arrays: Sequence[Array], *, name: str) -> Any:
    """Return a layer with weights, built for codes as wide as the first array is high."""
    layer = make(dtype="float32", name=name)
    layer.build((None, arrays[0].shape[0]))
    layer.set_weights(list(arrays))
    return layer


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)

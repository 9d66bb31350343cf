"""The settings of a training, checked before any work.

Values come in as a user types them; a frozen value goes out that the training, its
checkpoint and the report share. This file does not import Keras.
"""

from dataclasses import dataclass
from typing import Literal

from featx.choices import Augmentation, ClassWeight, Optimizer, Schedule, check_choices
from featx.errors import OptionError
from featx.layers import LAYERS, find_layer

__all__ = ["TrainingSettings", "hidden_sizes"]

# Learning rates that improve pretrained weights without destroying them.
_RATES = {"sgd": 1e-3, "adamw": 1e-4}
_BATCH_SIZE = 32
_BLOCK_DECAY = 0.5


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network is trained.

    Parameters
    ----------
    freeze_until : str, optional
        The last layer whose weights stay fixed; "none" trains all layers. By default all
        blocks but the last one are frozen, and nothing if the weights are random.
    augment : {"none", "flip", "lecture", "strong"}, default="flip"
        Random changes to the training images; see `featx.finetuning.augmentation`.
    dropout : float, default=0.0
        Fraction of the head's inputs that is dropped at random, in [0, 1).
    optimizer : {"adamw", "sgd"}, default="adamw"
        SGD has momentum 0.9.
    lr : float, optional
        Learning rate of the head; by default 1e-3 for sgd and 1e-4 for adamw.
    block_decay : float, optional
        Factor by which the learning rate falls from the head to the last block, and from
        each block to the one before it, in (0, 1]; by default 0.5, and 1 if the weights
        are random.
    weight_decay : float, default=1e-4
        Decoupled weight decay of the kernels [1]_; biases have none.
    schedule : {"constant", "cosine", "plateau", "step"}, default="cosine"
        Schedule of the learning rate: constant; to 0 along a cosine; halved after each two
        epochs without improvement; a tenth after half of the epochs, and again after three
        quarters.
    epochs : int, default=20
        Maximum number of epochs.
    patience : int, default=5
        Epochs without improvement on the early-stopping set after which training ends.
    batch_size : int or "auto", default="auto"
        Images per step; "auto" is 32. If they do not fit into memory together, their
        gradients are accumulated, which does not change the result.
    gradual : bool, default=False
        Unfreeze the blocks one by one, an epoch apart, beginning with the last.
    class_weight : {"balanced"}, optional
        Weigh the classes inversely to their frequencies.
    seed : int, default=0
        Random seed.

    Raises
    ------
    OptionError
        A setting has a value that is not allowed.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization",
       2019. https://arxiv.org/abs/1711.05101

    Examples
    --------
    >>> TrainingSettings(optimizer="sgd").rate
    0.001
    """

    freeze_until: str | None = None
    augment: Augmentation = "flip"
    dropout: float = 0.0
    optimizer: Optimizer = "adamw"
    lr: float | None = None
    block_decay: float | None = None
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    epochs: int = 20
    patience: int = 5
    batch_size: int | Literal["auto"] = "auto"
    gradual: bool = False
    class_weight: ClassWeight | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        if self.freeze_until not in {None, "none"}:
            find_layer(str(self.freeze_until))
        _check("--dropout", self.dropout, "at least 0 and less than 1", 0 <= self.dropout < 1)
        _check("--lr", self.lr, "greater than 0", self.lr is None or self.lr > 0)
        _check("--block-decay", self.decay, "greater than 0 and at most 1", 0 < self.decay <= 1)
        _check("--weight-decay", self.weight_decay, "0 or more", self.weight_decay >= 0)
        _check("--epochs", self.epochs, "1 or more", self.epochs >= 1)
        _check("--patience", self.patience, "1 or more", self.patience >= 1)
        _check("--batch-size", self.batch_size, "1 or more", self.images_per_step >= 1)
        _check("--seed", self.seed, "from 0 to 4294967295", 0 <= self.seed < 2**32)

    @property
    def rate(self) -> float:
        """Learning rate of the head."""
        return _RATES[self.optimizer] if self.lr is None else self.lr

    @property
    def images_per_step(self) -> int:
        """Images per step of the optimizer."""
        return _BATCH_SIZE if self.batch_size == "auto" else self.batch_size

    @property
    def decay(self) -> float:
        """Factor by which the learning rate falls from block to block."""
        return _BLOCK_DECAY if self.block_decay is None else self.block_decay

    def last_frozen(self, cut: str) -> str:
        """Return the last frozen layer, or "none".

        Parameters
        ----------
        cut : str
            The last layer of the network, after which the head begins.
        """
        if self.freeze_until is not None:
            return self.freeze_until
        n_blocks = int(cut[5]) - 1 if cut.startswith("block") else 5
        return f"block{n_blocks}_pool" if n_blocks else "none"

    def frozen(self, cut: str) -> tuple[str, ...]:
        """Return the names of the frozen layers, in order; none if all layers are trained.

        Parameters
        ----------
        cut : str
            The last layer of the network, after which the head begins.

        Raises
        ------
        OptionError
            `freeze_until` comes after it.
        """
        last = self.last_frozen(cut)
        if last == "none":
            return ()
        names = [layer.name for layer in LAYERS]
        n_frozen = names.index(last) + 1
        if n_frozen > names.index(cut) + 1:
            message = (
                f"--freeze-until {last} comes after --layer {cut}, the last layer of the network. "
                f"Use --freeze-until {cut} to train the head only, an earlier layer, or none."
            )
            raise OptionError(message)
        return tuple(names[:n_frozen])

    def scale(self, layer: str, cut: str, epoch: int = 1) -> float:
        """Return the learning rate of a layer relative to the head's.

        Parameters
        ----------
        layer : str
            A layer of VGG19; any other name is a layer of the head, whose scale is 1.
        cut : str
            The last layer of the network, after which the head begins.
        epoch : int, default=1
            Number of the epoch, from 1; it matters if blocks are unfrozen one by one.

        Returns
        -------
        float
            From 0, if the layer is not trained, to 1.

        Examples
        --------
        >>> settings = TrainingSettings(freeze_until="none")
        >>> [settings.scale(f"block{k}_conv1", "block5_pool") for k in (5, 3)]
        [0.5, 0.125]
        """
        blocks = list(dict.fromkeys(_block(each.name) for each in LAYERS))
        if _block(layer) not in blocks:
            return 1.0
        depth = blocks.index(_block(cut)) - blocks.index(_block(layer))
        if self.gradual and epoch < depth + 2:  # the first epoch trains the head only
            return 0.0
        return float(self.decay ** (depth + 1))


def hidden_sizes(head: str) -> tuple[int, ...]:
    """Return the widths of the hidden layers that `--head` names; none for a linear head.

    Raises
    ------
    OptionError
        `head` is neither "linear" nor "mlp:WIDTH,WIDTH…".

    Examples
    --------
    >>> hidden_sizes("linear"), hidden_sizes("mlp:1024,1024")
    ((), (1024, 1024))
    """
    if head == "linear":
        return ()
    name, _, widths = head.partition(":")
    parts = widths.split(",")
    if name != "mlp" or not all(part.isdecimal() and int(part) > 0 for part in parts):
        message = (
            f"Unknown value {head!r} for --head. Use --head linear, or the widths of hidden "
            "layers, such as --head mlp:1024,1024."
        )
        raise OptionError(message)
    return tuple(int(part) for part in parts)


def _block(layer: str) -> str:
    """Return the part of a layer name that layers with the same learning rate share."""
    return layer.partition("_")[0]


def _check(flag: str, value: object, expected: str, allowed: bool) -> None:
    if not allowed:
        message = f"{flag} must be {expected}, but it is {value}."
        raise OptionError(message)

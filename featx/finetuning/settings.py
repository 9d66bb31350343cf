"""What a fine-tuning is asked to do, checked before any work.

Words and numbers come in; one frozen value goes out that the training, the
checkpoint and the report share. This file knows no Keras.
"""

from dataclasses import dataclass

from featx.choices import Augmentation, ClassWeight, Optimizer, Schedule, check_choices
from featx.errors import OptionError
from featx.layers import LAYERS, find_layer

__all__ = ["Tuning", "hidden_sizes"]

# What each optimizer needs on a network that is good already.
_RATES = {"sgd": 1e-3, "adamw": 1e-4}


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How a network is trained.

    Parameters
    ----------
    freeze_until : str, default="block4_pool"
        The last layer that keeps its weights; "none" trains all.
    augment : {"none", "flip", "lecture", "strong"}, default="flip"
        See `featx.finetuning.augmentation`.
    dropout : float, default=0.0
        Share of the head's inputs that are left out at random, 0 to below 1.
    optimizer : {"sgd", "adamw"}, default="adamw"
        SGD has momentum 0.9.
    lr : float, optional
        Learning rate of the head, 1e-3 for sgd and 1e-4 for adamw by default.
    block_decay : float, default=0.5
        What the rate is multiplied by from one block to the one before it: the
        last block has this much of the head's.
    weight_decay : float, default=1e-4
        Of kernels, not of biases; decoupled from the gradient [1]_.
    schedule : {"constant", "cosine", "plateau", "step"}, default="cosine"
        Of the rate: as it is; down to 0 along a cosine; halved after two epochs
        without gain; a tenth after half and after three quarters of the epochs.
    epochs : int, default=20
        The most there are.
    patience : int, default=5
        Epochs without gain on the part that stops, after which training ends.
    batch_size : int, default=32
        Images a step.
    gradual : bool, default=False
        Whether blocks thaw one by one, the last first, an epoch apart.
    class_weight : {"balanced"}, optional
        Whether small classes count as much as large ones.
    seed : int, default=0
        Of all that is drawn.

    Raises
    ------
    OptionError
        A value that cannot be.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization",
       2019. https://arxiv.org/abs/1711.05101

    Examples
    --------
    >>> Tuning(optimizer="sgd").rate
    0.001
    """

    freeze_until: str = "block4_pool"
    augment: Augmentation = "flip"
    dropout: float = 0.0
    optimizer: Optimizer = "adamw"
    lr: float | None = None
    block_decay: float = 0.5
    weight_decay: float = 1e-4
    schedule: Schedule = "cosine"
    epochs: int = 20
    patience: int = 5
    batch_size: int = 32
    gradual: bool = False
    class_weight: ClassWeight | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        if self.freeze_until != "none":
            find_layer(self.freeze_until)
        _check("--dropout", self.dropout, "from 0 to below 1", 0 <= self.dropout < 1)
        _check("--lr", self.lr, "above 0", self.lr is None or self.lr > 0)
        _check("--block-decay", self.block_decay, "above 0, to 1", 0 < self.block_decay <= 1)
        _check("--weight-decay", self.weight_decay, "from 0", self.weight_decay >= 0)
        _check("--epochs", self.epochs, "from 1", self.epochs >= 1)
        _check("--patience", self.patience, "from 1", self.patience >= 1)
        _check("--batch-size", self.batch_size, "from 1", self.batch_size >= 1)
        _check("--seed", self.seed, "from 0 to 4294967295", 0 <= self.seed < 2**32)

    @property
    def rate(self) -> float:
        """Learning rate of the head."""
        return _RATES[self.optimizer] if self.lr is None else self.lr

    def frozen(self, cut: str) -> tuple[str, ...]:
        """Return the layers up to `freeze_until`, in order.

        Parameters
        ----------
        cut : str
            The layer that the network is cut after.

        Returns
        -------
        tuple of str
            Their names; none where all layers learn.

        Raises
        ------
        OptionError
            It lies before `freeze_until`.
        """
        if self.freeze_until == "none":
            return ()
        names = [layer.name for layer in LAYERS]
        last = names.index(self.freeze_until)
        if last > names.index(cut):
            message = (
                f"--freeze-until {self.freeze_until} lies behind --layer {cut}, where the network "
                f"is cut. Expected {cut} (the head alone learns), a layer before it, or none."
            )
            raise OptionError(message)
        return tuple(names[: last + 1])

    def scale(self, layer: str, cut: str, epoch: int = 1) -> float:
        """Return what the rate of a layer is multiplied by.

        Parameters
        ----------
        layer : str
            Of VGG19; every other name is of the head, whose scale is 1.
        cut : str
            The layer that the network is cut after.
        epoch : int, default=1
            From 1; it matters where blocks thaw one by one.

        Returns
        -------
        float
            From 0, where it does not learn, to 1.

        Examples
        --------
        >>> tuning = Tuning(freeze_until="none")
        >>> tuning.scale("block5_conv1", "block5_pool"), tuning.scale("block3_conv1", "block5_pool")
        (0.5, 0.125)
        """
        blocks = list(dict.fromkeys(_block(each.name) for each in LAYERS))
        if _block(layer) not in blocks:
            return 1.0
        depth = blocks.index(_block(cut)) - blocks.index(_block(layer))
        if self.gradual and epoch < depth + 2:  # the head alone in the first epoch
            return 0.0
        return float(self.block_decay ** (depth + 1))


def hidden_sizes(head: str) -> tuple[int, ...]:
    """Read `--head`: the widths of its hidden layers, none for a linear one.

    Raises
    ------
    OptionError
        It is neither "linear" nor "mlp:WIDTH,WIDTH…".

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
        message = f"No such head: {head}. Expected --head linear, or as in --head mlp:1024,1024."
        raise OptionError(message)
    return tuple(int(part) for part in parts)


def _block(layer: str) -> str:
    """Return the part of a name that layers with one learning rate share."""
    return layer.partition("_")[0]


def _check(flag: str, value: object, expected: str, allowed: bool) -> None:
    if not allowed:
        message = f"Cannot train with {flag} {value}. Expected {flag} {expected}."
        raise OptionError(message)

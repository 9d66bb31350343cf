"""The values that settings may have: one Literal for each setting with a fixed choice.

The command line, shell completion, type checkers, checks at run time and the documentation
all use these. This file imports nothing heavy, so that `featx --help` answers at once.
"""

import dataclasses
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from featx.errors import OptionError
from featx.text import did_you_mean

# Codes. "grid:N" has a number in it, so no Literal can list it: `featx.Recipe` checks a pool.
Pool = Literal["none", "avg", "max", "avg+max", "bilinear"] | str
Resize = Literal["squash", "crop", "pad"]
Jpeg = Literal["reduced", "full"]
Grey = Literal["tags", "pillow"]
Preprocess = Literal["caffe", "unit"]
Precision = Literal["float32", "tf32", "bfloat16"]
Dtype = Literal["float32", "float16"]
ScalesJoin = Literal["mean", "stack"]
PresetName = Literal["fast", "best", "texture", "vgg-paper"]
Split = Literal["train", "val", "test"]

# Fitting.
Classifier = Literal[
    "logistic",
    "ridge",
    "linear-svm",
    "svm-rbf",
    "knn",
    "centroid",
    "lda",
    "sgd",
    "logistic-l1",
    "hist-gradient-boosting",
    "auto",
]
Normalise = Literal["l2", "centre", "sqrt-l2", "none", "auto"]
Solver = Literal["auto", "primal", "gram", "streamed"]
Calibration = Literal["temperature", "sigmoid", "isotonic", "none"]
ClassWeight = Literal["balanced"]
Duplicates = Literal["together", "keep"]
Refit = Literal["all"]
Select = Literal["val"]

# Fine-tuning.
Augmentation = Literal["none", "flip", "lecture", "strong"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["constant", "cosine", "plateau", "step"]
HeadInit = Literal["probe", "random"]
ProbeClassifier = Literal["logistic", "ridge", "linear-svm"]

# Settings whose flag has another name.
_FLAGS = {"layers": "layer", "scales": "scale", "settings": "set"}


def flag_of(setting: str) -> str:
    """Return the command-line flag of a setting.

    Examples
    --------
    >>> flag_of("scales_join")
    '--scales-join'
    """
    return "--" + _FLAGS.get(setting, setting).replace("_", "-")


def choices_of(literal: Any) -> tuple[str, ...]:
    """Return the values that a Literal, or a Literal or None, allows.

    Examples
    --------
    >>> choices_of(Resize), choices_of(Refit | None)
    (('squash', 'crop', 'pad'), ('all',))
    """
    if get_origin(literal) is Literal:
        return tuple(str(value) for value in get_args(literal))
    members = [each for each in get_args(literal) if each is not type(None)]
    return choices_of(members[0]) if get_origin(literal) is Union and len(members) == 1 else ()


def check_choice(setting: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse a value that a setting does not allow.

    Raises
    ------
    OptionError
        `value` is not one of the `allowed` ones; the message lists them.
    """
    if value not in allowed:
        flag, choices = flag_of(setting), ", ".join(allowed)
        guess = did_you_mean(str(value), allowed)
        message = f"Unknown value {value!r} for {flag}.{guess} Use {flag} with one of: {choices}."
        raise OptionError(message)


def check_choices(settings: Any) -> None:
    """Check every field of a dataclass whose type is a Literal, or a Literal or None.

    Parameters
    ----------
    settings : dataclass instance
        The settings.

    Raises
    ------
    OptionError
        A field has a value that its type does not allow.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        allowed = choices_of(hints[field.name])
        value = getattr(settings, field.name)
        if allowed and not (value is None and type(None) in get_args(hints[field.name])):
            check_choice(field.name, value, allowed)

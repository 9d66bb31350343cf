"""Completion in bash, zsh and fish: the words that may stand behind an option.

A verb comes in; its options learn the words that their help shows, so that what
a Tab offers and what --help says are written once. This file asks no room for its
tables: a Tab must be answered before the finger is up.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

from typer.models import ParameterInfo

from featx.layers import FC_SIZE, LAYERS, activation_shape

__all__ = ["CLASSIFIERS", "with_completion", "words_of"]

#: What --clf takes, without scikit-learn, which the table of them imports.
CLASSIFIERS = (
    *("logistic", "ridge", "linear-svm", "svm-rbf", "knn", "centroid", "lda", "sgd"),
    *("logistic-l1", "hist-gradient-boosting", "auto"),
)

# A placeholder that stands for names, or of which one value serves most.
_PLACEHOLDERS = {
    "LAYER": [
        (x.name, f"{'x'.join(map(str, activation_shape(x.name, FC_SIZE)))} at size {FC_SIZE[0]}")
        for x in LAYERS
    ],
    "CLASSIFIER": [(name, "") for name in CLASSIFIERS],
    "grid:N": [("grid:2", "means of 2x2 cells")],
    "gpu:N": [("gpu:0", "the first GPU")],
    "random:SEED": [("random:0", "for baselines")],
    "mlp:N,N": [("mlp:1024,1024", "two hidden layers")],
    "local:N": [("local:2", "two processes on this machine")],
}


def with_completion(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let each option of a verb complete to the words of its metavar; return the verb."""
    for parameter in inspect.signature(command).parameters.values():
        for fact in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(fact, ParameterInfo) and (words := words_of(fact.metavar or "")):
                fact.autocompletion = _always(words)
    return command


def words_of(metavar: str) -> list[tuple[str, str]]:
    """Return the words that a metavar stands for, each with its help or an empty text.

    Examples
    --------
    >>> words_of("auto|cpu|gpu|gpu:N")
    [('auto', ''), ('cpu', ''), ('gpu', ''), ('gpu:0', 'the first GPU')]
    >>> words_of("FILE")  # the shell knows files
    []
    """
    words: list[tuple[str, str]] = []
    for part in metavar.split("|"):
        if part in _PLACEHOLDERS:
            words += _PLACEHOLDERS[part]
        elif part and not re.search("[A-Z]", part):
            words.append((part, ""))
    return words


def _always(words: list[tuple[str, str]]) -> Callable[[], list[tuple[str, str]]]:
    return lambda: words

"""Shell completion: the words that may follow an option.

The metavar of an option or its fixed choice comes in; the words that a Tab offers go out.
Nothing heavy is imported, since a Tab must be answered at once.
"""

import re
from collections.abc import Callable, Sequence

from featx.layers import FC_SIZE, LAYERS, activation_shape

__all__ = ["completion_of", "words_of"]

Words = list[tuple[str, str]]

# Examples of what a placeholder in a metavar means.
_PLACEHOLDERS: dict[str, Words] = {
    "LAYER": [
        (x.name, f"{'x'.join(map(str, activation_shape(x.name, FC_SIZE)))} at size {FC_SIZE[0]}")
        for x in LAYERS
    ],
    "grid:N": [("grid:2", "means of 2x2 cells")],
    "gpu:N": [("gpu:0", "the first GPU")],
    "random:SEED": [("random:0", "for baselines")],
    "mlp:N,N": [("mlp:1024,1024", "two hidden layers")],
    "local:N": [("local:2", "two processes on this machine")],
}


def completion_of(metavar: str, choices: Sequence[str] = ()) -> Callable[[], Words] | None:
    """Return a function that returns what a Tab offers, or None if the shell completes files."""
    words = [(choice, "") for choice in choices] or words_of(metavar)
    return (lambda: words) if words else None


def words_of(metavar: str) -> Words:
    """Return the words that a metavar lists, each with its help or an empty text.

    Examples
    --------
    >>> words_of("auto|cpu|gpu|gpu:N")
    [('auto', ''), ('cpu', ''), ('gpu', ''), ('gpu:0', 'the first GPU')]
    >>> words_of("FILE")  # the shell completes files
    []
    """
    words: Words = []
    for part in metavar.split("|"):
        if part in _PLACEHOLDERS:
            words += _PLACEHOLDERS[part]
        elif part and not re.search("[A-Z]", part):
            words.append((part, ""))
    return words

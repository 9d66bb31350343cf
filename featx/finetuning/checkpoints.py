"""Checkpoints: the state of a training between two epochs, in one file.

Arrays and facts come in and go out again. The file is written completely or not at all.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import StoreError
from featx.finetuning.history import from_version_1
from featx.hdf5 import open_hdf5, read_errors
from featx.outputs import whole_file

__all__ = ["load_checkpoint", "save_checkpoint"]

Arrays = Mapping[str, Sequence[NDArray[Any]]]


def save_checkpoint(path: Path, arrays: Arrays, facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, and replace an existing one when the new file is complete.

    Parameters
    ----------
    path : Path
        An HDF5 file.
    arrays : mapping of str to sequence of ndarray
        Arrays by group.
    facts : mapping of str to object
        Anything that JSON can hold.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with whole_file(path) as temporary, open_hdf5(temporary, "w") as file:
        file.attrs["facts"] = json.dumps(facts)
        for name, group in arrays.items():
            for k, array in enumerate(group):
                file[f"{name}/{k:04d}"] = array


def load_checkpoint(path: Path) -> tuple[dict[str, list[NDArray[Any]]], dict[str, Any]]:
    """Read a checkpoint, of this version or of featx 0.1.

    Raises
    ------
    StoreError
        The file cannot be read.
    """

    def damaged(error: Exception) -> StoreError:
        message = f"{path} cannot be read: {error}. Use --overwrite to start over, or another -o."
        return StoreError(message)

    with read_errors(path, StoreError, damaged), open_hdf5(path) as file:
        facts = json.loads(file.attrs["facts"])
        arrays = {name: [np.asarray(group[k]) for k in group] for name, group in file.items()}
        return arrays, from_version_1(facts) if "tuning" in facts else facts

"""Read and write files while system calls fail; with faults.c preloaded.

Each case of the JSON on stdin is [function, path, faults]; the answers on stdout are the class and
the text of the error, or null.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from featx.errors import FeatxError, OptionError
from featx.finetuning.checkpoints import load_checkpoint
from featx.finetuning.tuned import read_tuned
from featx.fitting import load_model
from featx.network.weights.layouts import open_layout
from featx.network.weights.sources import _read_array
from featx.outputs import sole_writer, whole_file
from featx.store import StoreWriter, open_store
from featx.tables import TableUse, open_table


def read_store(path):
    """Read everything that a store has."""
    store = open_store(path)
    store.thumbnails()
    store.further_members()
    for layer in store.recipe.layers:
        store.codes(layer)
        store.read_rows(layer, np.arange(len(store.images)))


def read_weights(path):
    with open_layout(path) as contents:
        for entry in contents.entries:
            for name in entry.datasets:
                _read_array(contents.file, name, entry.name, path)


def write_file(path):
    with whole_file(path) as temporary:
        temporary.write_text("new")


def write_alone(path):
    with sole_writer(path):
        write_file(path)


def write_store(path):
    with StoreWriter(path) as writer:
        writer.mark_pending(np.array([0]))
        writer.finish()


USE = TableUse("--labels", OptionError, OptionError)
FUNCTIONS = {
    "store": read_store,
    "weights": read_weights,
    "checkpoint": load_checkpoint,
    "model": load_model,
    "tuned": read_tuned,
    "table": lambda path: open_table(path, USE).rows(),
    "file": write_file,
    "alone": write_alone,
    "writer": write_store,
}


def main():
    answers = []
    for name, path, faults in json.load(sys.stdin):
        os.environ.update(faults)
        try:
            FUNCTIONS[name](Path(path))
            answers.append(None)
        except FeatxError as error:
            answers.append([type(error).__name__, str(error)])
        except Exception as error:
            answers.append([f"not featx's: {type(error).__name__}", str(error)])
        for key in faults:
            del os.environ[key]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()

"""benchmarks/gpu.py: errors become rows, its reference is Keras's VGG19, and all of it runs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # also in the processes that gpu.py starts

import gpu  # noqa: E402


def right(load):
    yield gpu.checked("one", "1", "1", True)
    yield gpu.Row("two", "2")


def wrong(load):
    yield gpu.checked("three", "3", "4", False)
    message = "no\nengine"
    raise RuntimeError(message)


def killed(load):
    yield gpu.Row("four", "4")
    os.kill(os.getpid(), signal.SIGKILL)


def endless(load):
    child = subprocess.Popen(["sleep", "600"])
    yield gpu.Row("five", str(child.pid))
    time.sleep(600)


def test_a_check_that_fails_or_hangs_is_a_row_and_the_others_run():
    sections = {
        "right": gpu.Section(right, 60),
        "wrong": gpu.Section(wrong, 60),
        "killed": gpu.Section(killed, 60),
        "endless": gpu.Section(endless, 1),
        "last": gpu.Section(right, 60, alone=True),
    }
    found = list(gpu.run_all(sections, gpu.TINY, minutes=5))
    names = [(name, row.verdict) for name, row in found]
    assert names == [
        ("right", "pass"),
        ("right", "measured"),
        ("wrong", "FAIL"),
        ("wrong", "FAIL"),
        ("killed", "measured"),
        ("killed", "FAIL"),
        ("endless", "measured"),
        ("endless", "FAIL"),
        ("last", "pass"),
        ("last", "measured"),
    ]
    assert found[3][1].found == "RuntimeError: no engine"
    assert "-9" in found[5][1].found
    assert "took more" in found[7][1].found
    # The process that the endless check has started is ended too, if slowly.
    child = int(found[6][1].found)
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().split()[2]
        except FileNotFoundError:
            break
        if state == "Z":
            break
        time.sleep(0.1)
    else:
        pytest.fail("the child of the check still runs")
    table = gpu.table(found, "title")
    assert table.count("\n| ") == 1 + len(found)
    assert table.endswith("title: 2 pass, 4 FAIL, 4 measured")


def test_no_check_runs_after_the_time():
    sections = {"right": gpu.Section(right, 60), "last": gpu.Section(right, 60)}
    found = list(gpu.run_all(sections, gpu.TINY, minutes=0))
    assert [(name, row.verdict) for name, row in found] == [("right", "FAIL"), ("last", "FAIL")]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_reference_is_vgg19_of_keras():
    import keras
    from keras.applications.vgg19 import VGG19, preprocess_input

    from featx.network import find_weights, read_weights

    size, layer = (32, 32), "block3_pool"
    whole = VGG19(weights=None, include_top=False, input_shape=(*size, 3))
    for name, arrays in read_weights(find_weights("bundled", [layer]), [layer]).items():
        whole.get_layer(name).set_weights(list(arrays))
    model = keras.Model(whole.input, whole.get_layer(layer).output)
    images = gpu.sample_images(gpu.TINY.n_reference, size).astype("f4")
    expected = model.predict(preprocess_input(images), verbose=0)
    found = gpu.reference(layer, size, gpu.TINY)
    assert found.dtype == np.float64
    assert gpu.relative_errors(expected, found).max() < 1e-6


@pytest.mark.slow
def test_the_command_runs_on_a_cpu(tmp_path):
    """Some of its sections; `--tiny` alone runs all of them, in minutes."""
    names = ["device", "copies", "run_flat"]
    command = [sys.executable, BENCHMARKS / "gpu.py", "--backend", "jax", "--tiny"]
    command += ["--sections", ",".join(names), "--output", tmp_path / "table.md"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = [line.split(" | ") for line in ended.stdout.splitlines() if line.startswith("| ")][2:]
    assert list(dict.fromkeys(row[0].removeprefix("| ") for row in rows)) == names
    assert {row[-1].removesuffix(" |") for row in rows} <= {"pass", "measured", "skipped"}
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == ended.stdout

"""featx --version: the version at once, then the facts that a bug report needs."""

import hashlib
import platform
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import featx
from featx.cli import version as verb
from featx.network import Device, devices
from featx.network.weights import download
from featx.network.weights.download import cached_imagenet
from featx.network.weights.sources import BUNDLED_SHA256


def test_the_lines(run, monkeypatch, tmp_path):
    """Version, libraries, weights and devices are those that the libraries report."""
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    code, out, err = run("--version")
    assert (code, err) == (0, "")
    import keras

    first, versions, weights, devices = out.splitlines()
    assert first == f"featx {featx.__version__}"
    assert versions.startswith(f"python {platform.python_version()}, keras {keras.__version__}, ")
    for name in (keras.backend.backend(), "h5py", "scikit-learn"):
        assert f" {name} {version(name)}" in versions
    assert BUNDLED_SHA256[:12] in weights
    assert str(tmp_path) not in weights  # the Keras weights are not in an empty cache
    assert re.fullmatch(rf"devices: CPU, \d+ threads?.* \({keras.backend.backend()}\)", devices)


def test_all_but_the_devices_come_before_the_backend(run, monkeypatch, capsys):
    """Three lines are printed before the backend starts; if it fails, the reason is the fourth."""
    printed = []

    def start(device):
        printed.append(capsys.readouterr().out)
        raise featx.errors.OptionError("KERAS_BACKEND is 'theano'")

    monkeypatch.setattr(verb, "start_backend", start)
    code, out, _ = run("--version")
    assert (code, out.count("\n"), "KERAS_BACKEND is 'theano'" in out) == (0, 1, True)
    assert [line.split()[0] for line in printed[0].splitlines()] == ["featx", "python", "weights:"]


def test_before_the_backend_nothing_heavy_is_imported():
    """The first three lines need no TensorFlow, Keras, pandas or scikit-learn."""
    code = (
        "import itertools, sys\nfrom featx.cli.version import version_lines\n"
        "assert len(list(itertools.islice(version_lines(), 3))) == 3\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_gpu_is_named(monkeypatch):
    """The CPU with its threads comes first, then the GPUs that the backend sees."""
    gpus = [Device("gpu", k, f"GPU:{k} (NVIDIA H100)", bfloat16=True, tf32=True) for k in range(2)]
    cpu = Device("cpu", 0, "CPU", bfloat16=False, tf32=False)
    monkeypatch.setattr(devices, "find_devices", lambda: (cpu, *gpus))
    line = list(verb.version_lines())[-1]
    assert re.search(r"CPU, \d+ threads?; GPU:0 \(NVIDIA H100\); GPU:1 \(NVIDIA H100\) \(", line)


@pytest.mark.parametrize("cache", ["KERAS_HOME", "FEATX_CACHE"])
def test_weights_of_a_cache_are_shown_where_they_are(monkeypatch, tmp_path, cache):
    """The Keras weights are found in both caches if their md5 is right; damaged ones are not."""
    content = b"a release"
    release = download.Release("r.h5", hashlib.md5(content).hexdigest(), "9 bytes")
    monkeypatch.setattr(download, "NOTOP", release)
    for name in ("KERAS_HOME", "FEATX_CACHE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    file = tmp_path / cache / ("models/r.h5" if cache == "KERAS_HOME" else "r.h5")
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert cached_imagenet(top=False) == file
    assert f"imagenet: {file}" in list(verb.version_lines())[2]
    file.write_bytes(b"cut")
    assert cached_imagenet(top=False) is None


def test_the_version_has_one_source():
    """The version is in pyproject.toml only, not in a module."""
    root = Path(featx.__file__).parent
    assert [p for p in root.rglob("*.py") if f'"{featx.__version__}"' in p.read_text("utf-8")] == []

"""Devices: names, supported types, free memory, and backends that fail."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from featx.errors import OptionError
from featx.network import Device, check_device, devices, find_device

GIB = 2**30


def fake_gpus(monkeypatch, *gpus):
    """Let TensorFlow find these GPUs, each (name, capability)."""
    monkeypatch.setattr(devices, "_tensorflow_gpus", lambda: list(gpus))


def run_python(code, **environment):
    """Run Python code in another process; return its standard output and standard error."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("spec", ["auto", "cpu", "gpu", "gpu:0", "gpu:12"])
def test_names_of_devices(spec):
    """These names are accepted, whether or not the device exists."""
    check_device(spec)


@pytest.mark.parametrize(
    ("spec", "guess"),
    [
        *(("", ""), ("GPU", ""), ("cuda:0", ""), ("gpu0", "gpu:0"), ("gpu:-1", "gpu:0")),
        *(("gpu:", "gpu:0"), ("gpu:x", "gpu:0"), ("cpu:0", "gpu:0"), ("gpu:1 ", "gpu:0")),
    ],
)
def test_other_names_are_refused(spec, guess):
    """Other names are refused with the nearest name and the flag."""
    for refuse in (check_device, find_device):
        with pytest.raises(OptionError, match=f"{re.escape(repr(spec))} for --device") as caught:
            refuse(spec)
        assert f"'{guess}'" in str(caught.value) or not guess


def test_a_name_is_checked_without_tensorflow():
    """A wrong name is refused at once, before anything slow is imported."""
    code = (
        "import sys\nfrom featx.network import check_device\ncheck_device('gpu:1')\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    assert run_python(code)[0] == "set()"


def test_without_a_gpu_auto_is_the_cpu(monkeypatch):
    """Without GPUs, auto is the CPU, which does not support TF32."""
    fake_gpus(monkeypatch)
    assert find_device("auto") == find_device("cpu") == find_device()
    device = find_device()
    assert (device.kind, device.index, device.description) == ("cpu", 0, "CPU")
    assert not device.tf32


def test_a_gpu_that_is_missing_is_refused(monkeypatch):
    """The error lists the devices that the backend finds."""
    fake_gpus(monkeypatch)
    with pytest.raises(OptionError, match=r"device gpu: .* tensorflow .* cpu\. .*--device cpu"):
        find_device("gpu")
    fake_gpus(monkeypatch, ("H100", (9, 0)), ("H100", (9, 0)))
    with pytest.raises(OptionError, match=r"device gpu:2: .* cpu, gpu:0, gpu:1\. .*gpu:1"):
        find_device("gpu:2")


def test_auto_is_the_first_gpu(monkeypatch):
    """The names gpu and auto are gpu:0; other devices have their own names."""
    fake_gpus(monkeypatch, ("NVIDIA H100 80GB HBM3", (9, 0)), ("", (0, 0)))
    assert find_device("auto") == find_device("gpu") == find_device("gpu:0")
    first = find_device("auto")
    assert (first.kind, first.index) == ("gpu", 0)
    assert first.description == "GPU:0 (NVIDIA H100 80GB HBM3)"
    assert find_device("gpu:1").description == "GPU:1"
    assert find_device("cpu").kind == "cpu"


@pytest.mark.parametrize(
    ("capability", "ampere"),
    [((7, 5), False), ((8, 0), True), ((8, 9), True), ((12, 0), True), ((0, 0), False)],
)
def test_gpus_from_ampere_on_compute_tf32_and_bfloat16(monkeypatch, capability, ampere):
    """Turing (7.5) and GPUs of other vendors (0, 0) do not support them."""
    fake_gpus(monkeypatch, ("name", capability))
    device = find_device("gpu")
    assert (device.tf32, device.bfloat16) == (ampere, ampere)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("flags : fpu avx512f avx512_bf16 fsrm", True),
        ("flags : fpu amx_tile amx_bf16", True),
        ("Features : fp asimd bf16", True),
        ("flags : fpu avx2 avx512f avx512_vnni", False),
    ],
)
def test_bfloat16_of_the_cpu(monkeypatch, cpuinfo, expected):
    """AVX-512 BF16, AMX and Arm BF16 are recognised."""
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
    monkeypatch.setattr(Path, "read_text", lambda path: f"processor : 0\n{cpuinfo}\nbugs :\n")
    assert devices._cpu_has_bfloat16() == expected


@pytest.mark.parametrize(("answer", "expected"), [("1\n", True), ("0\n", False), ("", False)])
def test_bfloat16_of_apples_processors(monkeypatch, answer, expected):
    """On macOS, sysctl returns 1 from the M2 on, and nothing on Intel."""
    monkeypatch.setattr(devices.platform, "system", lambda: "Darwin")
    done = subprocess.CompletedProcess([], 0, stdout=answer)
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: done)
    assert devices._cpu_has_bfloat16() == expected


def cgroup(folder, files):
    """Write a cgroup's files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")


def test_memory_that_a_cgroup_leaves(tmp_path):
    """With cgroups 2, parent groups have limits too, and cached files count as free."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/slurm/job7\n")
    base = tmp_path / "sys/fs/cgroup"
    stat = "anon 5\ninactive_file 100\nactive_file 7"
    cgroup(base / "slurm/job7", {"memory.max": 1000, "memory.current": 700, "memory.stat": stat})
    cgroup(base / "slurm", {"memory.max": "max", "memory.current": 900, "memory.stat": stat})
    cgroup(base, {"memory.max": 5000, "memory.current": 950, "memory.stat": stat})
    assert list(devices._free_in_cgroups(tmp_path)) == [400, 4150]


def test_memory_that_a_cgroup_of_version_1_leaves(tmp_path):
    """With cgroups 1 in a container, only the root group is found."""
    (tmp_path / "proc/self").mkdir(parents=True)
    lines = "5:cpu,cpuacct:/docker/0af3\n4:memory:/docker/0af3\n0::/\n"
    (tmp_path / "proc/self/cgroup").write_text(lines)
    files = {
        "memory.limit_in_bytes": 1000,
        "memory.usage_in_bytes": 800,
        "memory.stat": "inactive_file 3\ntotal_inactive_file 50",
    }
    cgroup(tmp_path / "sys/fs/cgroup/memory", files)
    assert list(devices._free_in_cgroups(tmp_path)) == [250]


def test_the_free_memory_is_the_least(monkeypatch):
    """The free memory is the least of the machine and its cgroups, and never negative."""
    device = Device("cpu", 0, "CPU", bfloat16=False, tf32=False)
    monkeypatch.setattr(devices, "_free_in_cgroups", lambda: iter([2**60]))
    assert GIB // 16 < device.free_bytes() < 2**60
    monkeypatch.setattr(devices, "_free_in_cgroups", lambda: iter([2**60, 12345]))
    assert device.free_bytes() == 12345
    monkeypatch.setattr(devices, "_free_in_cgroups", lambda: iter([-5]))
    assert device.free_bytes() == 0


def test_the_free_memory_of_a_gpu_is_unknown_in_tensorflow():
    """TensorFlow does not report the free memory of a GPU."""
    assert Device("gpu", 0, "GPU:0", bfloat16=True, tf32=True).free_bytes() is None


def test_tensorflow_allocates_gpu_memory_as_needed(monkeypatch):
    """Memory growth is set, unless TensorFlow has started already, or the GPU is divided."""
    import tensorflow as tf

    calls = []

    def grow(gpu, wanted):
        calls.append((gpu, wanted))
        if gpu == "second":
            raise RuntimeError("Physical devices cannot be modified after being initialized")
        if gpu == "divided":
            raise ValueError("Cannot set memory growth on device when virtual devices configured")

    facts = {"device_name": "Tesla T4", "compute_capability": (7, 5)}
    # A hidden GPU is among the physical devices only.
    shown = ["first", "second", "divided"]
    parts = {"divided": [object(), object()]}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["hidden", *shown])
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: shown)
    monkeypatch.setattr(tf.config, "get_logical_device_configuration", parts.get)
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: facts if gpu == "first" else {}
    )
    assert devices._tensorflow_gpus() == [("Tesla T4", (7, 5)), *[("", (0, 0))] * 3]
    assert calls == [("first", True), ("second", True), ("divided", True)]


def test_backends_that_cannot_be_used_are_refused():
    """A backend that is unknown or not installed is an OptionError with its name."""
    code = (
        "import sys\nsys.modules['jax'] = None\n"
        "from featx.network import find_device\nfind_device('cpu')"
    )
    for backend, flag in [("foo", "KERAS_BACKEND=tensorflow"), ("jax", "pip install jax")]:
        error = run_python(code, KERAS_BACKEND=backend)[1].splitlines()[-1]
        assert error.startswith("featx.errors.OptionError: ")
        assert f"KERAS_BACKEND is '{backend}'" in error
        assert flag in error


DEVICES = """
import os
from featx.network import devices
from featx.errors import OptionError
device = devices.find_device("auto")
try:
    devices.find_device("gpu:31")
except OptionError as error:
    print(device.kind, device.free_bytes() > 0, os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"], error)
"""


GPUS_OF_JAX = """
import jax
class Gpu:
    device_kind = "NVIDIA A100"
    compute_capability = "8.0"
    def memory_stats(self):
        return {"bytes_limit": 1000, "bytes_in_use": 300}
class Amd(Gpu):
    device_kind = "MI250"
    compute_capability = "gfx90a"
jax.devices = lambda kind: [Gpu(), Amd()]
first, second = devices.find_device("gpu:0"), devices.find_device("gpu:1")
print(first.description, first.tf32, first.free_bytes(), second.description, second.tf32)
"""

GPUS_OF_TORCH = """
import torch
torch.cuda.device_count = lambda: 2
torch.cuda.get_device_name = ["NVIDIA A100", "Tesla T4"].__getitem__
torch.cuda.get_device_capability = [(8, 0), (7, 5)].__getitem__
torch.cuda.memory_reserved = lambda index: 200
torch.cuda.memory_allocated = lambda index: 100
torch.cuda.mem_get_info = lambda index: (600, 1000)
torch.version.cuda = "12.8"
first, second = devices.find_device("gpu:0"), devices.find_device("gpu:1")
print(first.description, first.tf32, first.free_bytes(), second.description, second.tf32)
torch.version.cuda = None  # AMD's
print(devices.find_device("gpu:0").tf32)
"""


@pytest.mark.parametrize(
    ("backend", "code", "expected"),
    [
        ("jax", GPUS_OF_JAX, "GPU:0 (NVIDIA A100) True 700 GPU:1 (MI250) False"),
        ("torch", GPUS_OF_TORCH, "GPU:0 (NVIDIA A100) True 700 GPU:1 (Tesla T4) False\nFalse"),
    ],
)
def test_devices_of_other_backends(backend, code, expected):
    """Real devices of JAX and PyTorch, then GPUs where the functions of the backend are faked."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    real, _, faked = run_python(DEVICES + code, KERAS_BACKEND=backend)[0].partition("\n")
    assert re.fullmatch(rf"(cpu|gpu) True false .* gpu:31: .* {backend} .* cpu.*", real)
    assert faked == expected


PLACES = """
import numpy as np
from test_backbone import random_weights
from featx.errors import OptionError
from featx.network import Device, VGG19Backbone
from featx.recipe import Recipe
recipe = Recipe(weights="t", layers=("block1_pool",), size=(32, 32))
images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
weights = random_weights("block1_pool")
codes = []
for index in (0, N):
    backbone = VGG19Backbone(recipe, weights, Device("cpu", index, "CPU", False, False))
    codes.append(backbone(images)["block1_pool"])
    places = {str(each.device) for layer in backbone._layers.values() for each in VALUES}
print(places, np.array_equal(*codes))
try:
    VGG19Backbone(recipe, weights, Device("gpu", 0, "GPU:0", True, True))(images)
except (OptionError, RuntimeError, AssertionError) as error:
    print(type(error).__name__, "GPU:0" in str(error))
"""
PREPARED = {
    "tensorflow": (
        "import tensorflow as tf\nmade = tf.config.LogicalDeviceConfiguration()\n"
        "(cpu,) = tf.config.list_physical_devices('CPU')\n"
        "tf.config.set_logical_device_configuration(cpu, [made, made])\n"
    ),
    "jax": "import os\nos.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=3'\n",
}


@pytest.mark.parametrize(("backend", "last"), [("tensorflow", "CPU:1"), ("jax", "cpu:1")])
def test_the_network_is_on_the_chosen_device(backend, last):
    """Weights and results are on the second of several CPUs, and never silently elsewhere."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = PREPARED[backend] + PLACES.replace("N)", "1)").replace(
        "VALUES", "[w.value for w in layer.weights]"
    )
    paths = os.pathsep.join([os.fspath(Path(__file__).parent), *sys.path])
    found, error = run_python(code, KERAS_BACKEND=backend, PYTHONPATH=paths)
    first, second = found.splitlines() or ["", error[-2000:]]
    assert last in first
    assert first.endswith("True")
    assert first.count(",") == 0
    assert second.split()[0] in {"OptionError", "RuntimeError"}, second
    assert backend != "tensorflow" or second == "OptionError True"


TF32_OF_TORCH = """
import torch
from featx.network.compiling import arithmetic
b = torch.backends
b.fp32_precision = "tf32"
parts = b.cuda.matmul, b.cudnn.conv, b.mkldnn.conv, b.mkldnn.matmul
for precision in ("float32", "tf32", "bfloat16"):
    with arithmetic(precision):
        print(*(each.fp32_precision for each in parts))
"""


def test_float32_under_pytorch_is_float32_when_a_program_allowed_tf32():
    """The switch of the whole of PyTorch does not reach the products of featx."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed")
    found = run_python(TF32_OF_TORCH, KERAS_BACKEND="torch")[0].splitlines()
    assert found == [" ".join([each] * 4) for each in ("ieee", "tf32", "ieee")]

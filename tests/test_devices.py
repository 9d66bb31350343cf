"""Devices: names, what the hardware can do, the memory that is left, and backends that fail."""

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
    """TensorFlow sees these GPUs, each (name, capability)."""
    found = [devices._Gpu(*gpu) for gpu in gpus]
    monkeypatch.setattr(devices, "_tensorflow_gpus", lambda: found)


def run_python(code, **environment):
    """Standard output and standard error of Python code in another process."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.stdout.strip(), done.stderr


@pytest.mark.parametrize("spec", ["auto", "cpu", "gpu", "gpu:0", "gpu:12"])
def test_names_of_devices(spec):
    """These are names, whether or not such a device exists."""
    check_device(spec)


@pytest.mark.parametrize(
    ("spec", "guess"),
    [
        *(("", ""), ("GPU", ""), ("cuda:0", ""), ("gpu0", "gpu:0"), ("gpu:-1", "gpu:0")),
        *(("gpu:", "gpu:0"), ("gpu:x", "gpu:0"), ("cpu:0", "gpu:0"), ("gpu:1 ", "gpu:0")),
    ],
)
def test_other_names_are_refused(spec, guess):
    """The message names the nearest, the choices and the flag."""
    meant = f" Did you mean '{guess}'?" if guess else ""
    message = f"No such device: {spec}.{meant} Expected --device auto, cpu, gpu or gpu:N, as gpu:0."
    for refuse in (check_device, find_device):
        with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
            refuse(spec)


def test_a_name_is_checked_without_tensorflow():
    """A wrong name is refused at once, before anything slow is imported."""
    code = (
        "import sys\nfrom featx.network import check_device\ncheck_device('gpu:1')\n"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    assert run_python(code)[0] == "set()"


def test_without_a_gpu_auto_is_the_cpu(monkeypatch):
    """auto and cpu are the processor, which never computes TF32."""
    fake_gpus(monkeypatch)
    assert find_device("auto") == find_device("cpu") == find_device()
    device = find_device()
    assert (device.kind, device.index, device.description) == ("cpu", 0, "CPU")
    assert not device.tf32


def test_a_gpu_that_is_missing_is_refused(monkeypatch):
    """The message says what the backend sees and what to type instead."""
    fake_gpus(monkeypatch)
    message = (
        "No device gpu: Keras's backend, tensorflow, sees cpu. Use --device cpu; or install "
        "CUDA's libraries, pip install '.[cuda]'; or, where they see the GPU, "
        "KERAS_BACKEND=jax or KERAS_BACKEND=torch."
    )
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        find_device("gpu")
    fake_gpus(monkeypatch, ("H100", (9, 0)), ("H100", (9, 0)))
    message = (
        "No device gpu:2: Keras's backend, tensorflow, sees cpu, gpu:0, gpu:1. "
        "Use --device gpu:1 or --device cpu."
    )
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        find_device("gpu:2")


def test_auto_is_the_first_gpu(monkeypatch):
    """gpu and auto are gpu:0; another is had by its number, and the CPU by its name."""
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
    """Turing, 7.5, has neither; a GPU of another maker, (0, 0), is not asked for it."""
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
def test_bfloat16_of_the_processor(monkeypatch, cpuinfo, expected):
    """AVX-512 BF16 and AMX of x86, BF16 of Arm; AVX-512 alone has none."""
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")
    monkeypatch.setattr(Path, "read_text", lambda path: f"processor : 0\n{cpuinfo}\nbugs :\n")
    assert devices._cpu_has_bfloat16() == expected


@pytest.mark.parametrize(("answer", "expected"), [("1\n", True), ("0\n", False), ("", False)])
def test_bfloat16_of_apples_processors(monkeypatch, answer, expected):
    """macOS answers 1 from the M2 on, and nothing on Intel."""
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
    """Version 2: limits of the group and those above it; files that were read give way."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/slurm/job7\n")
    base = tmp_path / "sys/fs/cgroup"
    stat = "anon 5\ninactive_file 100\nactive_file 7"
    cgroup(base / "slurm/job7", {"memory.max": 1000, "memory.current": 700, "memory.stat": stat})
    cgroup(base / "slurm", {"memory.max": "max", "memory.current": 900, "memory.stat": stat})
    cgroup(base, {"memory.max": 5000, "memory.current": 950, "memory.stat": stat})
    assert list(devices._free_in_cgroups(tmp_path)) == [400, 4150]


def test_memory_that_a_cgroup_of_version_1_leaves(tmp_path):
    """In a container the group's path is the machine's: only the topmost is found."""
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
    """A cgroup's limit counts where it is below the machine's memory, and never below 0."""
    device = Device("cpu", 0, "CPU", bfloat16=False, tf32=False)
    monkeypatch.setattr(devices, "_free_in_cgroups", lambda: iter([2**60]))
    assert GIB // 16 < device.free_bytes() < 2**60
    monkeypatch.setattr(devices, "_free_in_cgroups", lambda: iter([2**60, 12345]))
    assert device.free_bytes() == 12345
    monkeypatch.setattr(devices, "_free_in_cgroups", lambda: iter([-5]))
    assert device.free_bytes() == 0


def test_tensorflow_does_not_say_how_much_a_gpu_has_left():
    """Its pool grows, so there is no number."""
    assert Device("gpu", 0, "GPU:0", bfloat16=True, tf32=True).free_bytes() is None


def test_a_gpu_of_tensorflow_is_left_to_others(monkeypatch):
    """Memory grows as needed; a TensorFlow that runs already keeps its way."""
    import tensorflow as tf

    told = []

    def grow(gpu, wanted):
        told.append((gpu, wanted))
        if gpu == "second":
            raise RuntimeError("Physical devices cannot be modified after being initialized")

    facts = {"device_name": "Tesla T4", "compute_capability": (7, 5)}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["first", "second"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", grow)
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: facts if gpu == "first" else {}
    )
    assert devices._tensorflow_gpus() == [devices._Gpu("Tesla T4", (7, 5)), devices._Gpu("")]
    assert told == [("first", True), ("second", True)]


def test_an_unknown_backend_is_refused():
    """KERAS_BACKEND=foo is a setting that cannot be, not a traceback."""
    code = "from featx.network import find_device\nfind_device('cpu')"
    error = run_python(code, KERAS_BACKEND="foo")[1].splitlines()[-1]
    assert error == (
        "featx.errors.OptionError: KERAS_BACKEND is 'foo': expected tensorflow, jax or torch. "
        "Use KERAS_BACKEND=tensorflow."
    )


def test_a_backend_that_is_not_installed_is_refused():
    """A known backend that cannot be imported is named, and what to type."""
    code = (
        "import sys\nsys.modules['jax'] = None\n"
        "from featx.network import find_device\nfind_device('cpu')"
    )
    error = run_python(code, KERAS_BACKEND="jax")[1].splitlines()[-1]
    assert error.startswith("featx.errors.OptionError: Keras cannot import its backend: ")
    assert error.endswith(
        "KERAS_BACKEND is 'jax': expected tensorflow, jax or torch, and installed. "
        "Use pip install jax, or another KERAS_BACKEND."
    )


OTHER = """
import os
from featx.network import find_device
from featx.errors import OptionError
device = find_device("auto")
try:
    find_device("gpu:31")
except OptionError as error:
    print(device.kind, device.free_bytes() > 0, os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"], error)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_devices_of_other_backends(backend):
    """Each is asked in its own words; JAX is told not to take the GPU's memory in advance."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    found, _ = run_python(OTHER, KERAS_BACKEND=backend)
    expected = rf"(cpu|gpu) True false No device gpu:31: Keras's backend, {backend}, sees cpu.*"
    assert re.fullmatch(expected, found)


GPUS_OF_JAX = """
from featx.network import devices
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
from featx.network import devices
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
def test_gpus_of_other_backends(backend, code, expected):
    """Names, capabilities and free memory, where the backends' own functions are played."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    assert run_python(code, KERAS_BACKEND=backend)[0] == expected

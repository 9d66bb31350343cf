"""Devices: the CPU and GPUs that the network can run on, and what they support.

The value of --device comes in; an existing device goes out, or an error that lists the
devices. All code that differs between the backends of Keras to find devices is here. This
file does not know what will be computed.
"""

import contextlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featx.errors import OptionError
from featx.text import counted, did_you_mean

__all__ = [
    "BACKENDS",
    "Device",
    "PossibleMemoryError",
    "check_device",
    "count_gpus",
    "find_device",
    "find_devices",
    "memory_errors",
]

BACKENDS = ("tensorflow", "jax", "torch")

#: Name of a GPU, and its compute capability: (0, 0) unless it is an NVIDIA GPU.
_Gpu = tuple[str, tuple[int, int]]

# How the backends report too little memory: by classes, or only in messages.
_MEMORY_ERROR = re.compile(
    "ResourceExhaustedError|OutOfMemoryError|RESOURCE_EXHAUSTED|out of memory|OUT_OF_MEMORY|"
    "ALLOC_FAILED|can't allocate memory|bad_alloc|"
    # TensorFlow, where the copy of a batch to the GPU, or each algorithm of cuDNN, finds none
    "Dst tensor is not initialized|No algorithm worked!"
)

# Errors that too little memory causes, but also a wrong driver or a type without a kernel.
_PERHAPS_MEMORY_ERROR = re.compile(
    "Failed to allocate|DNN library initialization failed|unable to find an engine", re.IGNORECASE
)

# Compute capability of NVIDIA's Ampere generation, the first with TF32 and bfloat16.
_AMPERE = (8, 0)


class PossibleMemoryError(MemoryError):
    """An error of a backend that is due to too little memory if fewer images work.

    Parameters
    ----------
    message : str
        The message of the MemoryError.
    backend_error : Exception
        The error of the backend.
    """

    def __init__(self, message: str, backend_error: Exception) -> None:
        super().__init__(message)
        self.backend_error = backend_error


@dataclass(frozen=True)
class Device:
    """A device that the backend can use. Use `find_device` to get one.

    Parameters
    ----------
    kind : {"cpu", "gpu"}
        The kind of device.
    index : int
        Its index among the devices of its kind, from 0.
    description : str
        Text for the user, such as "CPU" or "GPU:0 (NVIDIA H100 80GB HBM3)".
    bfloat16, tf32 : bool
        Whether the hardware supports products of these types.
    """

    kind: Literal["cpu", "gpu"]
    index: int
    description: str
    bfloat16: bool
    tf32: bool

    def scope(self) -> AbstractContextManager[Any]:
        """Return a context in which Keras creates tensors on this device, in this thread."""
        import keras

        # To PyTorch, "cpu:0" and "cpu" are different devices, so it would copy every tensor.
        name = "cpu" if (self.kind, self.index) == ("cpu", 0) else f"{self.kind}:{self.index}"
        scope: AbstractContextManager[Any] = keras.device(name)
        return scope

    def free_bytes(self) -> int | None:
        """Return the free memory that this process may use, or None if it is unknown."""
        return _free_memory() if self.kind == "cpu" else _free_gpu_memory(self.index)


def check_device(spec: str) -> None:
    """Check the name of a device, but not whether the device exists.

    Raises
    ------
    OptionError
        The name is not "auto", "cpu", "gpu" or "gpu:N".
    """
    if not re.fullmatch(r"auto|cpu|gpu(:\d+)?", spec, re.ASCII):
        guess = did_you_mean(spec, ["auto", "cpu", "gpu", "gpu:0"])
        message = (
            f"Unknown value {spec!r} for --device.{guess} Use --device auto, cpu, gpu or gpu:N, "
            "such as gpu:0."
        )
        raise OptionError(message)


def find_device(spec: str = "auto") -> Device:
    """Return the requested device.

    This imports Keras, and configures its backend to allocate GPU memory only as needed.

    Parameters
    ----------
    spec : str, default="auto"
        "cpu", "gpu" for the first GPU, "gpu:N", or "auto" for the first GPU if the backend
        finds one and the CPU otherwise.

    Returns
    -------
    Device
        The device.

    Raises
    ------
    OptionError
        The device or the backend does not exist.
    """
    check_device(spec)
    cpu, *gpus = find_devices()
    if spec == "cpu" or (spec == "auto" and not gpus):
        return cpu
    index = int(spec.partition(":")[2] or 0)
    if index < len(gpus):
        return gpus[index]
    advice = f"Use --device gpu:{len(gpus) - 1} or --device cpu."
    if not gpus:
        advice = (
            "Use --device cpu, or install the CUDA libraries with pip install '.[cuda]', or "
            "use another backend that finds the GPU: KERAS_BACKEND=jax or KERAS_BACKEND=torch."
        )
    seen = ", ".join(["cpu", *(f"gpu:{k}" for k in range(len(gpus)))])
    message = (
        f"There is no device {spec}: the Keras backend {_start_backend()} finds {seen}. {advice}"
    )
    raise OptionError(message)


def find_devices() -> tuple[Device, ...]:
    """Return all devices that the backend can use, the CPU first. This imports Keras.

    Raises
    ------
    OptionError
        The backend does not exist.
    """
    find = {"tensorflow": _tensorflow_gpus, "jax": _jax_gpus, "torch": _torch_gpus}
    devices = [Device("cpu", 0, "CPU", bfloat16=_cpu_has_bfloat16(), tf32=False)]
    for index, (name, capability) in enumerate(find[_start_backend()]()):
        description = f"GPU:{index} ({name})" if name else f"GPU:{index}"
        ampere = capability >= _AMPERE
        devices.append(Device("gpu", index, description, bfloat16=ampere, tf32=ampere))
    return tuple(devices)


def count_gpus() -> int:
    """Return the number of GPUs that the Keras backend finds; 0 if it cannot be imported.

    A separate process looks for them, so that this process allocates none of their memory.
    """
    asked = "from featx.network.devices import find_devices; print(len(find_devices()) - 1)"
    ended = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=False
    )
    return int(ended.stdout) if ended.returncode == 0 else 0


@contextlib.contextmanager
def memory_errors(n_images: int) -> Iterator[None]:
    """Convert a backend's error for too little memory into a MemoryError.

    Parameters
    ----------
    n_images : int
        Number of images in the network at once.

    Raises
    ------
    MemoryError
        The device has too little memory for them.
    PossibleMemoryError
        The error has this or another cause.
    """
    try:
        yield
    except Exception as error:
        kinds = " ".join(kind.__name__ for kind in type(error).__mro__)
        text = f"{kinds}: {error}"
        need = counted(n_images, "image at a time needs", "images at a time need")
        message = f"{need} more memory than is available"
        if _MEMORY_ERROR.search(text):
            raise MemoryError(message) from error
        if _PERHAPS_MEMORY_ERROR.search(text):
            raise PossibleMemoryError(message, error) from error
        raise


def _start_backend() -> str:
    """Import Keras and return the name of its backend."""
    expected = f"Expected {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}"
    chosen = os.environ.get("KERAS_BACKEND", "")
    if chosen and chosen not in BACKENDS:
        message = f"KERAS_BACKEND is '{chosen}'. {expected}. Use KERAS_BACKEND={BACKENDS[0]}."
        raise OptionError(message)
    # JAX allocates three quarters of a GPU's memory unless this is set before it starts.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import keras
    except ImportError as error:
        message = (
            f"Keras cannot import its backend: {error}. KERAS_BACKEND is '{chosen}'. {expected}, "
            f"installed. Use pip install {chosen or BACKENDS[0]}, or set another KERAS_BACKEND."
        )
        raise OptionError(message) from error
    backend = str(keras.backend.backend())
    if backend not in BACKENDS:
        message = (
            f"The Keras backend in ~/.keras/keras.json is '{backend}'. {expected}. "
            f"Use KERAS_BACKEND={BACKENDS[0]}."
        )
        raise OptionError(message)
    return backend


def _tensorflow_gpus() -> list[_Gpu]:
    import tensorflow as tf

    gpus = []
    for device in tf.config.get_visible_devices("GPU"):  # the program may have hidden others
        # Errors: TensorFlow has started already, or the program has divided the GPU itself.
        with contextlib.suppress(RuntimeError, ValueError):
            tf.config.experimental.set_memory_growth(device, True)
        facts = tf.config.experimental.get_device_details(device)
        capability = facts.get("compute_capability", (0, 0))
        parts = tf.config.get_logical_device_configuration(device) or [None]
        gpus += [(facts.get("device_name", ""), tuple(capability))] * len(parts)
    return gpus


def _jax_gpus() -> list[_Gpu]:
    gpus = []
    for device in _jax_gpu_devices():
        # "9.0" for NVIDIA, "gfx90a" for AMD
        found = re.fullmatch(r"(\d+)\.(\d+)", str(getattr(device, "compute_capability", "")))
        capability = (int(found[1]), int(found[2])) if found else (0, 0)
        gpus.append((str(device.device_kind), capability))
    return gpus


def _jax_gpu_devices() -> list[Any]:
    import jax

    try:
        return list(jax.devices("gpu"))
    except RuntimeError:  # raised if there are no GPUs
        return []


def _torch_gpus() -> list[_Gpu]:
    import torch

    gpus = []
    for index in range(torch.cuda.device_count()):
        # PyTorch for AMD also uses the name "cuda", with other capabilities.
        nvidia = torch.version.cuda is not None
        capability = torch.cuda.get_device_capability(index) if nvidia else (0, 0)
        gpus.append((torch.cuda.get_device_name(index), capability))
    return gpus


def _free_gpu_memory(index: int) -> int | None:
    import keras

    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        kept = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
        return int(torch.cuda.mem_get_info(index)[0] + kept)
    if backend == "jax":
        stats = _jax_gpu_devices()[index].memory_stats() or {}
        if "bytes_limit" in stats:
            return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return None  # TensorFlow does not report it


def _cpu_has_bfloat16() -> bool:
    """Return whether this CPU has bfloat16 products: AVX-512 BF16, AMX, or Arm BF16."""
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
        try:
            found = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return False
        return found.stdout.strip() == "1"
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)


def _free_memory() -> int:
    """Return the free memory of the machine, or of the cgroup of this process if less."""
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_free_in_cgroups()]))


def _free_in_cgroups(root: Path = Path("/")) -> Iterator[int]:
    """Yield the free memory of each cgroup of this process, as set by containers and SLURM."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:  # such as "0::/user.slice" (version 2), "4:memory:/docker/0af3" (1)
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            base, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = "sys/fs/cgroup/memory"
        else:
            continue
        # Each parent group may have a limit too. A container sees its own group as the root.
        path = Path(own.lstrip("/"))
        for group in [path, *path.parents]:
            try:
                yield _free_in_cgroup(root / base / group, *names)
            except (OSError, ValueError):  # the group does not exist, or its limit is "max"
                continue


def _free_in_cgroup(folder: Path, limit: str, used: str, cache: str) -> int:
    free = int((folder / limit).read_text()) - int((folder / used).read_text())
    # Cached files count as used, but are dropped when memory is needed.
    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return free + int(stat.get(cache, 0))

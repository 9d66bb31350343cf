"""Devices: where the network runs, and what the hardware there can compute.

What the user asked for comes in; a device that exists goes out, or an error that
names those that do. Each backend of Keras is asked in its own words, here alone.
This file does not know what will be computed.
"""

import os
import platform
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from featx.errors import OptionError

__all__ = ["BACKENDS", "Device", "check_device", "find_device"]

BACKENDS = ("tensorflow", "jax", "torch")

# NVIDIA's generation, Ampere, from which GPUs multiply TF32 and bfloat16.
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Device:
    """A device that the backend can use; `find_device` finds it.

    Parameters
    ----------
    kind : {"cpu", "gpu"}
        What it is.
    index : int
        Which of its kind.
    description : str
        What is printed: with its name, where it has one, and the backend's.
    bfloat16, tf32 : bool
        Whether its hardware multiplies such numbers.
    """

    kind: Literal["cpu", "gpu"]
    index: int
    description: str
    bfloat16: bool
    tf32: bool

    def scope(self) -> AbstractContextManager[Any]:
        """Return a context in which Keras computes there, in this thread."""
        import keras

        scope: AbstractContextManager[Any] = keras.device(f"{self.kind}:{self.index}")
        return scope

    def free_bytes(self) -> int | None:
        """Return the memory that is free there, or None where the backend does not say."""
        if self.kind == "cpu":
            return _free_memory()
        return _ask("free_bytes", self.index)  # type: ignore[no-any-return]


def check_device(spec: str) -> None:
    """Refuse what is no name of a device; whether it exists is asked later.

    Raises
    ------
    OptionError
        It is none of "auto", "cpu", "gpu" and "gpu:N".
    """
    kind, _, index = spec.partition(":")
    if spec in {"auto", "cpu", "gpu"} or (kind == "gpu" and index.isdecimal()):
        return
    message = f"No such device: {spec}. Expected --device auto, cpu, gpu or gpu:N, as gpu:0."
    raise OptionError(message)


def find_device(spec: str = "auto") -> Device:
    """Return the device that was asked for; the backend of Keras is imported.

    Parameters
    ----------
    spec : str, default="auto"
        "auto" takes the first GPU if there is one, else the CPU.

    Raises
    ------
    OptionError
        There is no such device, or no such backend.
    """
    check_device(spec)
    names = _ask("gpu_names")
    index = int(spec.partition(":")[2] or 0)
    if spec == "cpu" or (spec == "auto" and not names):
        return Device("cpu", 0, f"CPU ({_backend()})", bfloat16=_cpu_has_bfloat16(), tf32=False)
    if index >= len(names):
        found = ", ".join(f"gpu:{k} ({name})" for k, name in enumerate(names)) or "no GPU"
        message = (
            f"No device {spec}: {_backend()} finds {found}. Use --device cpu; or, for NVIDIA's "
            "GPUs, pip install '.[cuda]', or another backend: KERAS_BACKEND=jax or torch."
        )
        raise OptionError(message)
    ampere = _ask("capability", index) >= _AMPERE
    description = f"GPU:{index} ({', '.join(filter(None, (names[index], _backend())))})"
    return Device("gpu", index, description, bfloat16=ampere, tf32=ampere)


def _backend() -> str:
    """Return Keras's backend, which is imported here for the first time."""
    wanted = os.environ.get("KERAS_BACKEND", "")
    if wanted and wanted not in BACKENDS:
        message = f"KERAS_BACKEND is {wanted}. Expected {', '.join(BACKENDS)}."
        raise OptionError(message)
    # JAX takes three quarters of a GPU's memory unless it is told not to, before it starts.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        import keras
    except ImportError as error:
        message = (
            f"Keras's backend cannot be imported: {error}. "
            f"Install it, or set KERAS_BACKEND to one of {', '.join(BACKENDS)}."
        )
        raise OptionError(message) from error
    return str(keras.backend.backend())


def _ask(question: str, *arguments: int) -> Any:
    kinds = {"tensorflow": _TensorFlow, "jax": _Jax, "torch": _Torch}
    return getattr(kinds[_backend()], question)(*arguments)


class _TensorFlow:
    """What TensorFlow says of its GPUs."""

    @staticmethod
    def gpu_names() -> list[str]:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        for gpu in gpus:
            try:
                tf.config.experimental.set_memory_growth(gpu, True)
            except RuntimeError:  # TensorFlow has started: it stays as it was
                break
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return [str(d.get("device_name", "")) for d in details]

    @staticmethod
    def capability(index: int) -> tuple[int, ...]:
        import tensorflow as tf

        gpu = tf.config.list_physical_devices("GPU")[index]
        found = tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0))
        return tuple(found)

    @staticmethod
    def free_bytes(index: int) -> int | None:
        return None  # it grows, and does not say how far it may


class _Jax:
    """What JAX says of its GPUs."""

    @staticmethod
    def _gpus() -> list[Any]:
        import jax

        try:
            return list(jax.devices("gpu"))
        except RuntimeError:  # its word for none
            return []

    @staticmethod
    def gpu_names() -> list[str]:
        return [str(gpu.device_kind) for gpu in _Jax._gpus()]

    @staticmethod
    def capability(index: int) -> tuple[int, ...]:
        found = str(getattr(_Jax._gpus()[index], "compute_capability", "0.0"))
        return tuple(int(part) for part in found.split(".") if part.isdecimal())

    @staticmethod
    def free_bytes(index: int) -> int | None:
        stats = _Jax._gpus()[index].memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))


class _Torch:
    """What PyTorch says of its GPUs."""

    @staticmethod
    def gpu_names() -> list[str]:
        import torch

        return [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]

    @staticmethod
    def capability(index: int) -> tuple[int, ...]:
        import torch

        return tuple(torch.cuda.get_device_capability(index))

    @staticmethod
    def free_bytes(index: int) -> int | None:
        import torch

        return int(torch.cuda.mem_get_info(index)[0])


def _cpu_has_bfloat16() -> bool:
    """Say whether this processor multiplies bfloat16: AVX-512 BF16, AMX, or Arm's extension."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout.strip() == "1"
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)


def _free_memory() -> int:
    """Return the memory that this process may still take, in bytes, inside a container too."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        try:
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):  # no container, or no limit: "max"
            continue
    return max(0, free)

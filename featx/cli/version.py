"""`featx --version`: the facts that a bug report needs.

Nothing comes in; lines go out, each as soon as it is known. The devices come last, because
only the backend knows them and it takes seconds to start.
"""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from featx.cli.console import start_backend
from featx.errors import OptionError, WeightsError
from featx.text import counted

__all__ = ["version_lines"]

# Backends of Keras that are not installed are left out.
_LIBRARIES = ("keras", "tensorflow", "jax", "torch", "h5py", "numpy", "pillow", "scikit-learn")


def version_lines() -> Iterator[str]:
    """Yield the lines to print."""
    yield f"featx {version('featx')}"
    yield _versions()
    yield _weights()
    yield _devices()


def _versions() -> str:
    found = [f"python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # a backend that is not installed
            continue
    return f"{', '.join(found)}; {platform.system()} {platform.machine()}"


def _weights() -> str:
    from featx.network import find_weights
    from featx.network.weights.download import cached_imagenet

    try:
        bundled = find_weights("bundled", ["block1_conv1"]).identity[:12]
    except WeightsError as error:
        bundled = str(error)
    files = [path for top in (False, True) if (path := cached_imagenet(top=top))]
    imagenet = " and ".join(map(str, files)) or "not downloaded"
    return f"weights: bundled ({bundled}), imagenet: {imagenet}"


def _devices() -> str:
    from featx.network.devices import find_devices

    try:
        start_backend("cpu")
    except OptionError as error:  # a report of this error needs the lines above
        return f"devices: none. {error}"
    import keras
    from joblib import cpu_count

    threads = counted(cpu_count(), "thread")
    names = [f"{d.description}{f', {threads}' * (d.kind == 'cpu')}" for d in find_devices()]
    return f"devices: {'; '.join(names)} ({keras.backend.backend()})"

"""What the campaigns against malicious files share: settings, random damage, and checks."""

import contextlib
import tempfile
from pathlib import Path

from fuzzing import MOST_BYTES
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

FAST = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking would restart the process many times
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
LONG = settings(FAST, max_examples=100)


def checked(found: dict) -> dict:
    """Check that a reader succeeded or raised an error of featx, with little memory."""
    assert found["error"] != "bare", found["message"]
    assert found["grown"] < MOST_BYTES, found
    if found["error"] is not None:
        assert len(found["message"]) > 20
    return found


@contextlib.contextmanager
def alone(*names: str):
    """Return a folder, and check that no other files appear in it or next to it."""
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name) / "outside"
        inside = outside / "inside"
        inside.mkdir(parents=True)
        yield inside
        left = sorted(str(path.relative_to(outside)) for path in outside.rglob("*"))
        assert left == sorted(["inside", *(f"inside/{each}" for each in names)])


@st.composite
def damage(draw, content: bytes) -> bytes:
    """Truncate a file, flip bits, or fill or move bytes, more often where they are not zero."""
    kind = draw(st.sampled_from(["cut", "flip", "flip", "flip", "fill", "move"]))
    if kind == "cut":
        return content[: draw(st.integers(0, len(content)))]
    changed = bytearray(content)
    filled = [k for k, byte in enumerate(content[:4096]) if byte]
    place = st.one_of(st.sampled_from(filled), st.integers(0, len(content) - 1))
    if kind == "flip":
        for _ in range(draw(st.integers(1, 4))):
            changed[draw(place)] ^= 1 << draw(st.integers(0, 7))
    elif kind == "fill":
        start, byte = draw(place), draw(st.sampled_from([0, 0x7F, 0x80, 0xFF]))
        n = min(draw(st.integers(1, 16)), len(content) - start)
        changed[start : start + n] = bytes([byte]) * n
    else:
        start, target = draw(place), draw(place)
        stretch = content[start : start + draw(st.integers(1, 64))]
        changed[target : target + len(stretch)] = stretch
    return bytes(with_heaps_of(content, changed[: len(content)]))


def with_heaps_of(content: bytes, changed: bytearray) -> bytearray:
    """Restore heaps of texts: HDF5 1.14.6 loops forever on damaged heaps (see SECURITY.md)."""
    start = content.find(b"GCOL")
    while start >= 0:
        stop = start + int.from_bytes(content[start + 8 : start + 16], "little")
        changed[start:stop] = content[start:stop]
        start = content.find(b"GCOL", start + 1)
    return changed

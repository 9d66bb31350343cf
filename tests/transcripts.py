"""Pages that show commands and their output, for the tests that run them.

A page's text comes in, its commands are run; a line that is shown and was not printed fails.
A line "…" stands for lines left out, and numbers may differ.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The part of a command that .ci/run alone can show, in an environment of its own.
INSTALL = "pip install . && "


def blocks(page: str, language: str) -> list[str]:
    """Return what the page's code blocks of a language hold."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def transcripts(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield pairs of a command and the lines that the page shows under it."""
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, [line for line in shown if line]


def masked(text: str) -> str:
    """Return a line without its numbers, units of bytes and runs of blanks or rules."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]+( [GM]B)?", "N", text)).strip()


def folder_with_data(folder: Path) -> Path:
    """Put data/ where a page's commands expect it; return the folder."""
    (folder / "data").symlink_to(ROOT / "data")
    return folder


def check_commands(page: str, folder: Path, elsewhere: frozenset[str] = frozenset()) -> int:
    """Run the page's commands in order, but for those run elsewhere; return how many."""
    commands = 0
    for command, shown in transcripts(page):
        if command in elsewhere:
            continue
        ended = subprocess.run(
            ["bash", "-ec", command.removeprefix(INSTALL)],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}"
        printed = [masked(line) for line in ended.stdout.splitlines()]
        for line in shown:
            assert line == "…" or masked(line) in printed, f"{command}\n{line}\n{ended.stdout}"
        commands += 1
    return commands


def run_python(codes: list[str], folder: Path) -> None:
    """Run each piece of Python in a process of its own; a warning is an error."""
    for code in codes:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=folder, env=_environment(), check=True
        )


def _environment() -> dict[str, str]:
    """Return the environment in which this Python's own featx is the first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}

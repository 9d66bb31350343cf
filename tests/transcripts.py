"""Pages that show commands and their output: run the commands, and compare or refresh the lines.

The text of a page comes in and its commands are run in order. A line "…" stands for omitted
lines, and numbers may differ. `python tests/transcripts.py PAGE.md` replaces each shown line
by the printed line that is most similar to it; review the difference.
"""

import csv
import difflib
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The part of a command that only .ci/run can test, in a new environment.
INSTALL = "pip install . && "
#: Commands that are tested elsewhere, and where.
ELSEWHERE = {
    "pip install '.[test]' && pytest -n auto": "this test run itself",
    "featx weights fetch imagenet": "tests/test_weights_download.py, from a local server",
}


def blocks(page: str, language: str) -> list[str]:
    """Return the content of the page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def transcripts(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each command with the lines that the page shows below it."""
    for block in blocks(page, "console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, [line for line in shown if line]


def masked(text: str) -> str:
    """Return a line with N for each number and its unit of bytes, and with single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]+( [GM]B)?", "N", text)).strip()


def folder_with_data(folder: Path) -> Path:
    """Link data/ into a folder, where the commands of a page expect it; return the folder."""
    (folder / "data").symlink_to(ROOT / "data")
    return folder


def folder_with_half_of_data(folder: Path) -> Path:
    """Link every second group of each class of data/ into a folder, to save half of the time."""
    with (ROOT / "data/metadata.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    groups: defaultdict[Path, list[str]] = defaultdict(list)
    for name, group in rows:
        own = groups[Path(name).parent]
        if group not in own:
            own.append(group)
    kept = [(name, each) for name, each in rows if groups[Path(name).parent].index(each) % 2 == 0]
    for name, _ in kept:
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(ROOT / "data" / name)
    with (folder / "data/metadata.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *kept])
    return folder


def printed(command: str, folder: Path) -> list[str]:
    """Run a command in bash and return the lines that it prints.

    .ci/run has run one already, in a new environment: FEATX_MAIN_JOB names a file of that
    command and of the lines that it printed.
    """
    if recorded := os.environ.get("FEATX_MAIN_JOB"):
        first, *lines = Path(recorded).read_text(encoding="utf-8").splitlines()
        if first == f"$ {command}":
            return lines
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
    return ended.stdout.splitlines()


def check_commands(page: str, folder: Path) -> int:
    """Run the commands of a page; every shown line must be printed. Return their number."""
    commands = [each for each in transcripts(page) if each[0] not in ELSEWHERE]
    wrong = []
    for command, shown in commands:
        lines = printed(command, folder)
        found = {"…", *map(masked, lines)}
        wrong += [
            f"{command}\n  shown:   {line}\n  printed: {nearest(line, lines)}"
            for line in shown
            if masked(line) not in found
        ]
    assert not wrong, "\n".join(wrong)
    return len(commands)


def nearest(shown: str, lines: list[str]) -> str:
    """Return the printed line that is most similar to a shown line."""
    return max(lines, key=lambda line: difflib.SequenceMatcher(None, shown, line).ratio())


def refreshed(page: str, folder: Path) -> str:
    """Return a page with each shown line replaced by the most similar printed line."""
    for command, shown in transcripts(page):
        if command in ELSEWHERE:
            continue
        lines = printed(command, folder)
        before, own, after = page.partition(f"\n$ {command}\n")
        for line in shown:
            if line != "…":
                start, _, rest = after.partition(f"{line}\n")
                own, after = f"{own}{start}{nearest(line, lines)}\n", rest
        page = before + own + after
    return page


def run_python(codes: list[str], folder: Path) -> None:
    """Run each piece of Python in its own process; a warning is an error."""
    for code in codes:
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=folder, env=_environment(), check=True
        )


def _environment() -> dict[str, str]:
    """Return the environment in which featx is the one of this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            text = Path(name).read_text(encoding="utf-8")
            Path(name).write_text(refreshed(text, folder_with_data(Path(temporary))), "utf-8")

"""The README is true: its commands run, and print what it shows, numbers aside."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
#: Commands that are run elsewhere, and where.
ELSEWHERE = {
    "pip install '.[test]' && pytest -n auto": "this very run, and .ci/run as it stands",
    "featx weights fetch imagenet": "tests/test_weights_download.py, from a local server",
}
#: The part of a command that .ci/run alone can show, in an environment of its own.
INSTALL = "pip install . && "


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def transcripts():
    """Pairs of a command and the lines that the README shows under it."""
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.splitlines()
            yield command, [line for line in shown if line]


def masked(text):
    """A line without its numbers, units of bytes and runs of blanks or rules."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]+( [GM]B)?", "N", text)).strip()


@pytest.mark.slow
def test_every_command_runs_and_prints_what_is_shown(tmp_path):
    """In a folder with data/ the commands run in order; "…" stands for lines left out."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    commands = 0
    for command, shown in transcripts():
        if command in ELSEWHERE:
            continue
        ended = subprocess.run(
            ["bash", "-ec", command.removeprefix(INSTALL)],
            cwd=tmp_path,
            env=environment,
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
    assert commands >= 8
    for code in blocks("python"):
        subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, check=True
        )


@pytest.mark.slow
def test_the_json_keys_are_documented(tmp_path):
    """Each key that fit --json prints stands in the README's table of keys."""
    documented = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    from featx.classification import fit
    from featx.extraction import extract

    extract(ROOT / "data", layer="block1_pool", pool="avg", size=32, output=tmp_path / "codes.h5")
    keys = json.loads(json.dumps(fit(tmp_path / "codes.h5").to_dict()))
    assert set(keys) <= documented


def test_every_verb_is_in_the_readme():
    """Each verb of the command line is shown by an example."""
    shown = " ".join(command for command, _ in transcripts())
    verbs = ("plan", "extract", "fit", "sweep", "finetune", "evaluate", "predict", "export")
    verbs += ("layers", "info")
    for verb in (*verbs, "explain", "report", "weights fetch"):
        assert f"featx {verb}" in shown

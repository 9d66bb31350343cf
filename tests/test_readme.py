"""README.md and docs/tour.md are true: their commands run, and print the lines that they show."""

import json
import re

import numpy as np
import pytest
from transcripts import (
    ROOT,
    blocks,
    check_commands,
    folder_with_data,
    folder_with_half_of_data,
    run_python,
    transcripts,
)

import featx

README = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_command_runs_and_prints_what_is_shown(tmp_path):
    """In a folder with data/ the commands run in order; "…" stands for omitted lines."""
    folder = folder_with_data(tmp_path)
    assert check_commands(README, folder) >= 1
    run_python(blocks(README, "python"), folder)


@pytest.mark.slow
def test_the_tour_runs_and_prints_what_is_shown(tmp_path):
    """On half of the images of data/ the commands of docs/tour.md run in order."""
    folder = folder_with_half_of_data(tmp_path)
    assert check_commands(TOUR, folder) >= 20
    run_python(blocks(TOUR, "python"), folder)


@pytest.mark.slow
def test_the_json_keys_are_documented(tmp_path):
    """Each key that fit --json prints is in the table of keys."""
    page = (ROOT / "docs/json.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    from featx.extraction import extract
    from featx.fitting import fit

    extract(ROOT / "data", layer="block1_pool", pool="avg", size=32, output=tmp_path / "codes.h5")
    keys = json.loads(json.dumps(fit(tmp_path / "codes.h5").to_dict()))
    assert set(keys) <= documented


def test_the_json_keys_of_an_explanation_are_documented():
    """The keys of two concatenated layers, and those that the command line adds."""
    part = (
        (ROOT / "docs/json.md").read_text(encoding="utf-8").partition("`featx explain --json`")[2]
    )
    documented = set(re.findall(r"`(\w+)`", part.partition("`featx report --json`")[0]))
    one = np.zeros((1, 1))
    found = featx.Explanation(
        "0.png", "exact", "cat", "dog", 1.0, 0.5, 0.7, one, {"a": one, "b": one}, (1, 1), one
    )
    assert {"model", "explanations", "figure", *found.to_dict()} <= documented


def test_every_verb_is_in_the_tour():
    """Each verb of the command line is shown by an example."""
    shown = " ".join(command for command, _ in transcripts(TOUR))
    verbs = ("plan", "extract", "fit", "sweep", "finetune", "evaluate", "predict", "export")
    verbs += ("layers", "info")
    for verb in (*verbs, "explain", "report", "weights fetch"):
        assert f"featx {verb}" in shown

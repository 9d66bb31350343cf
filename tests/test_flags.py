"""Settings as flags: what the command line reads from them is the settings again."""

import shlex

import pytest
from typer.main import get_command

from featx.cli.app import app
from featx.extraction import prepare_extraction
from featx.fitting import prepare_fit
from featx.flags import flags_of


@pytest.mark.parametrize(
    ("verb", "settings"),
    [
        ("extract", {"layer": ["fc1", "fc2"], "flip": True, "scales_join": "stack"}),
        ("extract", {"layer": ["fc1"], "rename": ["conv 1=block1_conv1"], "group": "a'b (.*)"}),
        ("extract", {"layer": ["fc1"], "scale": [32, 64], "crops": 5, "weights": "random:0"}),
        ("fit", {"baselines": False, "whiten": True, "components": 3, "label_column": "a b"}),
    ],
)
def test_a_verb_reads_the_settings_again(verb, settings):
    words = shlex.split(" ".join(flags_of(settings)))
    read = get_command(app).commands[verb].make_context(verb, words).params
    assert {name: read[name] for name in settings} == settings


def test_a_mapping_is_a_flag_for_each_pair():
    flags = flags_of({"rename": {"conv 1": "block1_conv1", "x": "fc1"}})
    assert shlex.split(" ".join(flags)) == [
        *("--rename", "conv 1=block1_conv1"),
        *("--rename", "x=fc1"),
    ]


def test_only_what_is_not_usual_is_typed():
    usual = {"size": "224", "flip": False, "scale": (), "rename": None, "max_pixels": 178_956_970}
    assert flags_of(usual, prepare_extraction) == []
    assert flags_of({**usual, "pool": "avg", "layer": "fc1"}, prepare_extraction) == [
        "--pool avg",
        "--layer fc1",
    ]
    assert flags_of({"baselines": True, "folds": 3, "C": None}, prepare_fit) == ["--folds 3"]

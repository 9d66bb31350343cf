"""Flags and settings: the command line has the settings of the library, with their defaults."""

import dataclasses
import functools
import inspect
import json
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from featx.cli import app, options
from featx.extraction import prepare_extraction
from featx.extraction.settings import ExtractionSettings
from featx.fitting import prepare_fit
from featx.fitting.settings import FitSettings
from featx.flags import flags_of
from featx.report import prepare_report
from featx.store import export
from featx.workflows.finetuning.settings import FinetuneSettings
from featx.workflows.settings import (
    ComparisonSettings,
    EvaluationSettings,
    ExplanationSettings,
    PredictionSettings,
)
from featx.workflows.sweeping.settings import SweepSettings

VERBS = {
    "extract": (options.GpusExtractionOptions, ExtractionSettings),
    "plan": (options.ExtractionOptions, ExtractionSettings),
    "fit": (options.FitOptions, FitSettings),
    "sweep": (options.SweepOptions, SweepSettings),
    "finetune": (options.FinetuneOptions, FinetuneSettings),
    "evaluate": (options.EvaluationOptions, EvaluationSettings),
    "compare": (options.ComparisonOptions, ComparisonSettings),
    "predict": (options.PredictionOptions, PredictionSettings),
    "explain": (options.ExplanationOptions, ExplanationSettings),
    "report": (options.ReportOptions, prepare_report),
    "export": (options.ExportOptions, export),
}
#: Options that are no settings of the library.
CLI_ONLY = {
    "extract": {"preset", "cluster", "strict", "quiet"},
    "plan": {"preset", "as_json", "quiet"},
    "fit": {"cluster", "as_json", "quiet"},
    "sweep": {"cluster", "as_json", "quiet"},
    "finetune": {"tensorboard", "as_json", "quiet"},
    "evaluate": {"as_json", "quiet"},
    "compare": {"as_json", "quiet"},
    "predict": {"cluster", "quiet"},
    "explain": {"output", "overwrite", "as_json", "quiet"},
    "report": {"as_json", "quiet"},
    "export": {"quiet"},
}
#: Settings of the library that are no options.
LIBRARY_ONLY = {"progress", "show_download"}
#: Files that have a default name on the command line only.
FILES = {
    "fit": {"output"},
    "predict": {"output"},
    "report": {"source"},
    "export": {"codes", "output"},
}


@functools.cache
def commands():
    return get_command(app.app).commands


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_are_the_settings_of_the_library(verb):
    """A verb has an option for each setting of the library, and the listed others."""
    settings = set(inspect.signature(VERBS[verb][1]).parameters) - LIBRARY_ONLY
    assert {p.name for p in commands()[verb].params} == settings | CLI_ONLY[verb]


@pytest.mark.parametrize("verb", VERBS)
def test_the_defaults_are_those_of_the_library(verb):
    """An option without a default is left to the library; every other default is the same."""
    kind, library = VERBS[verb]
    parameters = inspect.signature(library).parameters
    required = {f.name: [] for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    given = kind(**required).as_settings()
    differ = {
        name
        for name, value in given.items()
        if name not in required and str(value) != str(parameters[name].default)
    }
    assert differ == FILES.get(verb, set())
    assert {name for name, p in parameters.items() if p.default is p.empty} <= {*given, "layer"}


@pytest.mark.parametrize(
    ("verb", "typed", "settings"),
    [
        ("extract", "--layer fc1 --rename 'a b=fc1'", {"rename": {"a b": "fc1"}}),
        ("extract", "--batch-size 8", {"batch_size": 8}),
        ("fit", "a.h5 b.h5 --C 1,10", {"codes": [Path("a.h5"), Path("b.h5")], "C": [1, 10]}),
        ("fit", "--clf ridge --set alpha=2", {"clf": "ridge", "settings": {"alpha": 2}}),
        ("fit", "--normalize l2 --no-baselines", {"normalise": "l2", "baselines": False}),
        ("sweep", "--budget 1.5h --size 64 --size 96", {"budget": 5400, "size": ["64", "96"]}),
        (
            "explain",
            "m.skops a.png b.png",
            {"model": Path("m.skops"), "images": ["a.png", "b.png"]},
        ),
    ],
)
def test_what_is_typed_becomes_settings(monkeypatch, verb, typed, settings):
    """Text is read as the library takes it; options that are not typed are left out."""
    kind = VERBS[verb][0]
    read = commands()[verb].make_context(verb, shlex.split(typed)).params
    given = kind(**{f.name: read[f.name] for f in dataclasses.fields(kind)}).as_settings()
    assert plain(settings).items() <= plain(given).items()


@pytest.mark.parametrize(
    ("verb", "settings"),
    [
        ("extract", {"layer": ["fc1", "fc2"], "flip": True, "scales_join": "stack"}),
        ("extract", {"layer": ["fc1"], "rename": ["conv 1=block1_conv1"], "group": "a'b (.*)"}),
        ("extract", {"layer": ["fc1"], "scale": [32, 64], "crops": 5, "weights": "random:0"}),
        ("fit", {"baselines": False, "whiten": True, "components": 3, "label_column": "a b"}),
    ],
)
def test_a_verb_reads_its_flags(verb, settings):
    """The command line reads settings back from the flags that `flags_of` writes."""
    words = shlex.split(" ".join(flags_of(settings)))
    read = commands()[verb].make_context(verb, words).params
    assert plain({name: read[name] for name in settings}) == plain(settings)


def plain(settings):
    """Return values without types that differ between versions of typer before a verb is called."""
    each = {name: [*v] if isinstance(v, tuple) else v for name, v in settings.items()}
    return json.loads(json.dumps(each, default=str))


def test_a_mapping_is_a_flag_for_each_pair():
    """The keys and values of a mapping are quoted for the shell."""
    flags = flags_of({"rename": {"conv 1": "block1_conv1", "x": "fc1"}})
    assert shlex.split(" ".join(flags)) == [
        *("--rename", "conv 1=block1_conv1"),
        *("--rename", "x=fc1"),
    ]


def test_defaults_are_left_out():
    """Only settings that differ from the defaults of a function become flags."""
    usual = {"size": "224", "flip": False, "scale": (), "rename": None, "max_pixels": 178_956_970}
    assert flags_of(usual, prepare_extraction) == []
    assert flags_of({**usual, "pool": "avg", "layer": "fc1"}, prepare_extraction) == [
        "--pool avg",
        "--layer fc1",
    ]
    assert flags_of({"baselines": True, "folds": 3, "C": None}, prepare_fit) == ["--folds 3"]

"""Malformed results: sweep.json and run.json are read, or end in an error that names the field."""

import copy
import dataclasses
import functools
import json
import operator
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from campaigns import FAST, LONG, alone, checked, damage
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import hostile_store, sweep_facts, tuning_facts
from PIL import Image

import featx
from featx.errors import ModelError
from featx.report import ReportSettings
from featx.report.gathering import models
from featx.report.gathering.sources import gather
from featx.workflows.finetuning.results import read_finetuned
from featx.workflows.sweeping.results import read_sweep
from featx.workflows.sweeping.run import known_seconds

EARLIER = Path(__file__).parent / "data/results-0.1/run.json"
#: These are written and never read.
UNREAD = ("probe_scores", "fit_on_tuned_scores")
OLD_FACTS = {k: v for k, v in json.loads(EARLIER.read_text()).items() if k not in UNREAD}
#: Name of the file, its content, and the function that reads it.
DOCUMENTS = {
    "sweep": ("sweep.json", sweep_facts(), read_sweep),
    "run": ("run.json", tuning_facts(), read_finetuned),
    "run of 0.1": ("run.json", OLD_FACTS, read_finetuned),
}
DEEP = json.loads("[" * 200 + "]" * 200)
ODD = (
    *(None, True, False, 0, -1, 7, 1.5, 2**31, 2**63, 10**400, 1e308, -1e308),
    *(float("nan"), float("inf"), "", "text", "../../../etc/passwd", "\0", "\ud800", "$x_{"),
    *("a" * 5000, "none", "8", [], {}, [[]], [{}], ["a"], [1, 2], DEEP),
    *({"value": 1, "low": 2, "high": 0}, {"clf": "auto", "output": "x"}),
)


#: What 0.1 called these fields.
RENAMED = {"tuning": "training", "parts": "split"}


def places(value, path=()):
    """Yield the path of each value of a document; of a list, only those of the first item."""
    yield path
    keys = value if isinstance(value, dict) else range(min(1, len(value)) if is_list(value) else 0)
    for key in keys:
        yield from places(value[key], (*path, key))


def is_list(value):
    return isinstance(value, list)


def with_value(facts, path, value):
    """Return a document with another value at a path; without the value if it is Ellipsis."""
    if not path:
        return value
    key, *rest = path
    changed = copy.copy(facts)
    if value is ... and not rest:
        del changed[key]
    else:
        changed[key] = with_value(facts[key], rest, value)
    return changed


def refused(read, source):
    """Return the message of featx's error; "" if the source is read."""
    try:
        read(source)
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_an_odd_value_is_refused_by_name_or_harmless(document, tmp_path):
    """Each value is replaced by some odd ones, and removed."""
    name, facts, read = DOCUMENTS[document]
    path = tmp_path / name
    path.write_text(json.dumps(facts))
    assert refused(read, path) == ""
    n_refused = 0
    for k, place in enumerate(places(facts)):
        for value in (*ODD[k % 4 :: 4], ...):
            if not place and value is ...:
                continue
            path.write_text(json.dumps(with_value(facts, place, value)))
            if message := refused(read, path):
                n_refused += 1
                assert not place or RENAMED.get(place[0], place[0]) in message
    assert n_refused > 300


@pytest.mark.parametrize("document", DOCUMENTS)
def test_an_interval_without_one_end_is_refused(document, tmp_path):
    """Both ends are numbers, or neither is."""
    name, facts, read = DOCUMENTS[document]
    ends = list(ends_of_intervals(facts))
    assert ends
    for place in ends:
        (tmp_path / name).write_text(json.dumps(with_value(facts, place, None)))
        assert "an interval has two ends" in refused(read, tmp_path / name), place


def ends_of_intervals(facts):
    """Yield the paths of the numbers that are an end of an interval."""
    for place in places(facts):
        key = str(place[-1]) if place else ""
        bound_of_a_bin = key in {"low", "high"} and "reliability" in place
        value = functools.reduce(operator.getitem, place, facts)
        if key.endswith(("low", "high")) and not bound_of_a_bin and value is not None:
            yield place


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff{}", b"[" * 10**6, b"1" * 5000])
def test_other_bytes_are_refused(document, content, tmp_path):
    """What is no JSON object, with the command that makes the file again."""
    name, _, read = DOCUMENTS[document]
    (tmp_path / name).write_bytes(content)
    message = refused(read, tmp_path / name)
    assert name in message
    assert "featx " in message


@pytest.mark.parametrize("document", DOCUMENTS)
def test_an_error_of_the_system_is_no_damage(document, tmp_path):
    """A file that is missing, and a pipe, which would block forever."""
    name, _, read = DOCUMENTS[document]
    assert "No such file" in refused(read, tmp_path / name)
    os.mkfifo(tmp_path / name)
    assert "not a regular file" in refused(read, tmp_path / name)


@pytest.mark.parametrize("part", ["summary", "provenance"])
def test_an_odd_value_of_a_model_is_refused_by_name_or_harmless(part, tmp_path, monkeypatch):
    """A page about a model whose summary or provenance was changed; its codes are missing."""
    model = featx.load_model(EARLIER.parent / "logistic.skops")
    facts = json.loads(json.dumps(getattr(model, part)))
    n_refused = 0
    for k, place in enumerate(list(places(facts))[1:]):
        for value in (*ODD[k % 8 :: 8], ...):
            changed = dataclasses.replace(model, **{part: with_value(facts, place, value)})
            monkeypatch.setattr(models, "load_model", lambda *_, changed=changed, **__: changed)
            if message := refused(gather, ReportSettings(tmp_path / "model.skops")):
                n_refused += 1
                assert place[0] in message
    assert n_refused > 20


@pytest.mark.parametrize("facts", [[], {"weights": 5}, {"rename": ["a"]}, {"rename": {"a": 5}}])
def test_odd_weights_of_a_model_are_refused(facts, tmp_path):
    """Prediction and fine-tuning look for the weights that a model records."""
    model = featx.load_model(EARLIER.parent / "logistic.skops")
    changed = dataclasses.replace(model, provenance={"codes": [], "extraction": facts})
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    with pytest.raises(ModelError, match="Fit it again"):
        featx.predict(tmp_path, model=changed)
    with pytest.raises(ModelError, match="Fit it again"):
        featx.finetune(tmp_path, from_model=changed, output=tmp_path / "tuned")


@pytest.mark.parametrize("content", ["{", "[]", "5", '{"32": "fast"}', '{"32": NaN}'])
def test_odd_times_of_a_sweep_are_not_known_times(content, tmp_path):
    """passes.json holds the times of earlier passes over the images."""
    (tmp_path / "passes.json").write_text(content)
    assert known_seconds(tmp_path / "passes.json") == {}


@st.composite
def changes(draw, facts):
    """Replace up to three values of a document by odd ones, or damage its bytes."""
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(places(facts))[1:]))
        value = draw(st.one_of(st.sampled_from([*ODD, ...]), st.floats(), st.text(), st.integers()))
        facts = with_value(facts, place, value)
    content = json.dumps(facts).encode()
    return draw(st.one_of(st.just(content), st.just(content), st.just(content), damage(content)))


def campaign(document, make_store, tmp_path, worker, limits):
    """Write a page about each changed document; nothing else may appear."""
    name, facts, _ = DOCUMENTS[document]
    hostile_store(tmp_path / "32-avg.h5", make_store)

    @limits
    @given(changes(facts))
    def run(content):
        with alone(name, "32-avg.h5") as folder, tempfile.TemporaryDirectory() as pages:
            (folder / name).write_bytes(content)
            shutil.copy(tmp_path / "32-avg.h5", folder)
            found = checked(worker("page", folder, Path(pages) / "page.html"))
            written = [path.name for path in Path(pages).iterdir()]
            assert written == ([] if found["error"] else ["page.html"])

    run()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_page_about_a_changed_document(document, make_store, tmp_path, worker):
    """Whatever a document holds, there is a page about it, or an error of featx."""
    campaign(document, make_store, tmp_path, worker, settings(FAST, max_examples=5))


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_many_pages_about_changed_documents(document, make_store, tmp_path, worker):
    """The same with more examples."""
    campaign(document, make_store, tmp_path, worker, LONG)

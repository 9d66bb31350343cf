"""Models that featx 0.1 saved open, predict as they did then, and can be saved again."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.errors import ModelError
from featx.fitting.old_models import RENAMED_TYPES

FOLDER = Path(__file__).parent / "data" / "results-0.1"
MODELS = sorted(path.stem for path in FOLDER.glob("*.skops"))
NARROW = {"lda", "sgd", "logistic-l1", "hist-gradient-boosting"}


@pytest.fixture(scope="module")
def codes():
    X, _ = featx.read_arrays(FOLDER / "codes.h5")
    return X


@pytest.fixture(scope="module")
def expected():
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


def test_every_old_model_has_an_expected_result(expected):
    assert sorted(expected) == MODELS
    assert len(MODELS) == 15


@pytest.mark.parametrize("name", MODELS)
def test_an_old_model_predicts_as_before_and_is_saved_in_the_new_format(
    name, codes, expected, tmp_path
):
    old = featx.load_model(FOLDER / f"{name}.skops")
    np.testing.assert_allclose(old.predict_proba(codes), expected[name], rtol=0, atol=1e-9)
    old.save(tmp_path / "new.skops")
    assert b"featx.classification" not in (tmp_path / "new.skops").read_bytes()
    new = featx.load_model(tmp_path / "new.skops")
    assert np.array_equal(new.predict_proba(codes), old.predict_proba(codes))
    assert (new.summary, new.provenance) == (old.summary, old.provenance)
    assert (new.recipe, new.fitted_on) == (old.recipe, old.fitted_on)


@pytest.mark.parametrize("name", MODELS)
def test_the_facts_of_an_old_model_have_the_present_names(name):
    old = featx.load_model(FOLDER / f"{name}.skops")
    settings = old.provenance["settings"]
    solvers = {"knn-span": ("gram", "gram")}
    narrow = ("primal", "auto") if old.summary["classifier"] in NARROW else ("gram", "auto")
    assert (old.summary["solver"], settings["solver"]) == solvers.get(name, narrow)
    assert old.summary["duplicates"] == []
    assert old.summary["without_duplicates"] is None
    assert {"fraction"} <= set(old.summary["tried"][0])
    renamed = {"road", "copies", "without_copies", "share"}
    assert not renamed & {*old.summary, *settings, *old.summary["tried"][0]}


def test_the_facts_of_an_old_model_are_those_of_a_fit_of_today(tmp_path):
    """Facts may be added, but none is renamed, so that report, info and evaluate read both."""
    old = featx.load_model(FOLDER / "logistic.skops")
    new = featx.fit(FOLDER / "codes.h5", C=1.0, folds=2, baselines=False).model
    assert set(old.summary) <= set(new.summary)
    assert set(old.summary["tried"][0]) == set(new.summary["tried"][0])
    assert set(old.provenance) <= set(new.provenance)
    # Settings may be added, and then have their defaults.
    assert set(old.provenance["settings"]) <= set(new.provenance["settings"])


def test_an_old_joblib_model_is_refused_with_the_command_that_fits_it_again():
    with pytest.raises(ModelError, match=r"featx fit CODES -o \S*logistic\.joblib --overwrite"):
        featx.load_model(FOLDER / "logistic.joblib", trust=True)
    with pytest.raises(ModelError, match="--trust"):
        featx.load_model(FOLDER / "logistic.joblib")


def test_every_renamed_type_can_be_imported():
    for present in RENAMED_TYPES.values():
        module, name = present.rsplit(".", 1)
        assert getattr(__import__(module, fromlist=[name]), name).__module__ == module


def test_the_commands_read_an_old_model(run, tmp_path):
    model, codes = FOLDER / "knn-span.skops", FOLDER / "codes.h5"
    code, out, _ = run("info", model, "--json")
    assert (code, json.loads(out)["summary"]["solver"]) == (0, "gram")
    code, _, _ = run("predict", codes, "--model", model, "-o", tmp_path / "table.csv")
    assert (code, len((tmp_path / "table.csv").read_text().splitlines())) == (0, 31)
    page = tmp_path / "page.html"
    code, _, _ = run("report", model, "--codes", codes, "-o", page)
    assert code == 0
    assert "blue/0.png" in page.read_text()


def test_the_report_reads_an_old_fine_tuning(run, tmp_path):
    shutil.copy(FOLDER / "run.json", tmp_path)
    code, _, _ = run("report", tmp_path / "run.json", "-o", tmp_path / "page.html")
    facts = json.loads((FOLDER / "run.json").read_text())
    assert code == 0
    assert f"{facts['probe']['value']:.3f}" in (tmp_path / "page.html").read_text()

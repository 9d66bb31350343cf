"""Models that other versions of scikit-learn and skops saved. exchange.py opens real ones."""

import json
import logging
import sys
import types
import zipfile

import numpy as np
import pytest
import sklearn
import skops
from fits import labels_of, make_codes

from featx.errors import ModelError
from featx.fitting import fit, load_model

OTHER = "1.7.99"
CLASSIFIERS = ["logistic", "sgd", "hist-gradient-boosting"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, make_store, one_thread):
    """Return a folder with a saved model of some classifiers."""
    folder = tmp_path_factory.mktemp("models")
    labels = labels_of(30)
    store = make_store(folder / "codes.h5", make_codes(labels), labels)
    for name in CLASSIFIERS:
        C = None if name == "hist-gradient-boosting" else [1]
        fit(store, clf=name, C=C, folds=2, baselines=False, output=folder / f"{name}.skops")
    return folder


@pytest.fixture
def rewrite(saved, tmp_path):
    """Return a function that saves a model again with changed nodes of its schema."""

    def write(name, change, skops_version=skops.__version__):
        path = tmp_path / "model.skops"
        with zipfile.ZipFile(saved / f"{name}.skops") as old, zipfile.ZipFile(path, "w") as new:
            for member in old.namelist():
                content = old.read(member)
                if member == "schema.json":
                    schema = json.loads(content, object_hook=change)
                    content = json.dumps(schema | {"_skops_version": skops_version}).encode()
                new.writestr(member, content)
        return path

    return write


def saved_with(version):
    """Return a change: every estimator of scikit-learn was saved with a version."""

    def change(node):
        if "_sklearn_version" in node:
            node["_sklearn_version"]["content"] = json.dumps(version)
        return node

    return change


def foreign(type_name, version):
    """Return a change: LogisticRegression is another type, and the version is another one."""

    def change(node):
        if node.get("__class__") == "LogisticRegression":
            node["__module__"], node["__class__"] = type_name.rsplit(".", 1)
        return saved_with(version)(node)

    return change


def check_same(path, saved, name):
    codes = make_codes(labels_of(30), seed=1)["block1_conv1"]
    expected = load_model(saved / f"{name}.skops").predict_proba(codes)
    np.testing.assert_array_equal(load_model(path).predict_proba(codes), expected)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_another_version_of_scikit_learn_is_one_note(name, saved, rewrite, caplog):
    """Warnings are errors in these tests, so scikit-learn's own do not reach the user."""
    path = rewrite(name, saved_with(OTHER))
    check_same(path, saved, name)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    facts = [str(path), OTHER, sklearn.__version__, f"pip install scikit-learn=={OTHER}"]
    assert [fact for fact in facts if fact not in record.getMessage()] == []


def test_the_installed_version_has_no_note(saved, caplog):
    load_model(saved / "logistic.skops")
    assert caplog.records == []


@pytest.mark.parametrize("name", ["sgd", "hist-gradient-boosting"])
def test_names_of_skops_0_13_are_known(name, saved, rewrite):
    """It saved the types of scikit-learn's losses as if their module were _loss."""
    changed = []

    def change(node):
        if str(node.get("__module__", "")).endswith("_loss._loss"):
            changed.append(node["__class__"])
            node["__module__"] = "_loss"
        return node

    check_same(rewrite(name, change), saved, name)
    assert changed


def test_types_of_another_version_are_refused_with_the_versions_to_install(rewrite):
    path = rewrite("logistic", foreign("sklearn.linear_model._new.Logistic", OTHER), "0.99")
    with pytest.raises(ModelError) as caught:
        load_model(path)
    facts = ["sklearn.linear_model._new.Logistic", sklearn.__version__, skops.__version__]
    facts.append(f"pip install scikit-learn=={OTHER} skops==0.99")
    assert [fact for fact in facts if fact not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("type_name", "version"),
    [
        ("sklearn.linear_model._new.Logistic", sklearn.__version__),
        ("os.system", OTHER),
        ("sklearnx.Logistic", OTHER),
        ("sklearn.linear_model._new.Logistic", "1; touch ran"),
        ("sklearn.linear_model._new.Logistic", ["1.7"]),
    ],
    ids=["installed", "system", "other-library", "command", "list"],
)
def test_other_foreign_types_suggest_no_version(type_name, version, rewrite):
    path = rewrite("logistic", foreign(type_name, version))
    with pytest.raises(ModelError, match="could run code") as caught:
        load_model(path)
    assert "pip install" not in str(caught.value)


def test_a_model_that_fails_to_open_names_the_versions_to_install(rewrite):
    def change(node):
        if node.get("__class__") == "LogisticRegression":
            node["__loader__"] = "NewNode"
        return saved_with(OTHER)(node)

    with pytest.raises(ModelError, match=f"pip install scikit-learn=={OTHER}$"):
        load_model(rewrite("logistic", change))


def test_a_joblib_file_of_other_libraries_is_refused_with_the_command_to_convert_it(
    saved, tmp_path, monkeypatch
):
    """skops files name the types of scikit-learn's losses in a way that can be mapped."""
    monkeypatch.setitem(sys.modules, "_lost", lost := types.ModuleType("_lost"))
    lost.Loss = type("Loss", (), {"__module__": "_lost"})
    model = load_model(saved / "logistic.skops")
    model.classifier.loss = lost.Loss()
    path = tmp_path / "model.joblib"
    model.save(path)
    monkeypatch.delitem(sys.modules, "_lost")
    with pytest.raises(ModelError) as caught:
        load_model(path, trust=True)
    facts = ["_lost", f"load_model({str(path)!r}", f"save({str(path.with_suffix('.skops'))!r})"]
    assert [fact for fact in facts if fact not in str(caught.value)] == []


def test_a_model_that_fails_to_predict_names_the_version_to_install(saved):
    model = load_model(saved / "logistic.skops")
    model.provenance["scikit-learn"] = OTHER
    del model.classifier.steps[-2]
    with pytest.raises(ModelError, match=f"pip install scikit-learn=={OTHER}$"):
        model.predict_proba(np.zeros((2, 64)))

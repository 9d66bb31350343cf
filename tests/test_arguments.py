"""Arguments that mean nothing: empty texts, images where paths are expected, odd arrays."""

import inspect

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

import featx
from featx.cli.app import app
from featx.errors import FeatxError, OptionError

VERBS = sorted(each.name or each.callback.__name__ for each in app.registered_commands)
FUNCTIONS = [featx.extract, featx.plan, featx.fit, featx.sweep, featx.finetune]
FUNCTIONS += [
    featx.evaluate,
    featx.predict,
    featx.explain,
    featx.write_report,
    featx.load_predictor,
]


# Empty texts: a variable of the shell that is not set.


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("arguments", [[""], ["x", ""], ["--output", ""], ["--output="]])
def test_every_verb_refuses_empty_arguments(run, tmp_path, monkeypatch, verb, arguments):
    """Nothing is read or written: an empty path would be the working directory."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("1.png")
    code, out, err = run(verb, *arguments)
    assert (code, out) == (1, "")
    assert "empty" in err
    assert ("--output" in err) == ("--output" in arguments[0])
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_weights_and_no_verb_refuse_them(run):
    """The verb itself may come from a variable."""
    for arguments in (["weights", "fetch", ""], [""]):
        code, _, err = run(*arguments)
        assert code == 1
        assert "empty" in err


def texts_of(function):
    """The parameters that a text, or a list of texts, may be given for."""
    for name, parameter in inspect.signature(function).parameters.items():
        kind = str(parameter.annotation)
        if "str" in kind and "Mapping" not in kind:
            yield function, name, ""
            if "Sequence[" in kind:
                yield function, name, ["x", ""]


@pytest.mark.parametrize(
    ("function", "name", "value"), [each for function in FUNCTIONS for each in texts_of(function)]
)
def test_every_function_refuses_empty_texts(tmp_path, monkeypatch, function, name, value):
    """In Python too, and before anything is read; the message names the parameter."""
    monkeypatch.chdir(tmp_path)
    required = {"layer": "block1_pool", "inputs": "x", "images": "x", "source": "x", "model": "x"}
    parameters = inspect.signature(function).parameters
    given = {each: x for each, x in required.items() if each in parameters} | {name: value}
    with pytest.raises(OptionError, match=rf"empty|{name.replace('_', '.')}|no layer ''"):
        function(**given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", [featx.open_store, featx.read_frame, featx.read_arrays])
def test_readers_refuse_empty_paths(function):
    """The error is featx's."""
    with pytest.raises(FeatxError):
        function("")


# Images in memory, where paths are expected.


@pytest.fixture(scope="module")
def model():
    """A model of 64 features."""
    X = np.random.default_rng(0).normal(size=(20, 64))
    classifier = Pipeline([("only", LogisticRegression().fit(X, ["a", "b"] * 10))])
    recipe = featx.Recipe(weights="random:0", layers=("block1_pool",), pool="avg", size=(32, 32))
    return featx.Model(classifier, recipe, {"extraction": {"weights": "random:0"}})


@pytest.mark.parametrize(
    "item", [np.zeros((9, 9, 3), np.uint8), Image.new("RGB", (9, 9)), b"GIF89a", None, 3]
)
def test_predict_refuses_images_in_memory(model, item):
    """The message names the function that takes them."""
    with pytest.raises(OptionError, match="load_predictor"):
        featx.predict([item], model=model)


def test_names_that_are_too_long_are_featx_errors(model):
    """A text that is no path, such as the content of a file."""
    with pytest.raises(FeatxError):
        featx.predict("x" * 5000, model=model)


# Codes for a model.


def test_codes_of_other_shapes_are_refused(model):
    """One code, a list of lists, text, and another width."""
    for codes in (np.zeros(64), np.zeros((2, 63)), np.zeros((2, 8, 8)), np.zeros(()), [], "codes"):
        with pytest.raises(OptionError, match="64"):
            model.predict_proba(codes)
    for codes in ([["a"] * 64], [[1], [1, 2]], None, np.full((1, 64), None)):
        with pytest.raises(OptionError, match="64"):
            model.predict_proba(codes)


def test_lists_and_integers_are_codes(model):
    """What NumPy converts without doubt is taken."""
    expected = model.predict_proba(np.ones((2, 64)))
    np.testing.assert_array_equal(model.predict_proba([[1] * 64] * 2), expected)
    np.testing.assert_array_equal(model.predict_proba(np.ones((2, 64), int)), expected)
    assert model.predict_proba(np.empty((0, 64))).shape == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_without_numbers_are_counted(model, value):
    """The model is not called damaged."""
    codes = np.ones((5, 64))
    codes[1, 3] = codes[4] = value
    with pytest.raises(OptionError, match=r"2 rows.*5"):
        model.predict_proba(codes)

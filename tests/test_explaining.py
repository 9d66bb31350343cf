"""Explanations: positions and the constant sum to the score; each position has its share."""

import itertools
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pooling import plainly_pooled, touched
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC
from tuning import noise_images, small_head, small_network, small_recipe

import featx
from featx.codes.scaling import CentredRows, UnitRows
from featx.errors import ExistsError, ImagesError, OptionError, OutputError
from featx.finetuning.settings import TrainingSettings
from featx.finetuning.tuned import save_tuned
from featx.fitting import CLASSIFIERS, Model
from featx.fitting.attribution import (
    ImageView,
    explain_code,
    model_decision_scores,
    sum_on_finest_map,
    why_not_exact,
)
from featx.fitting.calibration import DecisionScores, TemperatureScaling
from featx.fitting.estimators import Perceptron
from featx.recipe import Recipe
from featx.report import explanation_figure, plot_explanation
from featx.store import open_store

pytestmark = pytest.mark.usefixtures("one_thread")

LINEAR = [name for name, kind in CLASSIFIERS.items() if kind.is_linear and name != "logistic-l1"]
POOLS = ["none", "avg", "max", "avg+max", "grid:2"]
#: Odd sides: grid cells share a row, and the map of block1_pool ends before the image does.
SIZE = (3, 5)
JOINED = ("block1_conv2", "block1_pool")


def maps_of(layers, n=24, size=SIZE, seed=0):
    """Return activations after ReLU; one channel of each layer is 0 everywhere."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer in layers:
        recipe = Recipe(weights="random:0", layers=(layer,), size=size)
        each = np.maximum(rng.normal(size=(n, *recipe.code_shape(layer))), 0).astype(np.float32)
        each[..., 3] = 0
        found[layer] = each
    return found


def codes_of(maps, pool):
    return np.hstack([plainly_pooled(each, pool).reshape(len(each), -1) for each in maps.values()])


def make_model(maps, pool, normalise="none", clf="logistic", n_classes=3, size=SIZE):
    """Fit a classifier on pooled maps, with the pipeline steps of featx fit."""
    recipe = Recipe(weights="random:0", layers=tuple(maps), pool=pool, size=size)
    X = codes_of(maps, pool)
    classes = ("ant", "bee", "cat", "dog")[:n_classes]
    y = np.array([classes[i % n_classes] for i in range(len(X))])
    steps = []
    if normalise != "none":
        widths = tuple(recipe.code_size(layer) for layer in recipe.layers)
        steps.append(("unit", UnitRows(widths, root=normalise == "sqrt-l2")))
        X = steps[-1][1].fit_transform(X)
    if normalise == "centre":
        steps.append(("centre", CentredRows().fit(X)))
        X = steps[-1][1].transform(X)
    estimator = CLASSIFIERS[clf].make(0) if isinstance(clf, str) else clf
    steps += [
        ("decisions", DecisionScores.fitted(estimator.fit(X, y))),
        ("calibration", TemperatureScaling(classes)),
    ]
    return Model(Pipeline(steps), recipe)


def normalised_by_hand(code, normalise, widths, mean):
    """Return a normalised code, and the length by which `centre` divides it."""
    code = np.asarray(code, np.float64)
    if normalise == "sqrt-l2":
        code = np.sqrt(code)
    if normalise != "none":
        parts = np.split(code, np.cumsum(widths)[:-1])
        code = np.concatenate([p / np.linalg.norm(p) / len(widths) ** 0.5 for p in parts])
    if mean is None:
        return code, 1.0
    length = np.linalg.norm(code - mean)
    return (code - mean) / length, length


def total_of(found):
    """Return the decision score that an attribution adds up to."""
    return sum(each.sum() for each in found.maps.values()) + found.intercept


def expected_scores(model, row):
    """Return scikit-learn's decision score of each class for a normalised code."""
    found = np.ravel(model.classifier["decisions"].estimator_.decision_function(row[None]))
    return np.array([-found[0], found[0]]) if len(found) == 1 else found


@pytest.mark.parametrize("normalise", ["none", "centre"])
def test_an_svm_of_several_classes_has_mean_margins(normalise):
    """They are those of SVMs for two classes, and change even where no vote does."""
    maps = maps_of(["block1_conv2"])
    model = make_model(maps, "avg", normalise, "svm-rbf", 4)
    estimator = model.classifier["decisions"].estimator_.set_params(gamma=0.3)
    codes = codes_of(maps, "avg")
    rows = codes
    for _, step in model.classifier.steps[:-2]:
        rows = step.transform(rows)
    classes = np.array(model.classes)
    y = classes[np.arange(len(rows)) % 4]
    estimator.fit(rows, y)
    expected = np.zeros((len(rows), 4))
    for k, j in itertools.permutations(range(4), 2):
        pair = np.isin(y, classes[[k, j]])
        of_two = SVC(gamma=0.3).fit(rows[pair], y[pair] == classes[k])
        expected[:, k] += of_two.decision_function(rows) / 3
    np.testing.assert_allclose(model_decision_scores(model, codes), expected, atol=1e-6)
    # A small step changes all of these scores, but no votes of scikit-learn's.
    aside = codes * (1 + 1e-3 * np.arange(codes.shape[1]) / codes.shape[1])
    assert np.abs(model_decision_scores(model, aside) - expected).min() > 0


# positions and the intercept sum to the score


@pytest.mark.parametrize(
    ("clf", "pool", "normalise", "n_classes"),
    [
        *itertools.product(["logistic"], POOLS, ["none", "l2", "centre"], [3]),
        *itertools.product(LINEAR, ["avg"], ["l2"], [2]),
        *itertools.product(LINEAR, ["max"], ["centre"], [3]),
    ],
)
def test_positions_and_the_intercept_sum_to_the_score(clf, pool, normalise, n_classes):
    """This holds for each class."""
    maps = maps_of(["block1_conv2"])
    model = make_model(maps, pool, normalise, clf, n_classes)
    check_sum(model, maps, pool, normalise)


@pytest.mark.parametrize("normalise", ["l2", "centre"])
@pytest.mark.parametrize("pool", ["none", "avg", "max", "avg+max"])
def test_joined_layers_add_up(pool, normalise):
    """Each layer has a map of its own shape; the sum on one map has the same total."""
    maps = maps_of(JOINED)
    model = make_model(maps, pool, normalise)
    for found in check_sum(model, maps, pool, normalise):
        assert {layer: each.shape for layer, each in found.maps.items()} == {
            "block1_conv2": (3, 5),
            "block1_pool": (1, 2),
        }
        summed = sum_on_finest_map(found.maps)
        assert summed.shape == (3, 5)
        assert summed.sum() + found.intercept == pytest.approx(total_of(found), rel=1e-12)


def test_square_roots_of_flattened_codes_add_up():
    maps = maps_of(["block1_conv2"])
    check_sum(make_model(maps, "none", "sqrt-l2"), maps, "none", "sqrt-l2")


def test_a_network_without_hidden_layers_adds_up():
    """A tuned network has two outputs for two classes; the score is their difference."""
    maps = maps_of(["block1_conv2"])
    rng = np.random.default_rng(1)
    for n_classes in (2, 3):
        model = make_model(maps, "avg", n_classes=n_classes)
        kernel, bias = rng.normal(size=(64, n_classes)), rng.normal(size=n_classes)
        model.classifier["decisions"].estimator_ = Perceptron(model.classes, [kernel], [bias])
        check_sum(model, maps, "avg", "none")


def check_sum(model, maps, pool, normalise):
    widths = [model.recipe.code_size(layer) for layer in model.recipe.layers]
    mean = model.classifier["centre"].mean_ if normalise == "centre" else None
    assert why_not_exact(model) is None
    sums = []
    for i in (0, 7):
        code = codes_of(maps, pool)[i]
        row, _ = normalised_by_hand(code, normalise, widths, mean)
        expected = expected_scores(model, row)
        np.testing.assert_allclose(model_decision_scores(model, code[None])[0], expected, rtol=1e-9)
        for k in range(len(model.classes)):
            found = explain_code(
                model, code, {x: [ImageView(each[i])] for x, each in maps.items()}, k
            )
            assert total_of(found) == pytest.approx(expected[k], rel=1e-9, abs=1e-12)
            sums.append(found)
    return sums


# the contribution of each position


@pytest.mark.parametrize("normalise", ["none", "l2"])
@pytest.mark.parametrize("pool", ["none", "avg", "grid:2"])
def test_setting_a_position_to_zero_removes_its_contribution(pool, normalise):
    """At constant length, the score falls by the contribution."""
    maps = maps_of(["block1_conv2"], size=(5, 4))
    model = make_model(maps, pool, normalise, size=(5, 4))
    activation = maps["block1_conv2"][2]
    code = codes_of(maps, pool)[2]
    length = np.linalg.norm(code) if normalise == "l2" else 1
    estimator = model.classifier["decisions"].estimator_
    found = explain_code(model, code, {"block1_conv2": [ImageView(activation)]}, 1).maps[
        "block1_conv2"
    ]
    expected = np.zeros((5, 4))
    for position in np.ndindex(5, 4):
        without = activation.copy()
        without[position] = 0
        fallen = code - plainly_pooled(without[None], pool).ravel()
        expected[position] = estimator.coef_[1] @ fallen / length
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_a_maximum_goes_to_its_position():
    """Of equal maxima, the first by row; a mean is divided in proportion to activations."""
    activation = np.zeros((2, 3, 64), np.float32)
    activation[1, 2, 0] = 5  # once
    activation[0, 2, 1] = activation[1, 0, 1] = 2  # twice
    maps = {"block1_conv2": np.repeat(activation[None], 6, axis=0)}
    maps["block1_conv2"][1::2] *= 2
    weights = np.zeros(64)
    weights[:2] = [10, 100]
    for pool, expected in {
        "max": [[0, 0, 200], [0, 0, 50]],
        "avg": [[0, 0, 200 / 6], [200 / 6, 0, 50 / 6]],
        "avg+max": [[0, 0, 200 + 200 / 6], [200 / 6, 0, 50 + 50 / 6]],
    }.items():
        model = make_model(maps, pool, n_classes=2, size=(2, 3))
        estimator = model.classifier["decisions"].estimator_
        estimator.coef_ = np.tile(weights, len(estimator.coef_[0]) // 64)[None]
        code = codes_of(maps, pool)[0]
        for k, sign in ((1, 1), (0, -1)):
            found = explain_code(model, code, {"block1_conv2": [ImageView(activation)]}, k)
            np.testing.assert_allclose(found.maps["block1_conv2"], sign * np.array(expected))
            assert found.intercept == pytest.approx(sign * estimator.intercept_[0])


@pytest.mark.parametrize("pool", ["none", "avg", "max", "grid:2"])
def test_the_mean_is_subtracted_where_it_belongs(pool):
    """At its position, evenly in a cell, or at the maximum; evenly for channels of zeros."""
    maps = maps_of(["block1_conv2"])
    model = make_model(maps, pool, "centre")
    # A new image, so that a channel can be 0 in it although its mean is not.
    activation = maps_of(["block1_conv2"], n=1, seed=5)["block1_conv2"][0].astype(np.float64)
    model.classifier["centre"].mean_ += 0.001
    activation[..., 7] = 0
    mean, coef = model.classifier["centre"].mean_, model.classifier["decisions"].estimator_.coef_
    code = plainly_pooled(activation[None], pool).ravel()
    length = np.linalg.norm(code)
    _, s = normalised_by_hand(code, "centre", [len(code)], mean)
    found = explain_code(model, code, {"block1_conv2": [ImageView(activation)]}, 2).maps[
        "block1_conv2"
    ]
    w, expected = coef[2], np.zeros(SIZE)
    n = SIZE[0] * SIZE[1]
    for position in np.ndindex(*SIZE):
        a = activation[position]
        if pool == "none":
            at = np.ravel_multi_index(position, SIZE) * 64 + np.arange(64)
            expected[position] = w[at] @ (a / length - mean[at]) / s
        elif pool == "avg":
            expected[position] = w @ (a / n / length - mean / n) / s
        elif pool == "max":
            for c in range(64):
                here = activation[..., c].argmax() == np.ravel_multi_index(position, SIZE)
                fraction = 1 / n if not activation[..., c].any() else here
                expected[position] += fraction * w[c] * (code[c] / length - mean[c]) / s
        else:
            down, across = (touched(side, 2) for side in SIZE)
            for i, j in np.ndindex(2, 2):
                if position[0] in down[i] and position[1] in across[j]:
                    size = len(down[i]) * len(across[j])
                    at = (2 * i + j) * 64 + np.arange(64)
                    expected[position] += w[at] @ (a / length - mean[at]) / size / s
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_coarse_map_is_spread_evenly():
    """A position of block3_pool is 2 x 2 positions of block2_pool; others get nothing."""
    fine, coarse = np.zeros((5, 5)), np.array([[4.0, 0], [0, 8.0]])
    found = sum_on_finest_map({"block2_pool": fine, "block3_pool": coarse})
    expected = np.zeros((5, 5))
    expected[:2, :2], expected[2:4, 2:4] = 1, 2
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("pool", "normalise", "clf", "reason"),
    [
        ("avg", "l2", "knn", "StableNeighbours"),
        ("avg", "l2", "svm-rbf", "SVC"),
        ("avg", "sqrt-l2", "logistic", "pooling avg"),
        ("max", "sqrt-l2", "logistic", "pooling max"),
    ],
)
def test_scores_that_are_not_sums(pool, normalise, clf, reason):
    assert reason in why_not_exact(make_model(maps_of(["block1_conv2"]), pool, normalise, clf))


def test_hidden_layers_dense_layers_and_bilinear_pooling_are_not_sums():
    model = make_model(maps_of(["block1_conv2"]), "avg")
    hidden = Perceptron(model.classes, [np.eye(64), np.ones((64, 3))], [np.zeros(64), np.zeros(3)])
    deep = Model(Pipeline([("decisions", DecisionScores.fitted(hidden))]), model.recipe)
    assert "hidden layer" in why_not_exact(deep)
    recipe = Recipe(weights="random:0", layers=("block1_pool", "fc1"), pool="avg")
    assert "fc1" in why_not_exact(replace(model, recipe=recipe))
    second = replace(model, recipe=replace(model.recipe, pool="bilinear"))
    assert "bilinear" in why_not_exact(second)


# images


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """Make a folder with images, stores and models, with random weights."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    settings = {"weights": "random:0", "size": (33, 46)}
    layers = ["block1_conv2", "block2_pool"]
    for name, each in {
        "joined": {"layer": layers, "pool": "none", "dtype": "float16"},
        "max": {"layer": layers[1], "pool": "max"},
        "grid": {"layer": layers[1], "pool": "grid:3", "dtype": "float16"},
    }.items():
        featx.extract(folder / "data", output=folder / f"{name}.h5", **settings, **each)
        clf = {"C": [10], "baselines": False, "output": folder / f"{name}.skops"}
        featx.fit(folder / f"{name}.h5", normalise="centre", **clf)
    featx.fit(folder / "max.h5", clf="svm-rbf", C=[10], baselines=False, output=folder / "r.skops")
    featx.fit(folder / "max.h5", clf="knn", baselines=False, output=folder / "knn.skops")
    return folder


@pytest.mark.parametrize("name", ["joined", "max", "grid"])
def test_images_are_explained_as_they_are_predicted(made, name):
    """Label and probability are those of predict, and the score is that of the stored code."""
    model = featx.load_model(made / f"{name}.skops")
    found = featx.explain(made / "data/val", model=model)
    table = featx.predict(made / "data/val", model=model)
    store = made / f"{name}.h5"
    layers = model.recipe.layers
    codes = np.hstack([featx.read_arrays(store, layer=x, split="val")[0] for x in layers])
    assert [each.path for each in found] == list(table["file"])
    assert [each.predicted for each in found] == [each.label for each in found]
    assert [each.label for each in found] == list(table["label"])
    assert {each.method for each in found} == {"exact"}
    stored = model_decision_scores(model, codes)
    shape, extent = ((33, 46), (33, 46)) if name == "joined" else ((8, 11), (32, 44))
    for i, each in enumerate(found):
        k = model.classes.index(each.label)
        # The codes of the store are float32, from batches of another size.
        assert each.decision_score == pytest.approx(stored[i, k], rel=1e-6)
        assert each.probability == pytest.approx(table[f"p_{each.label}"][i], rel=1e-9)
        assert each.contributions.sum() + each.constant == pytest.approx(
            each.decision_score, rel=1e-9
        )
        assert each.contributions.shape == shape
        assert each.extent == extent
        assert each.pixels.shape == (33, 46, 3)


VIEWS = {
    "flip": {"pool": "max", "size": 32, "flip": True},
    "flipped map": {"pool": "none", "size": 32, "flip": True},
    "crops": {"pool": "avg+max", "size": 40, "crops": 10},
    "scales": {"pool": "avg", "scale": [32, 64], "flip": True},
    "stacked": {"pool": "avg+max", "scale": [32, 64], "scales_join": "stack"},
    "stacked grid": {"pool": "grid:2", "scale": [32, 64], "scales_join": "stack", "flip": True},
}


@pytest.fixture(scope="module", params=VIEWS)
def seen(request, tmp_path_factory, make_image_folder):
    """Make a model of codes of several views, and images."""
    folder = tmp_path_factory.mktemp("seen")
    make_image_folder(folder / "data")
    featx.extract(
        folder / "data", layer=["block1_pool", "block2_pool"], weights="random:0",
        output=folder / "codes.h5", **VIEWS[request.param],
    )  # fmt: skip
    featx.fit(folder / "codes.h5", C=[10], baselines=False, normalise="centre",
              output=folder / "model.skops")  # fmt: skip
    return folder


def test_views_add_up(seen, tmp_path):
    """Positions of all views and the constant sum to the score."""
    found = featx.explain(seen / "data/val", model=seen / "model.skops")
    for each in found:
        assert each.method == "exact"
        assert each.contributions.sum() + each.constant == pytest.approx(
            each.decision_score, rel=1e-9
        )
        height, width = each.pixels.shape[:2]
        assert each.contributions.shape == (height // 2, width // 2)
        assert each.extent == (height, width)


def test_the_mirror_image_has_the_mirrored_map(seen, tmp_path):
    """This holds if codes are averaged over mirror images."""
    model = featx.load_model(seen / "model.skops")
    if not model.recipe.flip or model.recipe.grid or model.recipe.pool == "none":
        pytest.skip("the mirror image has another code")
    image = seen / "data/val/red/0.png"
    Image.open(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirror.png")
    one, other = featx.explain([image, tmp_path / "mirror.png"], model=model)
    assert one.decision_score == pytest.approx(other.decision_score, rel=1e-4)
    scale = np.abs(one.contributions).max()
    np.testing.assert_allclose(
        one.contributions[:, ::-1], other.contributions, rtol=1e-3, atol=1e-4 * scale
    )


def test_a_single_scale_is_explained_as_a_size(tmp_path, make_image_folder):
    """A square image at one scale is the image at that size."""
    folder = make_image_folder(tmp_path / "data")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    found = []
    for name, given in {"size": {"size": 64}, "scale": {"scale": 64}}.items():
        featx.extract(folder, layer="block2_pool", pool="avg", weights="random:0",
                      output=tmp_path / f"{name}.h5", **given)  # fmt: skip
    model = featx.fit(tmp_path / "size.h5", C=[10], baselines=False).model
    for recipe in (open_store(tmp_path / f"{name}.h5").recipe for name in ("size", "scale")):
        found += featx.explain(tmp_path / "a.png", model=replace(model, recipe=recipe))
    np.testing.assert_allclose(found[0].contributions, found[1].contributions, rtol=1e-6)


def test_views_contribute_in_proportion():
    """Two crops are half of the image each, and one of them is three times as bright."""
    recipe = Recipe(weights="random:0", layers=("block1_conv2",), pool="avg", size=(2, 2))
    recipe = replace(recipe, crops=5)
    ridge = CLASSIFIERS["ridge"].make(0).fit(np.eye(64)[:6], np.array(list("aabbab")))
    model = Model(Pipeline([("decisions", DecisionScores.fitted(ridge))]), recipe)
    w = ridge.coef_.ravel()
    dark, bright = np.zeros((2, 1, 64)), np.zeros((2, 1, 64))
    dark[..., 0], bright[..., 0] = 1, [[2], [4]]
    views = [ImageView(dark, (0, 0, 1, 0.5)), ImageView(bright, (0, 0.5, 1, 1))]
    code = np.zeros(64)
    code[0] = 2.0
    found = explain_code(model, code, {"block1_conv2": views}, 1)
    expected = 2 * w[0] * np.array([[1 / 8, 2 / 8], [1 / 8, 4 / 8]])
    np.testing.assert_allclose(found.maps["block1_conv2"], expected, rtol=1e-12)


def test_another_class_may_be_explained(made):
    """Its score is lower; an unknown class is refused, with the most similar name."""
    image = made / "data/val/red/0.png"
    (own,) = featx.explain(image, model=made / "max.skops")
    (other,) = featx.explain([image], model=made / "max.skops", label="blue")
    assert (own.label, other.label) == ("red", "blue")
    assert own.predicted == other.predicted == "red"
    assert other.probability < own.probability
    assert other.decision_score < own.decision_score
    assert other.contributions.sum() + other.constant == pytest.approx(other.decision_score)
    with pytest.raises(OptionError, match=r"'bleu'.*'blue'.*--class .*blue, green, red"):
        featx.explain(image, model=made / "max.skops", label="bleu")


@pytest.mark.parametrize("name", ["r", "knn"])
def test_occlusion_finds_the_decisive_cells(made, tmp_path, name):
    """A red square on the grey of the occlusion makes an image red."""
    from featx.images import PAD_COLOUR

    pixels = np.full((33, 46, 3), PAD_COLOUR, np.uint8)
    pixels[11:22, 23:35] = (200, 50, 40)  # the second cell down, second and third across
    Image.fromarray(pixels).save(tmp_path / "square.png")
    model = featx.load_model(made / f"{name}.skops")
    (found,) = featx.explain(tmp_path / "square.png", model=model, label="red", cells=3)
    assert (found.method, found.constant, dict(found.maps)) == ("occlusion", None, {})
    assert found.contributions.shape == (3, 3)
    assert found.extent == (33, 46)
    # Expected: the scores of files in which one cell is grey.
    store = tmp_path / "codes.h5"
    edges = [0, 11, 22, 33], [0, 15, 31, 46]
    (tmp_path / "cells/any").mkdir(parents=True)
    for i, j in np.ndindex(3, 3):
        picture = pixels.copy()
        picture[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1]] = PAD_COLOUR
        Image.fromarray(picture).save(tmp_path / f"cells/any/{i}{j}.png")
    recipe = {"layer": "block2_pool", "pool": "max", "size": (33, 46), "weights": "random:0"}
    featx.extract(tmp_path / "cells", output=store, **recipe)
    model.open_codes()
    codes, _ = featx.read_arrays(store)
    without = model_decision_scores(model, np.asarray(codes))[:, 2].reshape(3, 3)
    np.testing.assert_allclose(
        found.contributions, found.decision_score - without, rtol=1e-6, atol=1e-9
    )
    if name == "r":
        assert np.unravel_index(found.contributions.argmax(), (3, 3)) in {(1, 1), (1, 2)}
        # Grey on grey changes nothing.
        np.testing.assert_allclose(found.contributions[[0, 2]], 0, atol=1e-12)
        np.testing.assert_allclose(found.contributions[:, 0], 0, atol=1e-12)


# Keras 3.15 hands NumPy 2.4 arrays in a way that NumPy is about to retire.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("hidden", "method"), [((), "exact"), ((6,), "occlusion")])
def test_a_tuned_network_is_explained(tmp_path, hidden, method):
    """The head is linear or has a hidden layer; scores are its logits."""
    recipe = small_recipe(pool="avg")
    head = small_head(recipe, hidden=hidden, normalise="centre")
    network = small_network(TrainingSettings(freeze_until="block1_pool"), recipe, head)
    whole, _ = save_tuned(network, tmp_path, (), {"layers": ["block2_pool"]})
    images = noise_images(2)
    for i, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    found = featx.explain([tmp_path / "0.png", tmp_path / "1.png"], model=whole)
    expected = np.asarray(network.model(images, training=False))
    for each, logits in zip(found, expected, strict=True):
        assert (each.method, each.label) == (method, head.classes[logits.argmax()])
        assert each.decision_score == pytest.approx(logits.max(), rel=1e-4)
        if method == "exact":
            total = each.contributions.sum() + each.constant
            assert total == pytest.approx(logits.max(), rel=1e-4)
        else:
            assert each.contributions.shape == (7, 7)


def test_impossible_inputs_are_refused(made, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match=r"max\.h5"):
        featx.explain(made / "max.h5", model=made / "max.skops")
    with pytest.raises(ImagesError, match=r"none\.png"):
        featx.explain(tmp_path / "none.png", model=made / "max.skops")
    for cells in (0, 34):
        with pytest.raises(OptionError, match=f"--cells .*33.* {cells}"):
            featx.explain(made / "data/val", model=made / "r.skops", cells=cells)


# the verb


def test_the_verb_writes_figures_and_numbers(made, tmp_path, run, monkeypatch, caplog):
    """There is a figure for each readable image, and one JSON file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"")
    images = [made / "data/val/red/0.png", "bad.png", made / "data/val/blue/0.png"]
    code, out, _ = run("explain", made / "joined.skops", *images)
    assert code == 0
    assert "bad.png" in caplog.text
    assert re.fullmatch("explained: 2 .*exact; 1 .*", out.splitlines()[-1])
    assert sorted(path.name for path in (tmp_path / "explained").iterdir()) == [
        "blue-0.png",
        "explain.json",
        "red-0.png",
    ]
    with Image.open("explained/red-0.png") as figure:
        assert len(np.unique(np.asarray(figure.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    content = json.loads((tmp_path / "explained/explain.json").read_text())
    assert content["model"] == str(made / "joined.skops")
    red, blue = content["explanations"]
    assert [each["class"] for each in (red, blue)] == ["red", "blue"]
    assert list(red) == [
        *(
            "figure",
            "path",
            "method",
            "label",
            "class",
            "decision_score",
            "constant",
            "probability",
        ),
        *("shape", "extent", "contributions", "layers"),
    ]
    assert red["figure"] == "red-0.png"
    assert np.shape(red["contributions"]) == tuple(red["shape"]) == (33, 46)
    assert np.sum(red["contributions"]) + red["constant"] == pytest.approx(red["decision_score"])
    assert np.shape(red["layers"]["block2_pool"]) == (8, 11)


def test_the_verb_reports_an_approximation(made, tmp_path, run):
    """With --json, the content of explain.json is printed."""
    image = made / "data/val/red/0.png"
    arguments = (made / "r.skops", image, "--cells", 2, "--class", "green", "-o", tmp_path / "out")
    code, out, err = run("explain", *arguments, "--json")
    assert code == 0
    assert re.search("^note: .*occlusion", err, re.M)
    printed = json.loads(out)
    assert printed == json.loads((tmp_path / "out/explain.json").read_text())
    (found,) = printed["explanations"]
    assert (found["method"], found["constant"], found["shape"]) == ("occlusion", None, [2, 2])
    assert (found["label"], found["class"]) == ("red", "green")


def test_nothing_is_overwritten_unasked(made, tmp_path, run):
    image, folder = made / "data/val/red/0.png", tmp_path / "out"
    arguments = ("explain", made / "max.skops", image, "-o", folder, "-q")
    assert run(*arguments)[0] == 0
    (folder / "0.png").write_bytes(b"mine")
    code, _, err = run(*arguments)
    assert code == 1
    assert all(fact in err for fact in (f"{folder}/explain.json", "--overwrite", "-o"))
    assert (folder / "0.png").read_bytes() == b"mine"
    assert run(*arguments, "--overwrite")[0] == 0
    assert (folder / "0.png").read_bytes() != b"mine"
    code, _, err = run("explain", made / "max.skops", image, "-o", image)
    assert (code, str(image) in err) == (1, True)
    code, _, err = run("explain", made / "max.skops", image, "-o", tmp_path / "no/out")
    assert (code, str(tmp_path / "no") in err) == (1, True)


def test_only_bad_images_are_an_error(made, tmp_path, run):
    """No output folder is made."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    code, _, err = run("explain", made / "max.skops", tmp_path / "bad.png", "-o", tmp_path / "out")
    assert code == 1
    assert str(tmp_path / "bad.png") in err
    assert not (tmp_path / "out").exists()


def test_figures_of_equal_names_are_numbered(made, tmp_path):
    """An image that is given twice has two figures."""
    from featx.workflows import figure_paths, prepare_explanation

    image = made / "data/val/red/0.png"
    job = prepare_explanation([image] * 2, model=made / "max.skops")
    figures = figure_paths(job, tmp_path / "out")
    assert [path.name for path in figures] == ["0-1.png", "0-2.png"]
    job = prepare_explanation(image, model=made / "max.skops")
    with pytest.raises(ExistsError):
        figure_paths(job, image.parent)
    with pytest.raises(OutputError):
        figure_paths(job, image)


# figures


def test_the_title_of_a_figure(made):
    """It has class, probability and the sum; cells are at the positions of the map."""
    (found,) = featx.explain(made / "data/val/red/0.png", model=made / "max.skops", label="blue")
    found = replace(found, label="$x", decision_score=-1.25, constant=0.5, probability=0.25)
    found = replace(found, contributions=found.contributions * 0 - 1.75 / 88)
    axes = plot_explanation(found)
    facts = ("$x", "0.25", "red", "\N{MINUS SIGN}1.25", "\N{MINUS SIGN}1.75", "+0.5")
    assert all(fact in axes.get_title("left") for fact in facts)
    assert axes.get_images()[1].get_extent() == [0, 44, 32, 0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 46), (33, 0))
    figure = explanation_figure(replace(found, method="occlusion", constant=None))
    image, heat, bar = figure.axes
    np.testing.assert_array_equal(image.get_images()[0].get_array(), found.pixels)
    assert image.get_title("left").startswith("0.png\n")
    assert "occlusion" in heat.get_title("left")
    assert bar.get_ylabel()


# real weights and images


@pytest.mark.shared
@pytest.mark.parametrize(("layer", "pool"), [("block2_pool", "none"), ("block3_pool", "avg")])
def test_real_images_add_up(shared, tmp_path, layer, pool):
    """With the bundled weights at 224 pixels, contributions are w·a, and sum to the score."""
    from featx.network import find_weights, load_backbone

    for name in ("ants", "bees"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted((shared / "data/hymenoptera/train" / name).iterdir())[:3]:
            shutil.copy(file, tmp_path / "data" / name)
    store = tmp_path / "codes.h5"
    featx.extract(tmp_path / "data", layer=layer, pool=pool, output=store)
    model = featx.fit(store, C=[10], folds=2, baselines=False).model
    images = sorted((shared / "data/hymenoptera/val").glob("*/*.jpg"))[::70]
    estimator = model.classifier["decisions"].estimator_
    flat = replace(model.recipe, pool="none")
    backbone = load_backbone(flat, find_weights("bundled", (layer,)))
    for each in featx.explain(images, model=model):
        sign = 1 if each.label == model.classes[1] else -1
        activation = backbone(each.pixels[None])[layer][0].astype(np.float64)
        code = activation.ravel() if pool == "none" else activation.mean(axis=(0, 1))
        row = code / np.linalg.norm(code)
        expected = sign * estimator.decision_function(row[None])[0]
        assert each.decision_score == pytest.approx(expected, rel=1e-4)
        assert each.contributions.sum() + each.constant == pytest.approx(expected, rel=1e-4)
        weights = estimator.coef_[0].reshape(-1, activation.shape[2])
        products = activation.reshape(-1, activation.shape[2]) * weights
        by_hand = products.sum(axis=1).reshape(activation.shape[:2]) / np.linalg.norm(code)
        n_places = 1 if pool == "none" else by_hand.size
        largest = np.abs(each.contributions).max()
        np.testing.assert_allclose(
            each.contributions, sign * by_hand / n_places, atol=1e-4 * largest, rtol=0
        )

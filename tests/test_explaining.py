"""Explanations: places and the constant add up to the decision, and each place is the right one."""

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
from featx.codes import UnitRows
from featx.codes.scaling import CentredRows
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
#: Odd sides: cells of a grid share a row, and block1_pool's map ends before the image does.
SIZE = (3, 5)
JOINED = ("block1_conv2", "block1_pool")


def maps_of(layers, n=24, size=SIZE, seed=0):
    """Activations after ReLU; of each layer one channel is 0 everywhere."""
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


def make_bundle(maps, pool, normalise="none", clf="logistic", n_classes=3, size=SIZE):
    """Fit a classifier on pooled maps, in the steps that featx fit leaves."""
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
        ("decisions", DecisionScores(estimator.fit(X, y))),
        ("calibration", TemperatureScaling(classes)),
    ]
    return Model(Pipeline(steps), recipe)


def normalised_by_hand(code, normalise, widths, mean):
    """Return a code as the classifier has it, and the length that `centre` divides by."""
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


def scikit_decisions(bundle, row):
    """Decisions of scikit-learn's estimator for a normalised code, one a class."""
    found = np.ravel(bundle.classifier["decisions"].estimator.decision_function(row[None]))
    return np.array([-found[0], found[0]]) if len(found) == 1 else found


@pytest.mark.parametrize("normalise", ["none", "centre"])
def test_an_svm_of_several_classes_decides_by_mean_margins(normalise):
    """Those of scikit-learn's SVMs of two classes each: they move where no vote does."""
    maps = maps_of(["block1_conv2"])
    bundle = make_bundle(maps, "avg", normalise, "svm-rbf", 4)
    estimator = bundle.classifier["decisions"].estimator.set_params(gamma=0.3)
    codes = codes_of(maps, "avg")
    rows = codes
    for _, step in bundle.classifier.steps[:-2]:
        rows = step.transform(rows)
    classes = np.array(bundle.classes)
    y = classes[np.arange(len(rows)) % 4]
    estimator.fit(rows, y)
    expected = np.zeros((len(rows), 4))
    for k, j in itertools.permutations(range(4), 2):
        pair = np.isin(y, classes[[k, j]])
        of_two = SVC(gamma=0.3).fit(rows[pair], y[pair] == classes[k])
        expected[:, k] += of_two.decision_function(rows) / 3
    np.testing.assert_allclose(model_decision_scores(bundle, codes), expected, atol=1e-6)
    # A step aside changes no vote of scikit-learn's, and each of these numbers.
    aside = codes * (1 + 1e-3 * np.arange(codes.shape[1]) / codes.shape[1])
    assert np.abs(model_decision_scores(bundle, aside) - expected).min() > 0


# places and the constant add up


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("normalise", ["none", "l2", "centre"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("clf", LINEAR)
def test_places_and_the_intercept_are_the_decision(clf, pool, normalise, n_classes):
    """Whatever the classifier, the normalisation and the pooling; for each class."""
    maps = maps_of(["block1_conv2"])
    bundle = make_bundle(maps, pool, normalise, clf, n_classes)
    check_sum(bundle, maps, pool, normalise)


@pytest.mark.parametrize("normalise", ["l2", "centre"])
@pytest.mark.parametrize("pool", ["none", "avg", "max", "avg+max"])
def test_joined_layers_add_up(pool, normalise):
    """Each layer has a map of its own shape, and their sum on one map keeps the total."""
    maps = maps_of(JOINED)
    bundle = make_bundle(maps, pool, normalise)
    for found in check_sum(bundle, maps, pool, normalise):
        assert {layer: each.shape for layer, each in found.maps.items()} == {
            "block1_conv2": (3, 5),
            "block1_pool": (1, 2),
        }
        summed = sum_on_finest_map(found.maps)
        assert summed.shape == (3, 5)
        assert summed.sum() + found.intercept == pytest.approx(found.total, rel=1e-12)


def test_square_roots_of_flattened_codes_add_up():
    maps = maps_of(["block1_conv2"])
    check_sum(make_bundle(maps, "none", "sqrt-l2"), maps, "none", "sqrt-l2")


def test_a_network_without_hidden_layers_adds_up():
    """The head of tuned.keras has two columns for two classes: scikit-learn's number is between."""
    maps = maps_of(["block1_conv2"])
    rng = np.random.default_rng(1)
    for n_classes in (2, 3):
        bundle = make_bundle(maps, "avg", n_classes=n_classes)
        kernel, bias = rng.normal(size=(64, n_classes)), rng.normal(size=n_classes)
        bundle.classifier["decisions"].estimator = Perceptron(bundle.classes, [kernel], [bias])
        check_sum(bundle, maps, "avg", "none")


def check_sum(bundle, maps, pool, normalise):
    widths = [bundle.recipe.code_size(layer) for layer in bundle.recipe.layers]
    mean = bundle.classifier["centre"].mean_ if normalise == "centre" else None
    assert why_not_exact(bundle) is None
    sums = []
    for i in (0, 7):
        code = codes_of(maps, pool)[i]
        row, _ = normalised_by_hand(code, normalise, widths, mean)
        expected = scikit_decisions(bundle, row)
        np.testing.assert_allclose(
            model_decision_scores(bundle, code[None])[0], expected, rtol=1e-9
        )
        for k in range(len(bundle.classes)):
            found = explain_code(
                bundle, code, {x: [ImageView(each[i])] for x, each in maps.items()}, k
            )
            assert found.total == pytest.approx(expected[k], rel=1e-9, abs=1e-12)
            sums.append(found)
    return sums


# each place is the right one


@pytest.mark.parametrize("normalise", ["none", "l2"])
@pytest.mark.parametrize("pool", ["none", "avg", "grid:2"])
def test_a_place_without_activation_takes_its_contribution_away(pool, normalise):
    """With the length held, the decision falls by just what the place added."""
    maps = maps_of(["block1_conv2"], size=(5, 4))
    bundle = make_bundle(maps, pool, normalise, size=(5, 4))
    activation = maps["block1_conv2"][2]
    code = codes_of(maps, pool)[2]
    length = np.linalg.norm(code) if normalise == "l2" else 1
    estimator = bundle.classifier["decisions"].estimator
    found = explain_code(bundle, code, {"block1_conv2": [ImageView(activation)]}, 1).maps[
        "block1_conv2"
    ]
    expected = np.zeros((5, 4))
    for place in np.ndindex(5, 4):
        without = activation.copy()
        without[place] = 0
        fallen = code - plainly_pooled(without[None], pool).ravel()
        expected[place] = estimator.coef_[1] @ fallen / length
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_a_maximum_goes_to_its_place():
    """Of equal maxima the first, row by row; a mean goes where activations share in it."""
    activation = np.zeros((2, 3, 64), np.float32)
    activation[1, 2, 0] = 5  # alone
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
        bundle = make_bundle(maps, pool, n_classes=2, size=(2, 3))
        estimator = bundle.classifier["decisions"].estimator
        estimator.coef_ = np.tile(weights, len(estimator.coef_[0]) // 64)[None]
        code = codes_of(maps, pool)[0]
        for k, sign in ((1, 1), (0, -1)):
            found = explain_code(bundle, code, {"block1_conv2": [ImageView(activation)]}, k)
            np.testing.assert_allclose(found.maps["block1_conv2"], sign * np.array(expected))
            assert found.intercept == pytest.approx(sign * estimator.intercept_[0])


@pytest.mark.parametrize("pool", ["none", "avg", "max", "grid:2"])
def test_the_mean_is_subtracted_where_it_belongs(pool):
    """At its place, from the places of a cell alike, or with the maximum; dead channels evenly."""
    maps = maps_of(["block1_conv2"])
    bundle = make_bundle(maps, pool, "centre")
    # One that was not fitted on, so that a channel that is 0 in it has a mean.
    activation = maps_of(["block1_conv2"], n=1, seed=5)["block1_conv2"][0].astype(np.float64)
    bundle.classifier["centre"].mean_ += 0.001
    activation[..., 7] = 0
    mean, coef = bundle.classifier["centre"].mean_, bundle.classifier["decisions"].estimator.coef_
    code = plainly_pooled(activation[None], pool).ravel()
    length = np.linalg.norm(code)
    _, s = normalised_by_hand(code, "centre", [len(code)], mean)
    found = explain_code(bundle, code, {"block1_conv2": [ImageView(activation)]}, 2).maps[
        "block1_conv2"
    ]
    w, expected = coef[2], np.zeros(SIZE)
    n = SIZE[0] * SIZE[1]
    for place in np.ndindex(*SIZE):
        a = activation[place]
        if pool == "none":
            at = np.ravel_multi_index(place, SIZE) * 64 + np.arange(64)
            expected[place] = w[at] @ (a / length - mean[at]) / s
        elif pool == "avg":
            expected[place] = w @ (a / n / length - mean / n) / s
        elif pool == "max":
            for c in range(64):
                here = activation[..., c].argmax() == np.ravel_multi_index(place, SIZE)
                share = 1 / n if not activation[..., c].any() else here
                expected[place] += share * w[c] * (code[c] / length - mean[c]) / s
        else:
            down, across = (touched(side, 2) for side in SIZE)
            for i, j in np.ndindex(2, 2):
                if place[0] in down[i] and place[1] in across[j]:
                    size = len(down[i]) * len(across[j])
                    at = (2 * i + j) * 64 + np.arange(64)
                    expected[place] += w[at] @ (a / length - mean[at]) / size / s
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_a_coarse_map_is_spread_where_it_lies():
    """A place of block3_pool stands for 2 x 2 of block2_pool; the rest gets nothing."""
    fine, coarse = np.zeros((5, 5)), np.array([[4.0, 0], [0, 8.0]])
    found = sum_on_finest_map({"block2_pool": fine, "block3_pool": coarse})
    expected = np.zeros((5, 5))
    expected[:2, :2], expected[2:4, 2:4] = 1, 2
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("pool", "normalise", "clf", "reason"),
    [
        ("avg", "l2", "knn", "StableNeighbours is no weighted sum of the codes"),
        ("avg", "l2", "svm-rbf", "SVC is no weighted sum of the codes"),
        ("avg", "sqrt-l2", "logistic", "square roots are taken after the pooling avg"),
        ("max", "sqrt-l2", "logistic", "square roots are taken after the pooling max"),
    ],
)
def test_what_is_no_sum_is_said(pool, normalise, clf, reason):
    assert why_not_exact(make_bundle(maps_of(["block1_conv2"]), pool, normalise, clf)) == reason


def test_hidden_layers_and_dense_layers_are_no_sum():
    bundle = make_bundle(maps_of(["block1_conv2"]), "avg")
    hidden = Perceptron(bundle.classes, [np.eye(64), np.ones((64, 3))], [np.zeros(64), np.zeros(3)])
    deep = Model(Pipeline([("decisions", DecisionScores(hidden))]), bundle.recipe)
    assert why_not_exact(deep) == "a network with a hidden layer is no weighted sum of the codes"
    recipe = Recipe(weights="random:0", layers=("block1_pool", "fc1"), pool="avg")
    assert why_not_exact(replace(bundle, recipe=recipe)) == "fc1 has no places"


# from images


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """A folder with data/, stores and bundles, made with random weights."""
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
    """Label and probability are predict's, the decision is that of the stored code."""
    bundle = featx.load_model(made / f"{name}.skops")
    found = featx.explain(made / "data/val", model=bundle)
    table = featx.predict(made / "data/val", model=bundle)
    store = made / f"{name}.h5"
    layers = bundle.recipe.layers
    codes = np.hstack([featx.read_arrays(store, layer=x, split="val")[0] for x in layers])
    assert [each.path for each in found] == list(table["path"])
    assert [each.predicted for each in found] == [each.label for each in found]
    assert [each.label for each in found] == list(table["label"])
    assert {each.method for each in found} == {"exact"}
    stored = model_decision_scores(bundle, codes)
    shape, extent = ((33, 46), (33, 46)) if name == "joined" else ((8, 11), (32, 44))
    for i, each in enumerate(found):
        k = bundle.classes.index(each.label)
        assert each.decision == pytest.approx(stored[i, k], rel=1e-9)
        assert each.probability == pytest.approx(table[f"p_{each.label}"][i], rel=1e-9)
        assert each.contributions.sum() + each.constant == pytest.approx(each.decision, rel=1e-9)
        assert each.contributions.shape == shape
        assert each.extent == extent
        assert each.pixels.shape == (33, 46, 3)


VIEWS = {
    "flip": {"pool": "max", "size": 64, "flip": True},
    "flipped map": {"pool": "none", "size": 64, "flip": True},
    "flipped grid": {"pool": "grid:2", "size": 64, "flip": True},
    "crops": {"pool": "avg+max", "size": 56, "crops": 10},
    "scales": {"pool": "avg", "scale": [32, 64], "flip": True},
    "stacked": {"pool": "avg+max", "scale": [32, 64], "scales_join": "stack"},
    "stacked grid": {"pool": "grid:2", "scale": [32, 64], "scales_join": "stack", "flip": True},
}


@pytest.fixture(scope="module", params=VIEWS)
def seen(request, tmp_path_factory, make_image_folder):
    """A bundle of codes of several views, and images."""
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
    """Over all views places and constant are the decision; places are those of the image."""
    found = featx.explain(seen / "data/val", model=seen / "model.skops")
    for each in found:
        assert each.method == "exact"
        assert each.contributions.sum() + each.constant == pytest.approx(each.decision, rel=1e-9)
        height, width = each.pixels.shape[:2]
        assert each.contributions.shape == (height // 2, width // 2)
        assert each.extent == (height, width)


def test_the_mirror_image_has_the_mirrored_map(seen, tmp_path):
    """Where a code is averaged with its mirror image's, and crops and scales lie alike."""
    bundle = featx.load_model(seen / "model.skops")
    if not bundle.recipe.flip or bundle.recipe.grid or bundle.recipe.pool == "none":
        pytest.skip("the mirror image has another code")
    image = seen / "data/val/red/0.png"
    Image.open(image).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirror.png")
    one, other = featx.explain([image, tmp_path / "mirror.png"], model=bundle)
    assert one.decision == pytest.approx(other.decision, rel=1e-4)
    scale = np.abs(one.contributions).max()
    np.testing.assert_allclose(
        one.contributions[:, ::-1], other.contributions, rtol=1e-3, atol=1e-4 * scale
    )


def test_scales_of_one_size_are_explained_as_that_size(tmp_path, make_image_folder):
    """A square image at one scale is the image at that size."""
    folder = make_image_folder(tmp_path / "data")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    found = []
    for name, given in {"size": {"size": 64}, "scale": {"scale": 64}}.items():
        featx.extract(folder, layer="block2_pool", pool="avg", weights="random:0",
                      output=tmp_path / f"{name}.h5", **given)  # fmt: skip
    bundle = featx.fit(tmp_path / "size.h5", C=[10], baselines=False).model
    for recipe in (open_store(tmp_path / f"{name}.h5").recipe for name in ("size", "scale")):
        found += featx.explain(tmp_path / "a.png", model=replace(bundle, recipe=recipe))
    np.testing.assert_allclose(found[0].contributions, found[1].contributions, rtol=1e-6)


def test_views_share_a_number_as_they_have_it():
    """By hand: two crops, half the image each, one of them three times as bright."""
    recipe = Recipe(weights="random:0", layers=("block1_conv2",), pool="avg", size=(2, 2))
    recipe = replace(recipe, crops=5)
    ridge = CLASSIFIERS["ridge"].make(0).fit(np.eye(64)[:6], np.array(list("aabbab")))
    bundle = Model(Pipeline([("decisions", DecisionScores(ridge))]), recipe)
    w = ridge.coef_.ravel()
    dark, bright = np.zeros((2, 1, 64)), np.zeros((2, 1, 64))
    dark[..., 0], bright[..., 0] = 1, [[2], [4]]
    views = [ImageView(dark, (0, 0, 1, 0.5)), ImageView(bright, (0, 0.5, 1, 1))]
    code = np.zeros(64)
    code[0] = 2.0
    found = explain_code(bundle, code, {"block1_conv2": views}, 1)
    expected = 2 * w[0] * np.array([[1 / 8, 2 / 8], [1 / 8, 4 / 8]])
    np.testing.assert_allclose(found.maps["block1_conv2"], expected, rtol=1e-12)


def test_second_order_is_no_sum():
    bundle = make_bundle(maps_of(["block1_conv2"]), "avg")
    second = replace(bundle, recipe=replace(bundle.recipe, pool="bilinear"))
    assert why_not_exact(second) == "bilinear multiplies activations with each other"


def test_another_class_may_be_explained(made):
    """Its decision is another one; a class that is not there is refused with the nearest."""
    image = made / "data/val/red/0.png"
    (own,) = featx.explain(image, model=made / "max.skops")
    (other,) = featx.explain([image], model=made / "max.skops", label="blue")
    assert (own.label, other.label) == ("red", "blue")
    assert own.predicted == other.predicted == "red"
    assert other.probability < own.probability
    assert other.decision < own.decision
    assert other.contributions.sum() + other.constant == pytest.approx(other.decision)
    message = (
        "The classifier knows no class 'bleu'. Did you mean 'blue'? Expected --class with one of "
        "blue, green, red."
    )
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        featx.explain(image, model=made / "max.skops", label="bleu")


@pytest.mark.parametrize("name", ["r", "knn"])
def test_occlusion_finds_what_is_looked_at(made, tmp_path, name):
    """On a ground of the grey that is moved over it, one red square makes an image red."""
    from featx.images import PAD_COLOUR

    pixels = np.full((33, 46, 3), PAD_COLOUR, np.uint8)
    pixels[11:22, 23:35] = (200, 50, 40)  # the second cell down, second and third across
    Image.fromarray(pixels).save(tmp_path / "square.png")
    bundle = featx.load_model(made / f"{name}.skops")
    (found,) = featx.explain(tmp_path / "square.png", model=bundle, label="red", cells=3)
    assert (found.method, found.constant, dict(found.maps)) == ("occlusion", None, {})
    assert found.contributions.shape == (3, 3)
    assert found.extent == (33, 46)
    # By hand: each cell in turn is made grey in the file.
    store = tmp_path / "codes.h5"
    edges = [0, 11, 22, 33], [0, 15, 31, 46]
    (tmp_path / "cells/any").mkdir(parents=True)
    for i, j in np.ndindex(3, 3):
        picture = pixels.copy()
        picture[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1]] = PAD_COLOUR
        Image.fromarray(picture).save(tmp_path / f"cells/any/{i}{j}.png")
    recipe = {"layer": "block2_pool", "pool": "max", "size": (33, 46), "weights": "random:0"}
    featx.extract(tmp_path / "cells", output=store, **recipe)
    bundle.open_codes()
    codes, _ = featx.read_arrays(store)
    without = model_decision_scores(bundle, np.asarray(codes))[:, 2].reshape(3, 3)
    np.testing.assert_allclose(found.contributions, found.decision - without, rtol=1e-6, atol=1e-9)
    if name == "r":
        assert np.unravel_index(found.contributions.argmax(), (3, 3)) in {(1, 1), (1, 2)}
        # Grey on grey changes nothing.
        np.testing.assert_allclose(found.contributions[[0, 2]], 0, atol=1e-12)
        np.testing.assert_allclose(found.contributions[:, 0], 0, atol=1e-12)


# Keras 3.15 hands NumPy 2.4 arrays in a way that NumPy is about to retire.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("hidden", "method"), [((), "exact"), ((6,), "occlusion")])
def test_a_tuned_network_is_explained(tmp_path, hidden, method):
    """Its head is linear, or has a hidden layer; decisions are its logits."""
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
        assert each.decision == pytest.approx(logits.max(), rel=1e-4)
        if method == "exact":
            total = each.contributions.sum() + each.constant
            assert total == pytest.approx(logits.max(), rel=1e-4)
        else:
            assert each.contributions.shape == (7, 7)


def test_what_cannot_be_explained_is_refused(made, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match=r"^A store holds codes, and no images to explain\."):
        featx.explain(made / "max.h5", model=made / "max.skops")
    with pytest.raises(ImagesError, match=r"^No image, folder or store"):
        featx.explain(tmp_path / "none.png", model=made / "max.skops")
    for cells in (0, 34):
        with pytest.raises(OptionError, match=r"Expected --cells from 1 to 33\.$"):
            featx.explain(made / "data/val", model=made / "r.skops", cells=cells)


# the verb


def test_the_verb_writes_figures_and_numbers(made, tmp_path, run, monkeypatch, caplog):
    """A figure for each readable image and one file of numbers; the bad one is named."""
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
        *("figure", "path", "method", "label", "class", "decision", "constant", "probability"),
        *("shape", "extent", "contributions", "layers"),
    ]
    assert red["figure"] == "red-0.png"
    assert np.shape(red["contributions"]) == tuple(red["shape"]) == (33, 46)
    assert np.sum(red["contributions"]) + red["constant"] == pytest.approx(red["decision"])
    assert np.shape(red["layers"]["block2_pool"]) == (8, 11)


def test_the_verb_says_what_is_an_approximation(made, tmp_path, run):
    """With --json the same numbers are printed."""
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
    assert err == (
        f"error: {folder}/explain.json and 1 more exists. Use --overwrite to replace what was "
        "explained before, or another -o.\n"
    )
    assert (folder / "0.png").read_bytes() == b"mine"
    assert run(*arguments, "--overwrite")[0] == 0
    assert (folder / "0.png").read_bytes() != b"mine"
    code, _, err = run("explain", made / "max.skops", image, "-o", image)
    assert (code, "is no folder" in err) == (1, True)
    code, _, err = run("explain", made / "max.skops", image, "-o", tmp_path / "no/out")
    assert (code, str(tmp_path / "no") in err) == (1, True)


def test_only_bad_images_are_an_error(made, tmp_path, run):
    """Nothing is left behind then."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    code, _, err = run("explain", made / "max.skops", tmp_path / "bad.png", "-o", tmp_path / "out")
    assert code == 1
    assert "bad.png" in err
    assert not (tmp_path / "out").exists()


def test_one_name_twice_gets_numbers(made, tmp_path):
    """One image twice, or one name with two endings, has two figures."""
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


def test_the_figure_says_what_is_shown(made):
    """Class, probability and the sum; cells lie where the map's places do."""
    (found,) = featx.explain(made / "data/val/red/0.png", model=made / "max.skops", label="blue")
    found = replace(found, label="$x", decision=-1.25, constant=0.5, probability=0.25)
    found = replace(found, contributions=found.contributions * 0 - 1.75 / 88)
    axes = plot_explanation(found)
    assert axes.get_title("left") == (
        "for $x, probability 0.25 (predicted: red)\n"
        "decision \N{MINUS SIGN}1.25 = places \N{MINUS SIGN}1.75, constant +0.5"
    )
    assert axes.get_images()[1].get_extent() == [0, 44, 32, 0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 46), (33, 0))
    figure = explanation_figure(replace(found, method="occlusion", constant=None))
    image, heat, bar = figure.axes
    np.testing.assert_array_equal(image.get_images()[0].get_array(), found.pixels)
    assert image.get_title("left").startswith("0.png\n")
    assert heat.get_title("left").endswith("occlusion, an approximation")
    assert bar.get_ylabel() == "fall of the decision value where grey lies"


# the real weights and images


@pytest.mark.shared
@pytest.mark.parametrize(("layer", "pool"), [("block2_pool", "none"), ("block4_pool", "avg")])
def test_real_images_add_up(shared, tmp_path, layer, pool):
    """At 224 pixels with the bundled weights, to 1e-4 of the decision, and w·a by hand."""
    from featx.network import find_weights, load_backbone

    for name in ("ants", "bees"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in sorted((shared / "data/hymenoptera/train" / name).iterdir())[:6]:
            shutil.copy(file, tmp_path / "data" / name)
    store = tmp_path / "codes.h5"
    featx.extract(tmp_path / "data", layer=layer, pool=pool, output=store)
    bundle = featx.fit(store, C=[10], folds=2, baselines=False).model
    images = sorted((shared / "data/hymenoptera/val").glob("*/*.jpg"))[::70]
    estimator = bundle.classifier["decisions"].estimator
    flat = replace(bundle.recipe, pool="none")
    backbone = load_backbone(flat, find_weights("bundled", (layer,)))
    for each in featx.explain(images, model=bundle):
        sign = 1 if each.label == bundle.classes[1] else -1
        activation = backbone(each.pixels[None])[layer][0].astype(np.float64)
        code = activation.ravel() if pool == "none" else activation.mean(axis=(0, 1))
        row = code / np.linalg.norm(code)
        expected = sign * estimator.decision_function(row[None])[0]
        assert each.decision == pytest.approx(expected, rel=1e-4)
        assert each.contributions.sum() + each.constant == pytest.approx(expected, rel=1e-4)
        weights = estimator.coef_[0].reshape(-1, activation.shape[2])
        products = activation.reshape(-1, activation.shape[2]) * weights
        by_hand = products.sum(axis=1).reshape(activation.shape[:2]) / np.linalg.norm(code)
        n_places = 1 if pool == "none" else by_hand.size
        largest = np.abs(each.contributions).max()
        np.testing.assert_allclose(
            each.contributions, sign * by_hand / n_places, atol=1e-4 * largest, rtol=0
        )

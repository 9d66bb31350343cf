"""Principal components: those of scikit-learn, of the training rows alone, in small bundles."""

import json
import zipfile

import numpy as np
import pytest
from pooling import plainly_pooled
from scipy.stats import ortho_group
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from sklearn.svm import SVC, LinearSVC

from featx.codes.components import PrincipalComponents
from featx.errors import FitError, OptionError
from featx.fitting import CLASSIFIERS, fit, load_model, prepare_fit
from featx.fitting import prepare as preparing_module
from featx.fitting.attribution import ImageView, explain_code, model_decision_scores, why_not_exact
from featx.fitting.classifiers import find_classifiers
from featx.fitting.coordinates import coordinates_of
from featx.fitting.selection import search, select_classifier
from featx.fitting.single_fit import Problem, SearchSpace
from featx.report.gathering.words import bundle_commands

pytestmark = pytest.mark.usefixtures("one_thread")

K = 7
N_TRAIN, N = 45, 60
LABELS = np.array([f"class {i % 3}" for i in range(N)])
SPLITS = ["train"] * N_TRAIN + ["val"] * (N - N_TRAIN)
#: Each with what featx is to be given, and what scikit-learn is.
PLAIN = {
    "logistic": ({"C": 30.0, "tol": 1e-10}, LogisticRegression(max_iter=10_000)),
    "ridge": ({"alpha": 0.1}, RidgeClassifier()),
    "linear-svm": ({"C": 3.0, "tol": 1e-10}, LinearSVC(dual=False, max_iter=10_000)),
    "svm-rbf": ({"C": 3.0, "gamma": 0.7, "tol": 1e-8}, SVC(break_ties=True)),
    "knn": ({"n_neighbors": 5}, KNeighborsClassifier()),
    "centroid": ({}, NearestCentroid()),
    "lda": ({}, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    "sgd": ({"alpha": 1e-3}, SGDClassifier(loss="log_loss", random_state=0)),
    "logistic-l1": (
        {"C": 30.0, "tol": 1e-8, "max_iter": 100_000},
        LogisticRegression(l1_ratio=1, solver="saga", random_state=0),
    ),
}


def wide_maps(n=N, seed=0):
    """Maps of three classes, 8192 numbers each, that vary most in a few directions."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(12, 8, 8, 128))
    amounts = rng.normal(size=(n, 12)) * np.linspace(1, 0.2, 12)
    amounts[np.arange(n), np.arange(n) % 3] += 1.5
    maps = np.tensordot(amounts, directions, 1) + 0.3 * rng.normal(size=(n, 8, 8, 128))
    return np.maximum(maps + 1, 0).astype(np.float32)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, make_store):
    """Maps of 8192 numbers and their means, 128, of the same images, with splits and without."""
    folder, maps = tmp_path_factory.mktemp("stores"), wide_maps()
    codes = {"wide": maps, "narrow": maps.mean(axis=(1, 2))}
    return {
        (name, split): make_store(
            folder / f"{name}-{split}.h5",
            {"block2_pool": each},
            LABELS,
            SPLITS if split else None,
            provenance={"weights": "random:0"},
        )
        for name, each in codes.items()
        for split in (True, False)
    }


def codes_of(name, n=N, seed=0):
    maps = wide_maps(n, seed)
    return (maps.reshape(n, -1) if name == "wide" else maps.mean(axis=(1, 2))).astype(np.float64)


class Centred(PCA):
    """scikit-learn's PCA behind rows less their mean, at unit length again."""

    def fit(self, X, y=None):
        self.own_mean = X.mean(axis=0)
        return super().fit(self._own(X))

    def fit_transform(self, X, y=None):
        return self.fit(X).transform(X)

    def transform(self, X):
        return super().transform(self._own(X))

    def _own(self, X):
        return (X - self.own_mean) / np.linalg.norm(X - self.own_mean, axis=1, keepdims=True)


def plain(estimator, normalise="l2", *, whiten=False, n_components=K):
    """What a user of scikit-learn would write."""
    kind = Centred if normalise == "centre" else PCA
    before = FunctionTransformer() if normalise == "none" else Normalizer()
    pca = kind(n_components, whiten=whiten, svd_solver="full")
    return make_pipeline(before, pca, clone(estimator))


def quick(store, clf="logistic", **keywords):
    """A fit without a search and without baselines."""
    settings = keywords.pop("settings", {"C": 30.0} if clf == "logistic" else {})
    keywords = {"components": K, **keywords}
    return fit(store, clf=clf, settings=settings, baselines=False, duplicates="keep", **keywords)


def refusal(*arguments, error=OptionError, **keywords):
    with pytest.raises(error) as caught:
        prepare_fit(*arguments, duplicates="keep", **keywords)
    return str(caught.value)


# the axes


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("shape", [(20, 300), (300, 20), (20, 20)])
def test_components_are_those_of_scikit_learn(shape, whiten):
    """Of rows that were fitted and of others, apart from signs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) * np.linspace(1, 0.01, shape[1]) + 3
    further = rng.normal(size=(9, shape[1])) + 3
    ours = PrincipalComponents(6, whiten=whiten).fit(X)
    theirs = PCA(6, whiten=whiten, svd_solver="full").fit(X)
    signs = np.sign(np.einsum("ij,ij->i", ours.axes_, theirs.components_))
    np.testing.assert_allclose(ours.axes_, signs[:, None] * theirs.components_, atol=1e-10)
    np.testing.assert_allclose(ours.deviations_, theirs.explained_variance_**0.5, rtol=1e-10)
    for rows in (X, further):
        np.testing.assert_allclose(ours.transform(rows), signs * theirs.transform(rows), atol=1e-9)
    measured = ours.transform(X)
    farthest = measured[np.abs(measured).argmax(axis=0), np.arange(6)]
    assert (farthest > 0).all()


def test_turned_rows_measure_the_same():
    """Signs too, so that the span and the codes have the same components."""
    X = np.random.default_rng(1).normal(size=(30, 12)) * np.arange(1, 13)
    turn = ortho_group.rvs(12, random_state=0)
    measured = [PrincipalComponents(5).fit_transform(rows) for rows in (X, X @ turn)]
    np.testing.assert_allclose(*measured, atol=1e-10)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("d", [8, 40])
def test_what_is_rounding_measures_nothing(d, whiten):
    """Rows that vary in three directions have no fourth, and nothing is divided by nearly 0."""
    rng = np.random.default_rng(2)
    X = 1 + rng.normal(size=(20, 3)) @ rng.normal(size=(3, d))
    ours = PrincipalComponents(6, whiten=whiten).fit(X)
    assert (ours.deviations_[:3] > 0.1).all()
    assert not ours.deviations_[3:].any()
    assert not ours.axes_[3:].any()
    assert not ours.transform(rng.normal(size=(5, d)))[:, 3:].any()
    theirs = PCA(3, whiten=whiten, svd_solver="full").fit_transform(X)
    np.testing.assert_allclose(np.abs(ours.transform(X)[:, :3]), np.abs(theirs), atol=1e-9)
    same = PrincipalComponents(2, whiten=whiten).fit(np.full((9, d), 1 / 3))
    assert not same.transform(np.ones((2, d))).any()


def test_blocks_of_columns_change_nothing(monkeypatch):
    X = np.random.default_rng(3).normal(size=(15, 50))
    model = PrincipalComponents(4, whiten=True).fit(X)
    weights = np.arange(4.0)
    whole = model.transform(X), model.to_columns(weights)
    monkeypatch.setattr("featx.codes.components._BLOCK_COLUMNS", 7)
    np.testing.assert_allclose(model.transform(X), whole[0], atol=1e-13)
    np.testing.assert_allclose(model.to_columns(weights), whole[1], atol=1e-13)
    expected = model.transform(X) @ weights
    np.testing.assert_allclose((X - model.mean_) @ whole[1], expected, atol=1e-12)


def test_more_components_than_axes_are_refused():
    with pytest.raises(FitError) as caught:
        PrincipalComponents(5).fit(np.ones((5, 9)))
    assert str(caught.value) == (
        "Cannot take 5 components of 5 images of 9 numbers: there are at most 4. Use --components "
        "4 or fewer."
    )


# the same answer as plain scikit-learn on the codes


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("normalise", ["l2", "centre"])
@pytest.mark.parametrize(
    ("name", "solver"), [("wide", "gram"), ("narrow", "gram"), ("narrow", "primal")]
)
@pytest.mark.parametrize("clf", PLAIN)
def test_decisions_are_those_of_scikit_learn(stores, clf, name, solver, normalise, whiten):
    """Of images that nothing saw; also of classifiers that look at single columns, on the span."""
    given, estimator = PLAIN[clf]
    found = quick(
        stores[name, True], clf, solver=solver, normalise=normalise, whiten=whiten, settings=given
    )
    codes, further = codes_of(name)[:N_TRAIN], codes_of(name, 30, seed=5)
    theirs = plain(estimator.set_params(**given), normalise, whiten=whiten)
    theirs.fit(codes, LABELS[:N_TRAIN])
    ours = found.model.classifier[:-1].transform(further)
    if clf == "centroid":  # whose decisions are scikit-learn's own only in their order
        assert (found.model.classifier.predict(further) == theirs.predict(further)).all()
        return
    if clf == "knn":
        np.testing.assert_allclose(np.exp(ours), np.maximum(theirs.predict_proba(further), 1e-4))
        return
    expected = theirs.decision_function(further)
    np.testing.assert_allclose(ours, expected, atol=2e-6 * np.abs(expected).max())


def test_codes_as_they_are_and_their_roots(stores):
    codes, further = codes_of("wide")[:N_TRAIN], codes_of("wide", 30, seed=5)
    rooted = make_pipeline(FunctionTransformer(np.sqrt), plain(RidgeClassifier(alpha=0.1)))
    expected = {"none": plain(RidgeClassifier(alpha=0.1), "none"), "sqrt-l2": rooted}
    for normalise, theirs in expected.items():
        found = quick(stores["wide", True], "ridge", normalise=normalise, settings={"alpha": 0.1})
        theirs.fit(codes, LABELS[:N_TRAIN])
        ours = found.model.classifier[:-1].transform(further)
        np.testing.assert_allclose(ours, theirs.decision_function(further), atol=2e-6)


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_the_score_of_folds_is_that_of_scikit_learn(stores, name):
    """Each fold has axes of its own: with those of all rows the table is another."""
    codes, folds = codes_of(name), StratifiedKFold(5, shuffle=True, random_state=0)
    estimator = SVC(C=3.0, gamma=0.05, break_ties=True)
    settings = {"C": 3.0, "gamma": 0.05}
    found = quick(stores[name, False], "svm-rbf", components=30, whiten=True, settings=settings)
    theirs = plain(estimator, whiten=True, n_components=30)
    expected = confusion_matrix(LABELS, cross_val_predict(theirs, codes, LABELS, cv=folds))
    assert np.array_equal(found.evaluation.confusion, expected)
    leaked = PCA(30, whiten=True).fit_transform(Normalizer().fit_transform(codes))
    flattered = confusion_matrix(LABELS, cross_val_predict(estimator, leaked, LABELS, cv=folds))
    assert not np.array_equal(flattered, expected)


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_the_search_is_that_of_scikit_learn(stores, name):
    """Its accuracies are those of a grid search around the whole pipeline."""
    grid = [0.001, 0.03, 30.0]
    found = fit(
        stores[name, True], clf="linear-svm", C=grid, components=20, whiten=True, baselines=False,
        duplicates="keep",
    )  # fmt: skip
    theirs = plain(LinearSVC(dual=False, max_iter=10_000), whiten=True, n_components=20)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    grid_search = GridSearchCV(theirs, {"linearsvc__C": grid}, cv=folds)
    grid_search.fit(codes_of(name)[:N_TRAIN], LABELS[:N_TRAIN])
    assert found.to_dict()["tried"][0]["accuracy"] == pytest.approx(grid_search.best_score_)
    scores = grid_search.cv_results_["mean_test_score"]
    assert scores[grid.index(found.to_dict()["parameters"]["C"])] == scores.max() > scores.min()


def test_penalties_are_those_of_rows_of_that_length(stores):
    """Whitened rows have a mean squared length of K (n - 1) / n, not of 1."""
    found = fit(stores["narrow", True], components=K, whiten=True, baselines=False)
    C = found.to_dict()["parameters"]["C"] * K * (N_TRAIN - 1) / N_TRAIN
    assert 3 * np.log10(C) == pytest.approx(round(3 * np.log10(C)), abs=1e-6)


# nothing of what is held out is behind the axes


@pytest.mark.parametrize("solver", ["gram", "primal"])
def test_axes_of_a_fold_do_not_know_what_it_holds_out(stores, tmp_path, make_store, solver):
    """Held-out rows that are changed beyond recognition leave the fold's classifier as it was."""
    maps = wide_maps()
    first = prepare_fit(stores["narrow", False], duplicates="keep").scored_splits[0]
    changed = maps.mean(axis=(1, 2))
    changed[first.score_rows] = np.random.default_rng(7).random((len(first.score_rows), 128)) * 50
    other = make_store(tmp_path / "other.h5", {"block2_pool": changed}, LABELS)
    weights, kept = [], []
    for store in (stores["narrow", False], other):
        job = prepare_fit(store, components=K, whiten=True, solver=solver, duplicates="keep")
        view = coordinates_of(job)
        selected = select_classifier(view.problem, job, first)
        pipeline = view.pipeline(selected, job.space)
        weights.append(pipeline["decisions"].estimator.coef_)
        kept.append(pipeline["components"])
    np.testing.assert_allclose(kept[0].axes_, kept[1].axes_, atol=1e-6)
    np.testing.assert_allclose(kept[0].mean_, kept[1].mean_, atol=1e-10)
    np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-4)
    # and the training rows are behind them: with another fold's they are others
    second = job.scored_splits[1]
    elsewhere = view.pipeline(select_classifier(view.problem, job, second), job.space)
    assert np.abs(elsewhere["components"].axes_ - kept[0].axes_).max() > 1e-3


@pytest.mark.parametrize("normalise", ["l2", "centre"])
def test_axes_inside_the_search_are_of_its_training_parts(normalise):
    """Models of an inner fold stay when what it holds out is another."""
    X, y = codes_of("narrow"), LABELS
    pairs = list(StratifiedKFold(4, shuffle=True, random_state=0).split(X, y))
    options = SearchSpace(
        (CLASSIFIERS["logistic"],), (normalise,), (1.0,), components=K, whiten=True
    )
    _, held_out = pairs[0]
    other = X.copy()
    other[held_out] *= -5
    models = []
    for rows in (X, other):
        choice = search(Problem({normalise: rows}, y), np.arange(N), pairs, options)
        models.append(choice.tried[0].models)
    assert np.array_equal(models[0][0].front.components.axes_, models[1][0].front.components.axes_)
    assert np.array_equal(models[0][0].estimator.coef_, models[1][0].estimator.coef_)
    assert not np.array_equal(
        models[0][1].front.components.axes_, models[1][1].front.components.axes_
    )


def test_axes_of_a_fold_are_found_once(stores, monkeypatch):
    """Not for each penalty anew: five inner folds, the rows of the grid, and the fit."""
    calls = []
    own = PrincipalComponents.fit

    def spy(self, X, y=None):
        calls.append(len(X))
        return own(self, X, y)

    monkeypatch.setattr(PrincipalComponents, "fit", spy)
    fit(stores["narrow", True], components=K, baselines=False, duplicates="keep")
    assert sorted(calls) == [36] * 5 + [45] * 2


# refusals


def test_components_that_cannot_be_are_refused(stores):
    store = stores["wide", True]
    assert refusal(store, whiten=True) == (
        "--whiten divides principal components by their deviations, and there are none. Expected "
        "--components K beside it, as in --components 64 --whiten."
    )
    for count in (0, -3):
        assert refusal(store, components=count) == (
            f"No such number of components: {count}. Expected --components 1 or more."
        )
    assert refusal(store, components=3, solver="streamed") == (
        "The road streamed finds no principal components, which come from all rows at once. Leave "
        "out --components, or use --road span."
    )


@pytest.mark.parametrize(("split", "fewest"), [(True, 36), (False, 38)])
def test_too_many_components_are_refused_with_the_most(stores, split, fewest):
    """A fifth of the training part is held out inside the search, after a fifth for the score."""
    most = fewest - 1
    message = (
        f"Cannot take {most + 1} components: the smallest part that is fitted on, inside the "
        f"folds, has {fewest} images, and their mean is subtracted. Use --components {most} or "
        "fewer."
    )
    assert refusal(stores["wide", split], components=most + 1) == message
    assert quick(stores["wide", split], components=most).to_dict()["components"] == most


def test_no_more_components_than_numbers(tmp_path, make_store):
    labels = [f"class {i % 2}" for i in range(400)]
    codes = np.random.default_rng(0).random((400, 64)).astype(np.float32)
    store = make_store(tmp_path / "codes.h5", {"block1_conv1": codes}, labels)
    assert refusal(store, components=65) == (
        "Cannot take 65 components: the codes have 64 numbers. Use --components 64 or fewer."
    )
    assert prepare_fit(store, components=64, duplicates="keep").space.components == 64


def test_chosen_on_val_the_training_part_is_the_limit(tmp_path, make_store):
    splits = ["train"] * 30 + ["val"] * 15 + ["test"] * 15
    store = make_store(tmp_path / "codes.h5", {"block2_pool": wide_maps()}, LABELS, splits)
    assert "has 30 images" in refusal(store, components=30, select="val")
    assert quick(store, components=29, select="val").to_dict()["components"] == 29


def test_columns_that_are_looked_at_are_components(stores, monkeypatch):
    """8192 numbers are too many for lda; 7 components of them are not."""
    assert "these codes have 8,192" in refusal(stores["wide", True], clf="lda")
    assert quick(stores["wide", True], "lda").to_dict()["solver"] == "gram"
    monkeypatch.setattr(preparing_module, "_MOST_COLUMNS", 6)
    assert refusal(stores["wide", True], clf="lda", components=7) == (
        "lda looks at single columns, and there are 7 components: no more than 6 are of use. Use "
        "--components 6 or fewer, or use --clf logistic."
    )


def test_large_axes_are_said(stores, monkeypatch):
    note = "The axes of 7 components of 8,192 numbers are 0.00 GB of the bundle. Fewer "
    note += "--components are less."
    assert note not in prepare_fit(stores["wide", True], components=7).notes
    monkeypatch.setattr(preparing_module, "_LARGE_BYTES", 4 * 7 * 8192 - 1)
    assert note in prepare_fit(stores["wide", True], components=7).notes


def test_a_quarter_of_the_rows_may_be_fewer_than_the_components(stores):
    """Several classifiers then compete on larger shares only."""
    found = fit(
        stores["narrow", True], clf="auto", components=30, whiten=True, baselines=False,
        duplicates="keep",
    )  # fmt: skip
    tried = found.to_dict()["tried"]
    assert [each["classifier"] for each in tried] == [k.name for k in find_classifiers("auto")]
    assert {each["share"] for each in tried} == {1.0}


def test_memory_counts_the_axes():
    from featx.fitting.solvers import estimate_cost

    for name in ("primal", "gram"):
        without, less, more = (
            estimate_cost(name, 100, 400_000, 3, components=k).n_bytes for k in (0, 10, 60)
        )
        assert more - less == 4 * 50 * 400_000
        assert less > without + 4 * 10 * 400_000
    assert (
        estimate_cost("gram", 5000, 9000, 3, components=9).seconds
        > estimate_cost("gram", 5000, 9000, 3).seconds
    )


# bundles


@pytest.mark.parametrize("clf", ["knn", "svm-rbf"])
def test_a_bundle_needs_no_codes_and_is_small(stores, tmp_path, clf, make_store):
    """What compares rows compares components; axes are float32, and the mean float64."""
    store = make_store(tmp_path / "codes.h5", {"block2_pool": wide_maps()}, LABELS, SPLITS)
    path = tmp_path / "model.skops"
    found = quick(store, clf, output=path)
    store.unlink()
    after = load_model(path)
    further = codes_of("wide", 30, seed=5)
    assert after.gram is None
    assert np.array_equal(after.predict_proba(further), found.model.predict_proba(further))
    size = 8192 * (4 * K + 8)
    assert size < path.stat().st_size < size + 100_000
    quick(stores["wide", True], clf, components=None, output=path, overwrite=True)
    assert path.stat().st_size > N_TRAIN * 8192 * 4


@pytest.mark.parametrize("suffix", ["skops", "joblib"])
@pytest.mark.parametrize("clf", CLASSIFIERS)
def test_a_loaded_bundle_predicts_the_same_to_the_bit(stores, tmp_path, clf, suffix):
    path = tmp_path / f"model.{suffix}"
    found = quick(stores["wide", True], clf, whiten=True, normalise="centre", output=path)
    after = load_model(path, trust=suffix == "joblib")
    further = codes_of("wide", 30, seed=5)
    assert np.array_equal(after.predict_proba(further), found.model.predict_proba(further))
    assert list(after.classifier.named_steps) == [
        "unit", "centre", "components", "decisions", "calibration",
    ]  # fmt: skip
    components = after.classifier["components"]
    assert (components.axes_.shape, components.axes_.dtype) == ((K, 8192), np.float32)
    assert (components.mean_.shape, components.mean_.dtype) == ((8192,), np.float64)
    assert (after.summary["components"], after.summary["whiten"]) == (K, True)


@pytest.mark.parametrize("solver", ["gram", "primal"])
def test_the_same_fit_has_the_same_bits(stores, tmp_path, solver):
    """Signs and all: two files hold the same arrays."""
    arrays = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.skops"
        quick(stores["narrow", True], solver=solver, output=path)
        with zipfile.ZipFile(path) as archive:
            names = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            arrays.append(sorted(archive.read(entry) for entry in names))
    assert arrays[0] == arrays[1]


def test_without_components_nothing_is_new(stores, tmp_path):
    """Neither a step nor a type, so that earlier versions read the bundle."""
    found = quick(stores["narrow", True], components=None, output=tmp_path / "model.skops")
    assert list(found.model.classifier.named_steps) == ["unit", "decisions", "calibration"]
    assert found.to_dict()["components"] is None
    assert found.to_dict()["whiten"] is False
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert b"PrincipalComponents" not in archive.read("schema.json")


# explanations


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("normalise", ["none", "l2", "centre"])
@pytest.mark.parametrize("name", ["wide", "narrow"])
@pytest.mark.parametrize("clf", ["logistic", "ridge", "linear-svm", "centroid", "lda", "sgd"])
def test_places_and_the_intercept_are_the_decision(stores, clf, name, normalise, whiten):
    """A linear classifier of components is one of codes, and no constant is added to it."""
    bundle = quick(stores[name, True], clf, normalise=normalise, whiten=whiten).model
    maps, codes = wide_maps(4, seed=5), codes_of(name, 4, seed=5)
    assert why_not_exact(bundle) is None
    estimator = bundle.classifier["decisions"].estimator
    for i in range(4):
        expected = model_decision_scores(bundle, codes[i][None])[0]
        for k in range(3):
            found = explain_code(bundle, codes[i], {"block2_pool": [ImageView(maps[i])]}, k)
            assert found.intercept == pytest.approx(estimator.intercept_[k])
            assert found.total == pytest.approx(expected[k], abs=1e-6 * max(1, abs(expected[k])))


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_each_place_is_the_right_one(stores, name):
    """By hand: weights of components through scikit-learn's axes, times what the place has."""
    bundle = quick(stores[name, True], "ridge", whiten=True, settings={"alpha": 0.1}).model
    codes = Normalizer().fit_transform(codes_of(name)[:N_TRAIN])
    pca = PCA(K, whiten=True, svd_solver="full").fit(codes)
    coef = RidgeClassifier(alpha=0.1).fit(pca.transform(codes), LABELS[:N_TRAIN]).coef_
    weights = (coef / pca.explained_variance_**0.5) @ pca.components_
    maps = wide_maps(1, seed=5).astype(np.float64)
    code = plainly_pooled(maps, "none" if name == "wide" else "avg").ravel()
    found = explain_code(bundle, code, {"block2_pool": [ImageView(maps[0])]}, 1).maps["block2_pool"]
    of_image = maps[0] if name == "wide" else maps[0] / 64
    mean = pca.mean_.reshape(8, 8, 128) if name == "wide" else pca.mean_ / 64
    each = weights[1].reshape(8, 8, 128) if name == "wide" else weights[1]
    expected = ((of_image / np.linalg.norm(code) - mean) * each).sum(axis=2)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_one_number_of_two_classes_is_explained_for_both(tmp_path, make_store):
    labels = np.array([f"class {i % 2}" for i in range(N)])
    store = make_store(tmp_path / "codes.h5", {"block2_pool": wide_maps()}, labels, SPLITS)
    bundle = quick(store, whiten=True).model
    maps, codes = wide_maps(1, seed=5), codes_of("wide", 1, seed=5)
    expected = model_decision_scores(bundle, codes)[0]
    for k in (0, 1):
        found = explain_code(bundle, codes[0], {"block2_pool": [ImageView(maps[0])]}, k)
        assert found.total == pytest.approx(expected[k], abs=1e-6)


# the command line, and what is remembered


def test_the_command_says_what_it_did(stores, tmp_path, run):
    """In its line, in JSON, and in the command that makes the same again."""
    path = tmp_path / "model.skops"
    command = ("fit", stores["wide", True], "--components", K, "--C", 3, "--no-baselines")
    code, out, err = run(*command, "--whiten", "-o", path)
    assert code == 0, err
    line = f"logistic on block2_pool, normalise l2, {K} whitened components, C = 3"
    assert out.splitlines()[0] == line
    bundle = load_model(path)
    assert bundle.provenance["settings"]["components"] == K
    fitted = bundle_commands(path, bundle)[1].line
    assert fitted.endswith(f"--C 3 --components {K} --whiten -o {path}")
    code, out, _ = run(*command, "-o", path, "--overwrite", "--json")
    assert code == 0
    assert (json.loads(out)["components"], json.loads(out)["whiten"]) == (K, False)
    assert "--whiten" not in bundle_commands(path, load_model(path))[1].line
    code, out, _ = run(*command, "-o", path, "--overwrite")
    assert f"normalise l2, {K} components, C = 3" in out
    code, _, err = run("fit", stores["wide", True], "--whiten", "-o", path, "--overwrite")
    assert code == 1
    assert "--components" in err


def test_a_job_is_made_again_from_what_is_given(stores):
    """As a report does."""
    job = prepare_fit(stores["wide", True], components=np.int64(K), whiten=True)
    assert job.settings.stored()["components"] == K
    again = prepare_fit(stores["wide", True], **job.settings.stored())
    assert (again.space.components, again.space.whiten) == (K, True)


def test_pixels_are_judged_without_components(stores, monkeypatch):
    """The baseline is to be a good one: it finds no axes."""
    widths = []
    own = PrincipalComponents.fit

    def spy(self, X, y=None):
        widths.append(X.shape[1])
        return own(self, X, y)

    monkeypatch.setattr(PrincipalComponents, "fit", spy)
    for baselines in (False, True):
        fit(stores["narrow", True], solver="primal", C=3.0, components=2, baselines=baselines)
    assert widths == [128] * 2 * 7

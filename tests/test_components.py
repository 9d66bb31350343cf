"""Principal components: as in scikit-learn, of the training rows only, in small models."""

import json
import zipfile

import numpy as np
import pytest
from fits import CoupledSVC
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
from sklearn.svm import LinearSVC

from featx.codes.components import PrincipalComponents
from featx.errors import FitError, OptionError
from featx.fitting import CLASSIFIERS, fit, load_model, prepare_fit
from featx.fitting import prepare as preparing_module
from featx.fitting.attribution import ImageView, explain_code, model_decision_scores, why_not_exact
from featx.fitting.classifiers import find_classifiers
from featx.fitting.coordinates import coordinates_of
from featx.fitting.grid_search import Problem, SearchSpace
from featx.fitting.selection import search, select_classifier
from featx.report.gathering.descriptions import model_commands
from featx.report.gathering.fit_records import records_of

pytestmark = pytest.mark.usefixtures("one_thread")

K = 7
N_TRAIN, N = 45, 60
LABELS = np.array([f"class {i % 3}" for i in range(N)])
SPLITS = ["train"] * N_TRAIN + ["val"] * (N - N_TRAIN)
#: Parameters for featx, and the estimator of scikit-learn.
PLAIN = {
    "logistic": ({"C": 30.0, "tol": 1e-10}, LogisticRegression(max_iter=10_000)),
    "ridge": ({"alpha": 0.1}, RidgeClassifier()),
    "linear-svm": ({"C": 3.0, "tol": 1e-10}, LinearSVC(dual=False, max_iter=10_000)),
    "svm-rbf": ({"C": 3.0, "gamma": 0.7, "tol": 1e-8}, CoupledSVC()),
    "knn": ({"n_neighbors": 5}, KNeighborsClassifier()),
    "centroid": ({}, NearestCentroid()),
    "lda": ({}, LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    "sgd": ({"alpha": 1e-3}, SGDClassifier(loss="log_loss", random_state=0)),
    "logistic-l1": (
        {"C": 3.0, "tol": 1e-8, "max_iter": 100_000},
        LogisticRegression(l1_ratio=1, solver="saga", random_state=0),
    ),
}


def wide_maps(n=N, seed=0):
    """Return feature maps of three classes, with 8192 features, that vary in few directions."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(12, 8, 8, 128))
    amounts = rng.normal(size=(n, 12)) * np.linspace(1, 0.2, 12)
    amounts[np.arange(n), np.arange(n) % 3] += 1.5
    maps = np.tensordot(amounts, directions, 1) + 0.3 * rng.normal(size=(n, 8, 8, 128))
    return np.maximum(maps + 1, 0).astype(np.float32)


@pytest.fixture(scope="module")
def stores(tmp_path_factory, make_store):
    """Write stores of maps with 8192 features and of their 128 means, with and without splits."""
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
    """scikit-learn's PCA after centring rows and scaling them to unit length."""

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
    """Return the pipeline that a user of scikit-learn would write."""
    kind = Centred if normalise == "centre" else PCA
    before = FunctionTransformer() if normalise == "none" else Normalizer()
    pca = kind(n_components, whiten=whiten, svd_solver="full")
    return make_pipeline(before, pca, clone(estimator))


def quick(store, clf="logistic", **keywords):
    """Fit without a search and without baselines."""
    settings = keywords.pop("settings", {"C": 30.0} if clf == "logistic" else {})
    keywords = {"components": K, **keywords}
    return fit(store, clf=clf, settings=settings, baselines=False, duplicates="keep", **keywords)


def check_refused(match, store, **keywords):
    with pytest.raises(OptionError, match=match):
        prepare_fit(store, duplicates="keep", **keywords)


# the axes


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("shape", [(20, 300), (300, 20), (20, 20)])
def test_components_are_those_of_scikit_learn(shape, whiten):
    """Training rows and other rows have the same projections, except for signs."""
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
    projected = ours.transform(X)
    farthest = projected[np.abs(projected).argmax(axis=0), np.arange(6)]
    assert (farthest > 0).all()


def test_rotated_rows_have_the_same_projections():
    """The signs are the same, so that coordinates and codes have the same components."""
    X = np.random.default_rng(1).normal(size=(30, 12)) * np.arange(1, 13)
    turn = ortho_group.rvs(12, random_state=0)
    projected = [PrincipalComponents(5).fit_transform(rows) for rows in (X, X @ turn)]
    np.testing.assert_allclose(*projected, atol=1e-10)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("d", [8, 40])
def test_axes_of_rounding_are_zero(d, whiten):
    """Rows that vary in three directions have no fourth axis, even with whitening."""
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


def test_projections_do_not_depend_on_blocks(monkeypatch):
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
    with pytest.raises(FitError, match=r"5 .*9 .*--components is 5.*--components 4"):
        PrincipalComponents(5).fit(np.ones((5, 9)))


# the same results as scikit-learn on the codes


@pytest.mark.parametrize(
    ("name", "solver", "normalise", "whiten"),
    [
        ("wide", "gram", "l2", True),
        ("wide", "gram", "centre", False),
        ("narrow", "gram", "l2", False),
        ("narrow", "primal", "centre", True),
    ],
)
@pytest.mark.parametrize("clf", PLAIN)
def test_scores_of_new_images_are_those_of_scikit_learn(
    stores, clf, name, solver, normalise, whiten
):
    """This includes classifiers that depend on the axes, on Gram coordinates."""
    given, estimator = PLAIN[clf]
    found = quick(
        stores[name, True], clf, solver=solver, normalise=normalise, whiten=whiten, settings=given
    )
    codes, further = codes_of(name)[:N_TRAIN], codes_of(name, 30, seed=5)
    theirs = plain(estimator.set_params(**given), normalise, whiten=whiten)
    theirs.fit(codes, LABELS[:N_TRAIN])
    ours = found.model.classifier[:-1].transform(further)
    if clf == "centroid":  # scikit-learn's scores only have the same order
        assert (found.model.classifier.predict(further) == theirs.predict(further)).all()
        return
    if clf == "knn":
        np.testing.assert_allclose(np.exp(ours), np.maximum(theirs.predict_proba(further), 1e-4))
        return
    expected = theirs.decision_function(further)
    np.testing.assert_allclose(ours, expected, atol=2e-6 * np.abs(expected).max())


def test_raw_codes_and_signed_roots(stores):
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
    """Each fold has its own axes: those of all rows give another confusion matrix."""
    codes, folds = codes_of(name), StratifiedKFold(5, shuffle=True, random_state=0)
    estimator = CoupledSVC(C=3.0, gamma=0.05)
    settings = {"C": 3.0, "gamma": 0.05}
    found = quick(
        stores[name, False], "svm-rbf", components=30, whiten=True, settings=settings, repeats=1
    )
    theirs = plain(estimator, whiten=True, n_components=30)
    expected = confusion_matrix(LABELS, cross_val_predict(theirs, codes, LABELS, cv=folds))
    assert np.array_equal(found.evaluation.confusion, expected)
    leaked = PCA(30, whiten=True).fit_transform(Normalizer().fit_transform(codes))
    optimistic = confusion_matrix(LABELS, cross_val_predict(estimator, leaked, LABELS, cv=folds))
    assert not np.array_equal(optimistic, expected)


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_the_search_is_that_of_scikit_learn(stores, name):
    """Its accuracies are those of a grid search of the whole pipeline."""
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


def test_penalties_are_scaled_to_whitened_rows(stores):
    """Whitened rows have a mean squared length of K (n - 1) / n, not of 1."""
    found = fit(stores["narrow", True], clf="ridge", components=K, whiten=True, baselines=False)
    C = 1 / found.to_dict()["parameters"]["alpha"] * K * (N_TRAIN - 1) / N_TRAIN
    assert 3 * np.log10(C) == pytest.approx(round(3 * np.log10(C)), abs=1e-6)


# no leaks from held-out rows to the axes


@pytest.mark.parametrize("solver", ["gram", "primal"])
def test_axes_of_a_fold_do_not_depend_on_held_out_rows(stores, tmp_path, make_store, solver):
    """Other held-out rows do not change the classifier of the fold."""
    maps = wide_maps()
    first = prepare_fit(stores["narrow", False], duplicates="keep").scored_splits[0]
    changed = maps.mean(axis=(1, 2))
    changed[first.score_rows] = np.random.default_rng(7).random((len(first.score_rows), 128)) * 50
    other = make_store(tmp_path / "other.h5", {"block2_pool": changed}, LABELS)
    weights, kept = [], []
    for store in (stores["narrow", False], other):
        job = prepare_fit(
            store, C=[1.0], components=K, whiten=True, solver=solver, duplicates="keep"
        )
        view = coordinates_of(job)
        selected = select_classifier(view.problem, job, first)
        pipeline = view.pipeline(selected, job.space, "temperature")
        weights.append(pipeline["decisions"].estimator_.coef_)
        kept.append(pipeline["components"])
    np.testing.assert_allclose(kept[0].axes_, kept[1].axes_, atol=1e-6)
    np.testing.assert_allclose(kept[0].mean_, kept[1].mean_, atol=1e-10)
    np.testing.assert_allclose(*weights, rtol=1e-4, atol=1e-4)
    # The axes of another fold differ.
    second = job.scored_splits[1]
    other = select_classifier(view.problem, job, second)
    elsewhere = view.pipeline(other, job.space, "temperature")
    assert np.abs(elsewhere["components"].axes_ - kept[0].axes_).max() > 1e-3


@pytest.mark.parametrize("normalise", ["l2", "centre"])
def test_axes_of_an_inner_fold_do_not_depend_on_held_out_rows(normalise):
    """Other held-out rows do not change the models of the search."""
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
    first, second = ([of_rows[k] for of_rows in models] for k in (0, 1))
    assert np.array_equal(*(model.steps["components"].axes_ for model in first))
    assert np.array_equal(*(model.estimator.coef_ for model in first))
    assert not np.array_equal(*(model.steps["components"].axes_ for model in second))


def test_axes_of_a_fold_are_computed_once(stores, monkeypatch):
    """They are computed for five inner folds, the grid and the fit, not for each penalty."""
    calls = []
    own = PrincipalComponents.fit

    def spy(self, X, y=None):
        calls.append(len(X))
        return own(self, X, y)

    monkeypatch.setattr(PrincipalComponents, "fit", spy)
    fit(stores["narrow", True], clf="ridge", components=K, baselines=False, duplicates="keep")
    assert sorted(calls) == [36] * 5 + [45] * 2


# errors


def test_impossible_settings_are_refused(stores):
    store = stores["wide", True]
    check_refused("--whiten .*--components", store, whiten=True)
    for count in (0, -3):
        check_refused(f"--components .*{count}", store, components=count)
    match = "--solver streamed .*--components.*--solver gram"
    check_refused(match, store, components=3, solver="streamed")


@pytest.mark.parametrize(("split", "fewest"), [(True, 36), (False, 38)])
def test_the_largest_number_of_components_is_named(stores, split, fewest):
    """The search holds out a fifth of the training rows, of which folds hold out a fifth."""
    most = fewest - 1
    match = f"{most + 1} components: .*{fewest} images.*--components {most} "
    check_refused(match, stores["wide", split], components=most + 1)
    assert quick(stores["wide", split], components=most).to_dict()["components"] == most


def test_there_are_at_most_as_many_components_as_features(tmp_path, make_store):
    labels = [f"class {i % 2}" for i in range(400)]
    codes = np.random.default_rng(0).random((400, 64)).astype(np.float32)
    store = make_store(tmp_path / "codes.h5", {"block1_conv1": codes}, labels)
    check_refused("65 components: .*64 features.*--components 64 ", store, components=65)
    assert prepare_fit(store, components=64, duplicates="keep").space.components == 64


def test_with_select_val_the_training_set_is_the_limit(tmp_path, make_store):
    splits = ["train"] * 30 + ["val"] * 15 + ["test"] * 15
    store = make_store(tmp_path / "codes.h5", {"block2_pool": wide_maps()}, LABELS, splits)
    check_refused("30 images", store, components=30, select="val")
    assert quick(store, components=29, select="val").to_dict()["components"] == 29


def test_classifiers_with_few_columns_accept_components(stores, monkeypatch):
    """8192 features are too many for lda, but 7 components are not."""
    check_refused("8,192", stores["wide", True], clf="lda")
    assert quick(stores["wide", True], "lda").to_dict()["solver"] == "gram"
    monkeypatch.setattr("featx.fitting.solvers._MOST_FEATURES", 6)
    match = "lda .*6 .*7.*--components 6 .*--clf logistic"
    check_refused(match, stores["wide", True], clf="lda", components=7)


def test_large_axes_are_reported(stores, monkeypatch):
    def notes():
        found = prepare_fit(stores["wide", True], components=7).notes
        return [note for note in found if "8,192" in note and "--components" in note]

    assert notes() == []
    monkeypatch.setattr(preparing_module, "_LARGE_BYTES", 4 * 7 * 8192 - 1)
    assert len(notes()) == 1


def test_a_quarter_of_the_rows_may_be_too_few_for_the_components(stores):
    """Several classifiers are then compared on all rows only."""
    found = fit(
        stores["narrow", True], clf="auto", components=30, whiten=True, baselines=False,
        duplicates="keep",
    )  # fmt: skip
    tried = found.to_dict()["tried"]
    assert [each["classifier"] for each in tried] == [k.name for k in find_classifiers("auto")]
    assert {each["fraction"] for each in tried} == {1.0}


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


# models


@pytest.mark.parametrize("clf", ["knn", "svm-rbf"])
def test_a_model_with_components_is_small(stores, tmp_path, clf, make_store):
    """It compares components instead of codes; axes are float32 and the mean is float64."""
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


@pytest.mark.parametrize(
    ("clf", "suffix"), [*((clf, "skops") for clf in CLASSIFIERS), ("logistic", "joblib")]
)
def test_a_loaded_model_has_equal_predictions(stores, tmp_path, clf, suffix):
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
def test_equal_fits_have_equal_files(stores, tmp_path, solver):
    """The arrays in both files have the same bytes, signs of axes included."""
    arrays = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}.skops"
        quick(stores["narrow", True], solver=solver, output=path)
        with zipfile.ZipFile(path) as archive:
            names = [entry for entry in archive.namelist() if entry.endswith(".npy")]
            arrays.append(sorted(archive.read(entry) for entry in names))
    assert arrays[0] == arrays[1]


def test_a_model_without_components(stores, tmp_path):
    """It has no step or type for them."""
    found = quick(stores["narrow", True], components=None, output=tmp_path / "model.skops")
    assert list(found.model.classifier.named_steps) == ["unit", "decisions", "calibration"]
    assert found.to_dict()["components"] is None
    assert found.to_dict()["whiten"] is False
    with zipfile.ZipFile(tmp_path / "model.skops") as archive:
        assert b"PrincipalComponents" not in archive.read("schema.json")


# attribution


@pytest.mark.parametrize(("normalise", "whiten"), [("none", True), ("l2", False), ("centre", True)])
@pytest.mark.parametrize("name", ["wide", "narrow"])
@pytest.mark.parametrize("clf", ["logistic", "ridge", "linear-svm", "centroid", "lda", "sgd"])
def test_positions_and_the_intercept_sum_to_the_score(stores, clf, name, normalise, whiten):
    """Components do not change the intercept."""
    model = quick(stores[name, True], clf, normalise=normalise, whiten=whiten).model
    maps, codes = wide_maps(2, seed=5), codes_of(name, 2, seed=5)
    assert why_not_exact(model) is None
    estimator = model.classifier["decisions"].estimator_
    for i in range(2):
        expected = model_decision_scores(model, codes[i][None])[0]
        for k in range(3):
            found = explain_code(model, codes[i], {"block2_pool": [ImageView(maps[i])]}, k)
            assert found.intercept == pytest.approx(estimator.intercept_[k])
            total = found.maps["block2_pool"].sum() + found.intercept
            assert total == pytest.approx(expected[k], abs=1e-6 * max(1, abs(expected[k])))


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_the_contribution_of_each_position(stores, name):
    """It is the activation times a weight, from weights of components and scikit-learn's axes."""
    model = quick(stores[name, True], "ridge", whiten=True, settings={"alpha": 0.1}).model
    codes = Normalizer().fit_transform(codes_of(name)[:N_TRAIN])
    pca = PCA(K, whiten=True, svd_solver="full").fit(codes)
    coef = RidgeClassifier(alpha=0.1).fit(pca.transform(codes), LABELS[:N_TRAIN]).coef_
    weights = (coef / pca.explained_variance_**0.5) @ pca.components_
    maps = wide_maps(1, seed=5).astype(np.float64)
    code = plainly_pooled(maps, "none" if name == "wide" else "avg").ravel()
    found = explain_code(model, code, {"block2_pool": [ImageView(maps[0])]}, 1).maps["block2_pool"]
    of_image = maps[0] if name == "wide" else maps[0] / 64
    mean = pca.mean_.reshape(8, 8, 128) if name == "wide" else pca.mean_ / 64
    each = weights[1].reshape(8, 8, 128) if name == "wide" else weights[1]
    expected = ((of_image / np.linalg.norm(code) - mean) * each).sum(axis=2)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


def test_both_of_two_classes_can_be_explained(tmp_path, make_store):
    labels = np.array([f"class {i % 2}" for i in range(N)])
    store = make_store(tmp_path / "codes.h5", {"block2_pool": wide_maps()}, labels, SPLITS)
    model = quick(store, whiten=True).model
    maps, codes = wide_maps(1, seed=5), codes_of("wide", 1, seed=5)
    expected = model_decision_scores(model, codes)[0]
    for k in (0, 1):
        found = explain_code(model, codes[0], {"block2_pool": [ImageView(maps[0])]}, k)
        total = found.maps["block2_pool"].sum() + found.intercept
        assert total == pytest.approx(expected[k], abs=1e-6)


# the command line, and stored settings


def test_the_command_reports_components(stores, tmp_path, run):
    """They are printed, in the JSON output, and in the command to repeat the fit."""
    path = tmp_path / "model.skops"
    command = ("fit", stores["wide", True], "--components", K, "--C", 3, "--no-baselines")
    code, out, err = run(*command, "--whiten", "-o", path)
    assert code == 0, err
    assert f"{K} whitened components" in out
    model = load_model(path)
    assert model.provenance["settings"]["components"] == K
    fitted = model_commands(path, model.recipe, *records_of(model))["Classifier"]
    assert fitted.endswith(f"--C 3 --components {K} --whiten -o {path}")
    code, out, _ = run(*command, "-o", path, "--overwrite", "--json")
    assert code == 0
    assert (json.loads(out)["components"], json.loads(out)["whiten"]) == (K, False)
    model = load_model(path)
    commands = model_commands(path, model.recipe, *records_of(model))
    assert "--whiten" not in commands["Classifier"]
    code, out, _ = run(*command, "-o", path, "--overwrite")
    assert f"{K} components" in out
    code, _, err = run("fit", stores["wide", True], "--whiten", "-o", path, "--overwrite")
    assert code == 1
    assert "--components" in err


def test_a_job_can_be_prepared_from_its_settings(stores):
    job = prepare_fit(stores["wide", True], components=np.int64(K), whiten=True)
    assert job.settings.stored()["components"] == K
    again = prepare_fit(stores["wide", True], **job.settings.stored())
    assert (again.space.components, again.space.whiten) == (K, True)


def test_the_pixel_baseline_has_no_components(stores, monkeypatch):
    widths = []
    own = PrincipalComponents.fit

    def spy(self, X, y=None):
        widths.append(X.shape[1])
        return own(self, X, y)

    monkeypatch.setattr(PrincipalComponents, "fit", spy)
    for baselines in (False, True):
        fit(stores["narrow", True], solver="primal", C=3.0, components=2, baselines=baselines)
    assert widths == [128] * 2 * 7

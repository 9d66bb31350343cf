"""Two classes: scores of the positive class, against scikit-learn and DeLong, and its threshold."""

import itertools
import json

import numpy as np
import pytest
from fits import check_refusal, fit, make_codes
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

import featx
from featx.errors import FitError, ModelError, OptionError
from featx.fitting import prepare_fit
from featx.fitting.cross_validation import cross_validate
from featx.metrics.decisions import PositiveClass, predicted_columns, ranked_columns
from featx.metrics.intervals import Sample
from featx.metrics.two_classes import _Ranking, choose_threshold, read_threshold, score_positive

CLASSES = ("ill", "well")
ILL = PositiveClass("ill")


def draw(n, n_positive, seed=0, *, distance=1.0, decimals=None):
    """Return labels and probabilities of being ill, with ties if they are rounded."""
    rng = np.random.default_rng(seed)
    is_ill = rng.permutation(np.arange(n) < n_positive)
    p = 1 / (1 + np.exp(-rng.normal(size=n) - distance * is_ill))
    return np.where(is_ill, "ill", "well"), p if decimals is None else p.round(decimals)


def scores_of(y, p, groups=None, *, threshold=0.5, n_repeats=1, positive=ILL, **settings):
    groups = np.arange(len(y) // n_repeats) if groups is None else groups
    predicted = np.where(p >= threshold, "ill", "well")
    sample = Sample.of(len(y), groups, n_repeats, **settings)
    return score_positive(positive, y, np.column_stack([p, 1 - p]), predicted, CLASSES, sample)


def without_each(statistic, y, p, groups):
    kept = [groups != group for group in np.unique(groups)]
    return [statistic(y[rows] == "ill", p[rows]) for rows in kept]


# Scores.


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize(("n", "n_positive"), [(30, 3), (100, 50), (60, 59)])
def test_scores_equal_those_of_scikit_learn(n, n_positive, decimals):
    """ROC AUC, average precision, recall, precision and F1, with and without ties."""
    y, p = draw(n, n_positive, decimals=decimals)
    found, is_ill = scores_of(y, p), y == "ill"
    expected = {
        "roc_auc": roc_auc_score(is_ill, p),
        "average_precision": average_precision_score(is_ill, p),
        "recall": recall_score(is_ill, p >= 0.5),
        "precision": precision_score(is_ill, p >= 0.5),
        "f1": f1_score(is_ill, p >= 0.5),
    }
    for name, value in expected.items():
        assert getattr(found, name).value == pytest.approx(value, abs=1e-9), name
    assert (found.n_images, found.n_positive) == (n, n_positive)


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("size", [1, 7])
def test_each_group_is_left_out_as_if_it_were_not_there(size, decimals):
    """The jackknife's scores are scikit-learn's on the remaining images."""
    y, p = draw(60, 20, decimals=decimals)
    groups = np.random.default_rng(1).permutation(60) // size
    ranking = _Ranking(y == "ill", p, groups)
    for statistic, (_, without) in (
        (roc_auc_score, ranking.roc_auc()),
        (average_precision_score, ranking.average_precision()),
    ):
        np.testing.assert_allclose(without, without_each(statistic, y, p, groups), atol=1e-12)


def delong(y, p):
    """Return the variance of the area for independent images, by DeLong's placements."""
    ill, well = p[y == "ill"], p[y == "well"]
    order = (ill[:, None] > well) + 0.5 * (ill[:, None] == well)
    return order.mean(axis=1).var(ddof=1) / len(ill) + order.mean(axis=0).var(ddof=1) / len(well)


@pytest.mark.parametrize(("n", "n_positive"), [(400, 200), (400, 40)])
def test_the_area_has_the_interval_of_delong(n, n_positive):
    """For independent images and many errors, the width is that of DeLong's variance."""
    y, p = draw(n, n_positive, seed=2)
    low, high = scores_of(y, p).roc_auc.interval
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(delong(y, p)), rel=0.06)


def test_images_of_one_group_are_one_observation():
    """Ten copies of each image give about the interval of one copy of each."""
    y, p = draw(60, 25, seed=3)
    groups = np.repeat(np.arange(60), 10)
    once, copied = scores_of(y, p), scores_of(np.repeat(y, 10), np.repeat(p, 10), groups)
    for name in ("roc_auc", "average_precision", "recall", "precision"):
        (low, high), (low_copied, high_copied) = (
            getattr(found, name).interval for found in (once, copied)
        )
        assert high_copied - low_copied == pytest.approx(high - low, rel=0.35), name


def test_a_perfect_order_has_an_interval_of_some_length():
    """15 and 15 images in perfect order do not show that the area is 1."""
    y, p = np.repeat(CLASSES, 15), np.linspace(1, 0, 30)
    found = scores_of(y, p)
    for score in (found.roc_auc, found.average_precision):
        low, high = score.interval
        assert score.value == high == 1
        assert 0.6 < low < 0.95


def test_scores_that_are_not_defined_are_missing():
    """One class has no area, no positive image no recall, and no prediction no precision."""
    p = np.array([0.9, 0.6, 0.4])
    well = scores_of(np.array(["well"] * 3), p)
    assert (well.roc_auc, well.average_precision, well.recall, well.f1) == (None,) * 4
    assert well.precision.value == 0
    ill = scores_of(np.array(["ill"] * 3), p, threshold=0.95)
    assert (ill.roc_auc, ill.precision, ill.recall.value) == (None, None, 0)


def test_one_group_with_all_positive_images_gives_no_interval():
    """Then nothing is known about positive images of other groups."""
    y, p = draw(40, 10)
    found = scores_of(y, p, np.where(y == "ill", 0, np.arange(40) + 1))
    assert found.roc_auc.interval is found.average_precision.interval is None
    assert found.recall.interval is None


def test_repeats_are_averaged_and_do_not_narrow_the_interval():
    """The same run twice has the same scores and intervals."""
    y, p = draw(50, 20)
    once, other = scores_of(y, p), draw(50, 20, seed=1)[1]
    twice = scores_of(np.tile(y, 2), np.tile(p, 2), np.arange(50), n_repeats=2)
    assert twice.roc_auc.interval == pytest.approx(once.roc_auc.interval)
    assert (twice.n_images, twice.n_positive) == (50, 20)
    mixed = scores_of(np.tile(y, 2), np.concatenate([p, other]), np.arange(50), n_repeats=2)
    mean = np.mean([roc_auc_score(y == "ill", each) for each in (p, other)])
    assert mixed.roc_auc.value == pytest.approx(mean, abs=1e-12)
    folds = scores_of(y, p, n_folds=5)
    assert np.diff(folds.roc_auc.interval) > np.diff(once.roc_auc.interval)


def test_images_of_other_classes_are_left_out():
    """A third class is neither positive nor negative."""
    y, p = draw(40, 15)
    found = scores_of(np.append(y, "other"), np.append(p, 0.99))
    assert found.roc_auc.value == pytest.approx(scores_of(y, p).roc_auc.value)
    assert found.n_images == 40


# Labels.


def test_a_threshold_decides_labels():
    """A probability equal to the threshold is positive; without one, the larger column wins."""
    p = np.array([[0.2, 0.8], [0.5, 0.5], [0.7, 0.3]])
    assert predicted_columns(p).tolist() == [1, 0, 0]
    assert predicted_columns(p, CLASSES, "well", 0.3).tolist() == [1, 1, 1]
    assert predicted_columns(p, CLASSES, "ill", 0.7).tolist() == [1, 1, 0]
    per_row = predicted_columns(p, CLASSES, "ill", np.array([0.1, 0.9, 0.9]))
    assert per_row.tolist() == [0, 1, 1]
    assert ranked_columns(p, predicted_columns(p, CLASSES, "ill", 0.7), 2).tolist() == [
        *([1, 0], [1, 0], [0, 1])
    ]


# The choice of a threshold.


def test_thresholds_of_recall_and_precision():
    """The largest threshold that reaches a recall, the smallest that reaches a precision."""
    y, p = draw(50, 20, decimals=1)
    is_ill, groups = y == "ill", np.arange(50)
    for target, score in (("recall", recall_score), ("precision", precision_score)):
        for goal in (0.3, 0.55, 0.8, 0.95):
            reached = [t for t in np.unique(p) if score(is_ill, p >= t) >= goal]
            found = choose_threshold(read_threshold(f"{target}:{goal}"), is_ill, p, groups)
            if reached:
                assert found.value == (max(reached) if target == "recall" else min(reached))
            assert getattr(found, target).value == pytest.approx(score(is_ill, p >= found.value))


def test_a_precision_that_no_threshold_reaches_gives_the_highest():
    """The note says so, with the precision that was found."""
    is_ill, p = np.array([False, True, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    found = choose_threshold(read_threshold("precision:0.9"), is_ill, p, np.arange(4))
    assert (found.value, found.precision.value) == (0.7, pytest.approx(2 / 3))
    (note,) = found.notes("ill")
    assert "0.667" in note
    assert "0.9" in note


def test_few_positive_images_make_the_target_uncertain():
    """A note has the interval of the recall; with many positive images there is none."""
    rule = read_threshold("recall:0.9")
    for n, n_notes in ((12, 1), (1000, 0)):
        y, p = draw(2 * n, n)
        found = choose_threshold(rule, y == "ill", p, np.arange(2 * n))
        notes = found.notes("ill")
        assert len(notes) == n_notes
        for note in notes:
            assert f"{found.n_positive} " in note
            assert found.recall.ends() in note
    assert choose_threshold(read_threshold(0.4), y == "ill", p, np.arange(2000)).notes("ill") == []


@pytest.mark.parametrize(
    "text", ["recall", "recall:", "recall:1.2", "f1:0.9", "2", "-1", "nan", "recall:0"]
)
def test_thresholds_that_cannot_be_read(text):
    """The message repeats the value and has an example of each kind."""
    with pytest.raises(OptionError, match=r"--threshold .*recall:0\.95") as caught:
        read_threshold(text)
    assert text in str(caught.value)


def test_settings_that_do_not_fit_two_classes(store_of):
    """A threshold needs a positive class, which is one of exactly two."""
    store_of(["a", "b", "c"] * 10)
    check_refusal(OptionError, "--threshold 0.3", "--positive", codes="x", threshold=0.3)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, make_store):
    """A function that writes a store of two classes that overlap, and returns its path."""
    folder = tmp_path_factory.mktemp("noisy")

    def write(name, n=120, n_ill=40, seed=0, labels=None, **facts):
        rng = np.random.default_rng(seed)
        if labels is None:
            labels = np.where(rng.permutation(n) < n_ill, "ill", "well").tolist()
        codes = make_codes(["ill", "well"] * (n // 2), seed=seed)
        shift = 0.6 * np.array([label == "ill" for label in labels])[:, None]
        noise = np.random.default_rng(seed + 1).normal(size=(n, 64))
        codes = {"block1_conv1": (1 + noise + shift * (np.arange(64) < 4)).astype("f4")}
        sha256 = [f"{1000 * seed + i:064x}" for i in range(n)]
        return make_store(folder / name, codes, labels, sha256=sha256, **facts)

    return write


def test_positive_classes_that_are_refused(noisy, store_of, tmp_path):
    """More than two classes, and an unknown class, are found before the fit."""
    store_of(list("abc") * 10)
    with pytest.raises(OptionError, match=r"--positive a .*\b3: .*--labels"):
        prepare_fit(tmp_path / "codes.h5", positive="a")
    with pytest.raises(OptionError, match=r"'sick'.*--positive .*ill, well"):
        prepare_fit(noisy("refused.h5"), positive="sick")


def test_folds_choose_their_own_thresholds(noisy):
    """Each fold has one, the scores use it, and the saved model has that of all images."""
    path = noisy("folds.h5")
    fitted = fit(path, positive="ill", threshold="recall:0.9", clf="ridge")
    found = fitted.evaluation.positive
    assert len(found.thresholds) == 5
    assert found.rule == "recall:0.9"
    (row,) = [each for each in fitted.evaluation.per_class if each.label == "ill"]
    assert (found.recall.value, found.precision.value) == pytest.approx((row.recall, row.precision))
    kept = fitted.model.summary["threshold"]
    assert (fitted.model.positive.threshold, fitted.model.positive.rule) == (
        *(kept["value"], "recall:0.9"),
    )
    assert kept["recall"]["value"] >= 0.9
    assert kept["chosen_on_positive"] == 40
    plain = fit(path, positive="ill", clf="ridge")
    assert plain.evaluation.positive.roc_auc == found.roc_auc
    assert plain.evaluation.positive.recall.value < found.recall.value
    assert (plain.model.positive, plain.model.summary["threshold"]) == (PositiveClass("ill"), None)


def test_held_out_images_have_no_influence_on_their_threshold(noisy):
    """With other labels of the held-out images, the threshold of their fold is the same."""
    path = noisy("leak.h5")
    job = prepare_fit(path, positive="ill", threshold="recall:0.9", clf="ridge", duplicates="keep")
    split = job.scored_splits[0]
    before = cross_validate(job, [split]).thresholds
    job.y[split.score_rows] = np.where(job.y[split.score_rows] == "ill", "well", "ill")
    assert cross_validate(job, [split]).thresholds.tolist() == before.tolist()


def test_too_few_images_for_a_threshold(store_of):
    """No image can be held out to choose it; a number is possible."""
    path = store_of(["ill", "well", "well", "ill"], ["train", "train", "val", "val"])
    with pytest.raises(FitError, match=r"--threshold recall:0\.9 .*ill.*--threshold 0\.3"):
        fit(path, positive="ill", threshold="recall:0.9")
    assert fit(path, positive="ill", threshold=0.3).model.positive.threshold == 0.3


@pytest.fixture(scope="module")
def model(noisy, tmp_path_factory):
    """The path of a model with a threshold that changes many labels."""
    path = tmp_path_factory.mktemp("model") / "ill.skops"
    settings = {"positive": "ill", "threshold": "recall:0.95"}
    fit(noisy("train.h5", seed=5), clf="ridge", output=path, **settings)
    return path


def test_the_model_keeps_its_threshold(model, noisy, tmp_path):
    """The file has it under a key that other models do not have."""
    opened = featx.load_model(model)
    assert opened.positive.rule == "recall:0.95"
    assert featx.Model(opened.classifier, opened.recipe).positive is None
    other = featx.Model(opened.classifier, opened.recipe, positive=PositiveClass("ghost", 0.5))
    other.save(tmp_path / "other.skops")
    with pytest.raises(ModelError, match="ghost"):
        featx.load_model(tmp_path / "other.skops")


@pytest.mark.parametrize("top", [None, 1, 2])
def test_predictions_use_the_threshold(model, noisy, top):
    """The column label is ill from the threshold on, which has its own column."""
    path, threshold = noisy("new.h5", seed=6), featx.load_model(model).positive.threshold
    table = featx.predict(path, model=model, top=top)
    p = featx.predict(path, model=model)["p_ill"]
    assert table["label"].tolist() == np.where(p >= threshold, "ill", "well").tolist()
    assert np.mean((p >= threshold) != (p > 0.5)) > 0.05
    assert set(table["threshold"]) == {threshold}
    if top == 2:
        assert (table["label"] != table["label_2"]).all()
        np.testing.assert_allclose(table["p"] + table["p_2"], 1)


def test_evaluations_use_the_threshold(model, noisy, run):
    """Accuracy and confusion are those of the column label; --positive may name the other class."""
    path = noisy("test.h5", seed=7)
    table, y = featx.predict(path, model=model), featx.open_store(path).images.label
    found = featx.evaluate(path, model=model).evaluation
    assert found.accuracy.value == pytest.approx(np.mean(table["label"] == y))
    assert found.positive.roc_auc.value == pytest.approx(roc_auc_score(y == "ill", table["p_ill"]))
    threshold = featx.load_model(model).positive.threshold
    assert found.positive.thresholds == (threshold,)
    other = featx.evaluate(path, model=model, positive="well").evaluation
    assert other.accuracy == found.accuracy
    assert other.positive.thresholds == (1 - threshold,)
    assert other.positive.recall.value == pytest.approx(
        np.mean(table["label"][y == "well"] == "well")
    )
    code, out, _ = run("evaluate", str(path), "--model", str(model))
    assert code == 0
    for score in (found.positive.roc_auc, found.positive.average_precision):
        assert str(score) in out
    assert f"{threshold:.3f}" in out
    code, out, _ = run("evaluate", str(path), "--model", str(model), "--json")
    assert json.loads(out)["positive"]["thresholds"] == [threshold]
    with pytest.raises(OptionError, match=r"'sick'.*--positive"):
        featx.evaluate(path, model=model, positive="sick")


def test_a_page_shows_the_scores_and_the_threshold(model, tmp_path):
    """Its confusion matrix is that of the fit, with the thresholds of the folds."""
    page = tmp_path / "page.html"
    featx.write_report(model, output=page, heat_maps=0)
    text, opened = page.read_text(encoding="utf-8"), featx.load_model(model)
    assert "ROC AUC" in text
    assert f"{opened.summary['positive']['roc_auc']['value']:.3f}" in text
    assert f"{opened.positive.threshold:.3f}" in text
    assert "differ slightly" not in text


def test_the_command_line_takes_a_threshold(noisy, run, tmp_path):
    """The scores name the class and the rule, and info shows what the model keeps."""
    path, model = noisy("typed.h5", seed=8), tmp_path / "typed.skops"
    options = ("--positive", "ill", "--threshold", "precision:0.6", "--clf", "ridge")
    code, out, _ = run("fit", str(path), *options, "--no-baselines", "-o", str(model))
    assert code == 0
    assert any(line.startswith("ROC AUC") for line in out.splitlines())
    assert "precision:0.6" in out
    code, out, _ = run("info", str(model), "--json")
    assert json.loads(out)["positive"]["label"] == "ill"
    code, _, err = run("predict", str(path), "--model", str(model), "-o", str(tmp_path / "p.csv"))
    assert code == 0
    assert "precision:0.6" in err


def test_a_streamed_fit_chooses_its_threshold_on_the_images_that_it_holds_out(noisy):
    """The threshold is one of their probabilities."""
    fitted = fit(
        noisy("streamed.h5", n=300, n_ill=100, seed=9),
        solver="streamed",
        positive="ill",
        threshold="recall:0.8",
    )
    assert fitted.evaluation.positive.thresholds == (fitted.model.positive.threshold,)
    assert fitted.model.summary["threshold"]["recall"]["value"] >= 0.8
    assert fitted.model.summary["threshold"]["chosen_on_positive"] < 40


def test_decisions_in_words():
    """One threshold, thresholds of folds, and the more probable class."""
    texts = [
        PositiveClass("ill").decision,
        PositiveClass("ill", 0.25).decision,
        PositiveClass("ill", 0.25, "recall:0.9").decision,
    ]
    assert "0.250" in texts[1]
    assert "recall:0.9" in texts[2]
    assert all(one != other for one, other in itertools.combinations(texts, 2))

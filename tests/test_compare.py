"""`featx compare`: the difference of two models on the same images, and how many it needs."""

import json
import re
import shutil

import numpy as np
import pytest
from scipy.stats import binomtest, norm

import featx
from featx.errors import ImagesError, RecipeMismatchError
from featx.metrics.sample_size import design_effect, detectable_difference, images_needed
from featx.workflows import comparison, prepare_comparison

TINY = {"layer": "block1_pool", "pool": "avg", "weights": "random:0"}


# How many images a comparison needs.


@pytest.mark.parametrize(("difference", "discordant"), [(0.1, 0.3), (0.05, 0.1), (-0.15, 0.2)])
def test_so_many_images_show_the_difference_in_80_percent_of_cases(difference, discordant):
    """McNemar's test has this power in a simulation, or slightly more if nearly all go one way."""
    n = images_needed(difference, discordant)
    rng = np.random.default_rng(0)
    better = (discordant + abs(difference)) / 2
    counts = rng.multinomial(n, [better, discordant - better, 1 - discordant], 20_000)
    statistic = (counts[:, 0] - counts[:, 1]) / np.sqrt(counts[:, 0] + counts[:, 1])
    assert 0.78 < np.mean(np.abs(statistic) > norm.ppf(0.975)) < 0.85


def test_the_detectable_difference_is_the_inverse():
    """The difference that n images can show needs n images."""
    for n, effect in ((100, 1.0), (1000, 2.5)):
        difference = detectable_difference(n, 0.4, effect)
        assert images_needed(difference, 0.4, effect) == pytest.approx(n, abs=1)
    assert detectable_difference(3, 1.0) == 1.0


def test_copies_of_an_image_count_once():
    """The design effect of groups of equal images is their size, and never below 1."""
    rng = np.random.default_rng(0)
    gains = rng.integers(-1, 2, 200).astype(float)
    assert design_effect(np.repeat(gains, 5), np.repeat(np.arange(200), 5)) == pytest.approx(
        5, 0.02
    )
    assert design_effect(gains, np.arange(200)) == 1
    assert design_effect(np.tile([1.0, -1.0], 50), np.repeat(np.arange(50), 2)) == 1
    assert design_effect(np.zeros(10), np.arange(10) // 2) == 1


# Models on stores.


@pytest.fixture(scope="module")
def stores(tmp_path_factory, make_store):
    """A function that writes a store of noisy codes of two layers, and models of each layer."""
    folder = tmp_path_factory.mktemp("stores")
    widths = {"block1_pool": 64, "block2_pool": 128}

    def store(name, labels, start=0, layers=tuple(widths), **facts):
        codes = {}
        for k, layer in enumerate(layers):
            rng = np.random.default_rng(start + k)
            codes[layer] = rng.normal(size=(len(labels), widths[layer])).astype("f4")
            shift = (2.0 + k) * np.array([ord((label or "a")[0]) % 3 for label in labels])
            codes[layer][:, 0] += shift
        sha256 = facts.pop("sha256", [f"{start + i:064x}" for i in range(len(labels))])
        return make_store(folder / name, codes, labels, sha256=sha256, **facts)

    path = store("train.h5", list("abc") * 20)
    models = []
    for layer in widths:
        models.append(folder / f"{layer}.skops")
        featx.fit(path, layer=layer, clf="ridge", baselines=False, output=models[-1])
    return store, models


def test_the_counts_are_those_of_the_predictions(stores):
    """Accuracies, the table and the listed images follow from two tables of featx.predict."""
    store, (first, second) = stores
    labels = np.array(list("abc") * 40)
    path = store("other.h5", labels.tolist(), start=1000)
    found = featx.compare(first, second, path)
    old, new = (featx.predict(path, model=each)["label"].to_numpy() for each in (first, second))
    right = np.array([old == labels, new == labels])
    assert (found.baseline.value, found.model.value) == pytest.approx(right.mean(axis=1))
    assert found.difference.value == pytest.approx(right[1].mean() - right[0].mean())
    assert (found.n_images, found.n_groups) == (120, 120)
    table = [found.both_correct, found.only_baseline_correct]
    table += [found.only_model_correct, found.both_wrong]
    pairs = [(True, True), (True, False), (False, True), (False, False)]
    outcomes = list(zip(*right.tolist(), strict=True))
    assert table == [outcomes.count(pair) for pair in pairs]
    listed = {(each.path, each.label, each.baseline, each.model) for each in found.disagreements}
    paths = featx.open_store(path).images.path
    rows = np.flatnonzero(right[0] != right[1])
    assert listed == {(paths[i], labels[i], old[i], new[i]) for i in rows}
    # Both directions give one difference.
    back = featx.compare(second, first, path)
    assert back.difference.interval == pytest.approx(
        tuple(-x for x in found.difference.interval[::-1])
    )
    assert back.images_needed == found.images_needed


def test_a_clear_difference_needs_no_more_images(stores):
    """The sentence names the better model first, and agrees with McNemar's exact test."""
    store, (first, second) = stores
    path = store("clear.h5", list("abc") * 200, start=3000)
    found = featx.compare(first, second, path)
    n_discordant = found.only_baseline_correct + found.only_model_correct
    assert binomtest(found.only_model_correct, n_discordant).pvalue < 0.01
    assert found.difference.low > 0
    assert found.images_needed is None
    assert found.verdict.startswith(f"{second} is more accurate than {first}")
    assert featx.compare(second, first, path).verdict.startswith(f"{first} is less accurate")


def test_an_unclear_difference_says_how_many_images_settle_it(stores):
    """More than there are; the number is in the sentence."""
    store, (first, second) = stores
    path = store("unclear.h5", list("abc") * 4, start=5002)
    found = featx.compare(first, second, path)
    low, high = found.difference.interval
    assert low < 0 < high
    assert found.difference.value != 0
    assert found.images_needed > found.n_images
    assert f"{found.images_needed:,} images" in found.verdict
    assert f"{found.detectable_difference:.3f}" in found.verdict


def test_a_model_does_not_differ_from_itself(stores):
    """No image is listed, and nothing is needed."""
    store, (first, _) = stores
    path = store("same.h5", list("abc") * 10, start=6000)
    found = featx.compare(first, first, path)
    assert found.difference.value == 0
    assert (found.images_needed, found.detectable_difference) == (None, None)
    assert found.disagreements == ()
    assert found.names == ("the baseline", "the model")


def test_images_that_either_model_was_fitted_on_are_left_out(stores, tmp_path):
    """Each is counted once; if none is left, that is an error."""
    store, (first, _) = stores
    other = store("others.h5", list("abc") * 20, start=7000)
    second = featx.fit(other, layer="block2_pool", clf="ridge", baselines=False).model
    digests = [*range(3), *range(7000, 7003), *range(8000, 8006)]
    path = store(
        "mixed.h5", list("abc") * 4, start=8000, sha256=[f"{each:064x}" for each in digests]
    )
    found = featx.compare(first, second, path)
    assert found.n_images == 6
    assert any(re.search(r"6 images .*fitted on", note) for note in found.notes)
    both = [*range(3), *range(7000, 7003)]
    path = store("known.h5", list("abc") * 2, sha256=[f"{each:064x}" for each in both])
    with pytest.raises(ImagesError, match="6 images"):
        featx.compare(first, second, path)
    with pytest.raises(ImagesError, match=re.escape(str(first))):
        featx.compare(first, second, store("all.h5", list("abc") * 20))


def test_each_model_uses_the_stores_of_its_recipe(stores):
    """Two stores with one layer each give the same result as one store with both."""
    store, (first, second) = stores
    labels = list("abc") * 20
    together = featx.compare(first, second, store("both.h5", labels, start=9000))
    parts = [
        store("one.h5", labels, start=9000, layers=("block1_pool",)),
        store("two.h5", labels, start=9000),
    ]
    apart = featx.compare(first, second, parts)
    assert apart.difference == together.difference
    with pytest.raises(RecipeMismatchError, match="block2_pool"):
        featx.compare(first, second, parts[0])


def test_images_that_only_one_store_has_are_left_out(stores, make_store, tmp_path):
    """Rows are paired by path and bytes; labels must agree."""
    _, (first, second) = stores
    labels, rng = list("abc") * 10, np.random.default_rng(0)

    def other(name, width, layer, labels, start=0):
        codes = {layer: rng.normal(size=(len(labels), width)).astype("f4")}
        sha256 = [f"{start + i:064x}" for i in range(len(labels))]
        return make_store(tmp_path / name, codes, labels, sha256=sha256)

    one = other("one.h5", 64, "block1_pool", labels, 10_000)
    fewer = other("fewer.h5", 128, "block2_pool", labels[:21], 10_000)
    found = featx.compare(first, second, [one, fewer])
    assert found.n_images == 21
    assert any("9 images" in note for note in found.notes)
    wrong = other("wrong.h5", 128, "block2_pool", [*labels[:20], "a"], 10_000)
    with pytest.raises(ImagesError, match=r"1 image\b.*--labels"):
        featx.compare(first, second, [one, wrong])


def test_classes_that_a_model_does_not_know_are_named(stores):
    """They count as wrong for this model."""
    store, (first, _) = stores
    path = store("two_classes.h5", list("ab") * 20, start=11_000)
    second = featx.fit(path, layer="block2_pool", clf="ridge", baselines=False).model
    found = featx.compare(first, second, store("three.h5", list("abc") * 10, start=12_000))
    (note,) = [note for note in found.notes if "know" in note]
    assert note.startswith("the model")
    assert "10 images" in note
    assert found.only_model_correct + found.both_correct <= 20


def test_groups_widen_the_interval_and_the_number(stores):
    """Ten copies of each image say as much as one."""
    store, (first, second) = stores
    labels = list("abc") * 4
    path = store("ten.h5", labels * 10, start=5002, groups=[f"g{i % 12}" for i in range(120)])
    found = prepare_comparison(first, second, path)
    assert len(np.unique(found.baseline.groups)) == 12


def test_a_threshold_decides_the_compared_labels(stores):
    """The accuracy of a model with a threshold is that of its labels."""
    store, _ = stores
    train = store("ab.h5", list("ab") * 40, start=13_000)
    plain, shifted = (
        featx.fit(
            train, layer="block1_pool", clf="ridge", baselines=False, positive="b", threshold=each
        ).model
        for each in (None, 0.01)
    )
    path = store("ab_test.h5", list("ab") * 30, start=14_000)
    found = featx.compare(plain, shifted, path)
    label = featx.predict(path, model=shifted)["label"]
    assert found.model.value == pytest.approx(np.mean(label == list("ab") * 30))
    assert found.model.value < found.baseline.value


# Images and the command line.


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """A folder with data/, and models of two sizes that were fitted on data/train."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    for size in (32, 48):
        featx.extract(folder / "data", output=folder / f"{size}.h5", size=size, **TINY)
        output = folder / f"{size}.skops"
        featx.fit(folder / f"{size}.h5", output=output, baselines=False)
    return folder


@pytest.fixture
def run(run, monkeypatch, made):
    """Run `featx` in the folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(made)
    return run


def test_models_of_other_recipes_are_compared_on_images_and_on_both_stores(made):
    """The network runs for each model; a store of each recipe gives the same."""
    models = (made / "32.skops", made / "48.skops")
    found = featx.compare(*models, made / "data")
    assert (found.n_images, found.both_correct) == (9, 9)
    assert featx.compare(*models, [made / "32.h5", made / "48.h5"]) == found


def test_training_images_alone_are_refused_before_the_network_starts(made, monkeypatch):
    """The message names the model."""
    monkeypatch.setattr(comparison, "classified", None)
    with pytest.raises(ImagesError, match=r"32\.skops.*18"):
        featx.compare(made / "32.skops", made / "48.skops", made / "data/train")


def test_unreadable_images_are_left_out(made, tmp_path):
    """They are counted in a note."""
    (tmp_path / "red").mkdir()
    (tmp_path / "red/bad.png").write_bytes(b"no image")
    shutil.copy(made / "data/val/red/0.png", tmp_path / "red/good.png")
    found = featx.compare(made / "32.skops", made / "48.skops", tmp_path)
    assert found.n_images == 1
    assert any("1 image " in note and "read" in note for note in found.notes)
    assert found.difference.interval is None


def test_the_verb_prints_the_table_and_the_verdict(run):
    """Both accuracies, the counts and the sentence; quiet leaves out the counts."""
    typed = ("compare", "32.skops", "48.skops", "data")
    code, out, err = run(*typed)
    assert code == 0
    assert "CPU" in err
    found = featx.compare("32.skops", "48.skops", "data")
    lines = out.splitlines()
    assert lines[0].endswith("9 images")
    assert lines[-1] == found.verdict
    assert any(re.match(r"32\.skops +1\.000 ", line) for line in lines)
    assert any(re.match(r"32\.skops correct +9 +0", line) for line in lines)
    code, out, err = run(*typed, "-q")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 6
    code, out, _ = run(*typed, "--json")
    assert json.loads(out) == json.loads(json.dumps(found.to_dict()))


def test_images_that_one_model_gets_right_are_listed(stores, run):
    """Five of each kind, and --json has all of them."""
    store, (first, second) = stores
    path = store("listed.h5", list("abc") * 100, start=15_000)
    code, out, _ = run("compare", str(first), str(second), str(path))
    assert code == 0
    found = featx.compare(first, second, path)
    assert found.only_model_correct > 5
    shown = [each for each in found.disagreements if each.path in out]
    assert 5 < len(shown) <= 10
    assert f"all {found.only_model_correct}: --json" in out

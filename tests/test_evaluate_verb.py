"""`featx evaluate`: scores on images that the model was not fitted on, and notes on the rest."""

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import featx
from featx.cli.scores import print_scores
from featx.errors import ImagesError, OptionError
from featx.metrics import score_predictions
from featx.workflows import evaluation as workflow
from featx.workflows import prepare_evaluation

TINY = {"layer": "block1_pool", "pool": "avg", "size": 32, "weights": "random:0"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """A folder with data/, codes.h5 of it, and model.skops, which was fitted on data/train."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    featx.extract(folder / "data", output=folder / "codes.h5", **TINY)
    featx.fit(folder / "codes.h5", output=folder / "model.skops", baselines=False)
    return folder


@pytest.fixture
def run(run, monkeypatch, made):
    """Run `featx` in the folder; return exit code, stdout and stderr."""
    monkeypatch.chdir(made)
    return run


@pytest.fixture(scope="module")
def clouds(tmp_path_factory, make_store):
    """A function that writes a store of noisy codes, and a model that is sometimes wrong."""
    folder = tmp_path_factory.mktemp("clouds")

    def store(name, labels, start=0, **facts):
        rng = np.random.default_rng(start)
        codes = rng.normal(size=(len(labels), 64)).astype("f4")
        codes[:, 0] += 3.0 * np.array([ord((label or "a")[0]) % 3 for label in labels])
        sha256 = facts.pop("sha256", [f"{start + i:064x}" for i in range(len(labels))])
        return make_store(folder / name, {"block1_pool": codes}, labels, sha256=sha256, **facts)

    store("train.h5", list("abc") * 20)
    return store, featx.fit(folder / "train.h5", clf="ridge", baselines=False).model


# What is scored.


def test_only_images_that_were_not_fitted_on_count(made):
    """The model was fitted on train: val is the score, and train is scored separately."""
    found = featx.evaluate(made / "data", model=made / "model.skops")
    assert found.evaluation.n_images == 9
    assert found.evaluation.accuracy.value == 1
    assert (found.n_training_images, found.training_accuracy.value, found.notes) == (18, 1.0, ())
    of_store = featx.evaluate(made / "codes.h5", model=made / "model.skops")
    assert of_store.evaluation.confusion == found.evaluation.confusion
    assert of_store.evaluation.log_loss.value == pytest.approx(found.evaluation.log_loss.value)
    assert (of_store.n_training_images, of_store.training_accuracy) == (18, found.training_accuracy)


def test_the_scores_are_those_of_the_predictions(clouds):
    """The table of featx.predict has the same accuracy and log loss, and the same mistakes."""
    store, model = clouds
    labels = list("abc") * 30
    # The model was fitted on the first image, so all others are one row further down.
    sha256 = [f"{0:064x}", *(f"{1000 + i:064x}" for i in range(90))]
    path = store("other.h5", ["a", *labels], start=1000, sha256=sha256)
    table = featx.predict(path, model=model)[1:]
    found = featx.evaluate(path, model=model).evaluation
    right = np.mean(table["label"] == labels)
    assert 0.5 < right < 1
    assert found.accuracy.value == pytest.approx(right)
    expected = score_predictions(
        np.array(labels), table.filter(like="p_").to_numpy(), list("abc"), np.arange(90)
    )
    assert found.log_loss == expected.log_loss
    worst = found.confusions[0]
    wrong = table[(np.array(labels) == worst.true) & (table["label"] == worst.predicted)]
    assert len(wrong) == worst.n
    assert set(worst.paths) <= set(wrong["path"])


def test_fitted_images_are_recognised_by_their_bytes(made, tmp_path):
    """A training image with another name and label does not count."""
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        shutil.copy(made / f"data/val/{name}/0.png", tmp_path / name / "new.png")
    shutil.copy(made / "data/train/green/3.png", tmp_path / "red/renamed.png")
    found = featx.evaluate(tmp_path, model=made / "model.skops")
    assert (found.evaluation.n_images, found.evaluation.accuracy.value) == (2, 1.0)
    assert (found.n_training_images, found.training_accuracy.value) == (1, 0.0)


@pytest.mark.parametrize(
    ("inputs", "split"), [("data/train", None), ("codes.h5", "train"), ("data", "train")]
)
def test_training_images_alone_are_refused(made, monkeypatch, inputs, split):
    """This is found before the network starts, and the message counts the images."""
    monkeypatch.setattr(workflow, "probability_blocks", None)
    with pytest.raises(ImagesError, match="18"):
        featx.evaluate(made / inputs, model=made / "model.skops", split=split)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder of 24 scenes, train/ and val/, and a model of train; groups are in a table."""
    folder, rng = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    for k in range(24):
        cells = rng.integers(40, 190, (8, 8, 3), dtype=np.uint8)
        name = folder / ("train" if k < 16 else "val") / "ab"[k % 2] / f"{k}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC).save(name)
    featx.extract(folder / "train", output=folder / "codes.h5", **TINY)
    table = {"path": [f"{'ab'[k % 2]}/{k}.png" for k in range(16)]}
    table |= {"label": list("ab") * 8, "group": [f"patient {k}" for k in range(16)]}
    model = folder / "model.skops"
    featx.fit(folder / "codes.h5", labels=table, baselines=False, output=model)
    return folder


def again(folder, target, names, factor=0.8):
    """Save images again as JPEG, smaller."""
    for name in names:
        image = Image.open(folder / name)
        image = image.resize((round(factor * image.width), round(factor * image.height)))
        path = (target / name).with_suffix(".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=60)


def test_training_images_that_were_saved_again_are_not_new(scenes, tmp_path):
    """The bytes differ; --duplicates keep scores them as any other image."""
    old = [f"train/{'ab'[k % 2]}/{k}.png" for k in range(6)]
    new = [f"val/{'ab'[k % 2]}/{k}.png" for k in range(16, 24)]
    again(scenes, tmp_path / "data", [*old, *new])
    settings = {"model": scenes / "model.skops"}
    found = featx.evaluate(tmp_path / "data", **settings)
    assert (found.evaluation.n_images, found.n_training_images) == (8, 6)
    assert sum(bool(re.search("6 near-dup.*--duplicates keep", note)) for note in found.notes) == 1
    kept = featx.evaluate(tmp_path / "data", **settings, duplicates="keep")
    assert (kept.evaluation.n_images, kept.n_training_images) == (14, 0)
    featx.extract(tmp_path / "data", output=tmp_path / "again.h5", **TINY)
    of_store = featx.evaluate(tmp_path / "again.h5", **settings)
    assert (of_store.evaluation.n_images, of_store.n_training_images) == (8, 6)


def test_images_of_a_known_group_are_not_new(scenes, tmp_path):
    """Only the model knows the groups of its training images."""
    files = [str(scenes / f"val/{'ab'[k % 2]}/{k}.png") for k in range(16, 24)]
    table = {"path": files, "label": list("abababab")}
    table["group"] = ["patient 3", "patient 33", *(f"new {k}" for k in range(5)), "patient 15"]
    found = featx.evaluate(model=scenes / "model.skops", manifest=table)
    assert (found.evaluation.n_images, found.n_training_images) == (6, 2)
    assert not any("patient" in note for note in found.notes)


def test_a_split_narrows(made):
    """Images of other splits are not scored at all; a split without images is refused."""
    model = made / "model.skops"
    for inputs in ("data", "codes.h5"):
        found = featx.evaluate(made / inputs, model=model, split="val")
        assert (found.evaluation.n_images, found.n_training_images) == (9, 0)
        assert found.training_accuracy is None
        with pytest.raises(ImagesError, match=r"'test'.*train, val.*--split"):
            prepare_evaluation(made / inputs, model=model, split="test")
    with pytest.raises(ImagesError, match=r"'val'.*--split"):
        prepare_evaluation(made / "data/val", model=model, split="val")
    with pytest.raises(OptionError, match=r"'dev'.*--split"):
        prepare_evaluation(made / "data", model=model, split="dev")


def test_images_without_labels_are_refused(run):
    """The message says where labels come from, and the exit code is 1."""
    code, out, err = run("evaluate", "data/val/red")
    assert (code, out) == (1, "")
    assert {"--manifest", "--labels"} <= set(re.findall(r"--\w+", err))


def test_images_that_are_left_out_are_counted(clouds):
    """No label, no codes, an unknown class, a group that was fitted on: each has a note."""
    store, model = clouds
    path = store(
        "gaps.h5",
        [*"abcab", None, "dog", "eel", "dog", "a"],
        start=2000,
        failed={0: "empty"},
        groups=[None, "g", *[None] * 7, "g"],
        sha256=[*(f"{2000 + i:064x}" for i in range(9)), f"{0:064x}"],
    )
    found = featx.evaluate(path, model=model)
    facts = ("1 image.*label", "1 image.*codes", "1 image.*group", "3 images.*dog.*eel")
    assert len(found.notes) == len(facts)
    for note, words in zip(found.notes, facts, strict=True):
        assert re.search(words, note)
    assert (found.evaluation.n_images, found.n_training_images) == (6, 2)
    recalls = {each.label: each.recall for each in found.evaluation.per_class}
    assert (recalls["dog"], recalls["eel"]) == (0, 0)


def test_a_model_without_a_record_of_its_images_gives_a_note(clouds):
    """Nothing can be scored separately then."""
    store, model = clouds
    other = featx.Model(model.classifier, model.recipe)
    found = featx.evaluate(store("again.h5", list("abcabc"), start=3000), model=other)
    assert found.evaluation.n_images == 6
    assert len(found.notes) == 1


def test_duplicates_and_groups_are_not_independent(clouds):
    """Images with equal bytes or of one group have the same number for the intervals."""
    store, model = clouds
    path = store(
        "twins.h5",
        list("abcabc"),
        start=4000,
        sha256=[f"{4000 + i:064x}" for i in (0, 0, 1, 2, 3, 4)],
        groups=[None, None, None, "g", "g", None],
    )
    groups = prepare_evaluation(path, model=model).groups
    assert groups[0] == groups[1]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 4


def test_unreadable_images_are_left_out(made, tmp_path):
    """They are counted in a note; if nothing else is left to score, that is an error."""
    (tmp_path / "red").mkdir()
    (tmp_path / "red/bad.png").write_bytes(b"no image")
    shutil.copy(made / "data/train/red/0.png", tmp_path / "red/fitted.png")
    with pytest.raises(ImagesError, match=r"\b1 of .*other 1\b"):
        featx.evaluate(tmp_path, model=made / "model.skops")
    shutil.copy(made / "data/val/red/0.png", tmp_path / "red/good.png")
    found = featx.evaluate(tmp_path, model=made / "model.skops")
    assert (found.evaluation.n_images, found.n_training_images) == (1, 1)
    assert sum("1 image " in note for note in found.notes) == 1


def test_labels_of_a_store_come_from_a_table(made, tmp_path):
    """For image files --labels is refused, and --manifest is named."""
    table = tmp_path / "table.csv"
    rows = [f"val/{name}/{i}.png,{name}" for name in ("red", "blue") for i in range(3)]
    table.write_text("\n".join(["path,colour", *rows[:-1], "val/blue/2.png,red"]))
    model = made / "model.skops"
    found = featx.evaluate(made / "codes.h5", model=model, labels=table, label_column="colour")
    assert found.evaluation.n_images == 6
    assert found.evaluation.accuracy.value == pytest.approx(5 / 6)
    assert found.evaluation.confusions[0].paths == ("val/blue/2.png",)
    assert "21 images" in found.notes[-1]
    with pytest.raises(OptionError, match=r"--labels .*table\.csv.*--manifest"):
        prepare_evaluation(made / "data", model=model, labels=table)
    with pytest.raises(OptionError, match=r"--label-column.*--labels"):
        prepare_evaluation(made / "codes.h5", model=model, label_column="colour")


def test_a_manifest_lists_images(made, tmp_path):
    """It is used instead of a folder, not in addition to one."""
    table = tmp_path / "table.csv"
    rows = [f"{made}/data/val/{name}/0.png,{name}" for name in ("red", "blue", "green")]
    table.write_text("\n".join(["path,label", *rows]))
    found = featx.evaluate(manifest=table, model=made / "model.skops")
    assert (found.evaluation.n_images, found.evaluation.accuracy.value) == (3, 1.0)
    with pytest.raises(OptionError, match=r"INPUTS.*--manifest .*table\.csv"):
        prepare_evaluation(made / "data", manifest=table, model=made / "model.skops")
    with pytest.raises(ImagesError):
        prepare_evaluation(model=made / "model.skops")


# The command line.


def test_the_verb_prints_all_scores(run):
    """Scores with intervals, one row per class, the confusion matrix, and the fitted images."""
    code, out, err = run("evaluate", "data")
    assert code == 0
    assert "CPU" in err
    lines = out.splitlines()
    cells = [line.split() for line in lines]
    found = featx.evaluate("data").evaluation
    for score in (found.accuracy, found.balanced_accuracy, found.macro_f1, found.log_loss):
        assert any(line.endswith(str(score)) for line in lines[1:7]), score
    for name in ("blue", "green", "red"):
        assert [name, "1.00", "1.00", "0.14", "to", "1.00", "1.00", "3"] in cells
    assert ["red", "0", "0", "3"] in cells
    assert "9 images" in lines[0]
    assert "18 images" in lines[-1]
    assert lines[-1].endswith(": 1.000")  # without an interval


def test_quiet_prints_no_tables(run):
    """Only the scores are left, and nothing is written to stderr."""
    code, out, err = run("evaluate", "codes.h5", "--split", "val", "-q")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 7
    assert "precision" not in out


def test_json_is_one_object(run):
    """It has the scores, the images that were fitted on, and the notes."""
    code, out, _ = run("evaluate", "codes.h5", "--json")
    facts = json.loads(out)
    found = featx.evaluate("codes.h5")
    assert code == 0
    assert facts == found.to_dict()
    assert set(facts) == {*found.evaluation.to_dict(), "training_images", "notes"}
    assert facts["training_images"]["n_images"] == 18
    assert set(facts["training_images"]["accuracy"]) == {"value", "low", "high"}


def test_predict_prints_how_many_images_got_each_label(run, made):
    """With --top 1, too; the table may be JSON lines."""
    code, out, err = run("predict", "data/val", "--top", "1", "-o", "top.jsonl")
    (made / "top.jsonl").unlink()
    assert code == 0
    assert "top.jsonl: 9 " in out
    counts = [line.split() for line in err.splitlines()[1:]]
    assert counts == [["3", "blue"], ["3", "green"], ["3", "red"]]


def test_frequent_mistakes_are_listed_and_large_matrices_are_not_drawn(capsys):
    """The list names images; with more than 20 classes there is no confusion matrix."""
    classes = [f"class {k:02d}" for k in range(21)]
    y = np.array(classes)
    p = np.eye(21)
    p[3, [3, 5]] = 0.25, 0.75
    found = score_predictions(y, p, classes, np.arange(21), paths=[f"{k}.png" for k in range(21)])
    print_scores(found, quiet=False, comparisons=[("  majority class", "0.048")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[-1] == "0.048"
    assert any(line.startswith("top-5") for line in lines)
    assert any("21 classes" in line and "--json" in line for line in lines)
    assert any(re.search(r"1 .*class 03.*class 05.*3\.png", line) for line in lines)
    assert not any("20.png" in line for line in lines)

"""`featx evaluate`: a score of images that the classifier never saw, and words for the rest."""

import json
import re
import shutil

import numpy as np
import pytest

import featx
from featx.cli.scores import print_scores
from featx.errors import ImagesError, OptionError
from featx.metrics import score_predictions
from featx.workflows import evaluation as workflow
from featx.workflows import prepare_evaluation

TINY = {"layer": "block1_pool", "pool": "avg", "size": 32, "weights": "random:0"}


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_image_folder):
    """A folder with data/, codes.h5 of it, and model.skops, fitted on data/train alone."""
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


def refused(message, kind=ImagesError):
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


# a fit on clouds of numbers, so that some predictions are wrong


@pytest.fixture(scope="module")
def clouds(tmp_path_factory, make_store):
    """A function that writes a store of noisy codes, and a bundle fitted on one."""
    folder = tmp_path_factory.mktemp("clouds")

    def store(name, labels, start=0, **facts):
        rng = np.random.default_rng(start)
        codes = rng.normal(size=(len(labels), 64)).astype("f4")
        codes[:, 0] += 3.0 * np.array([ord((label or "a")[0]) % 3 for label in labels])
        sha256 = facts.pop("sha256", [f"{start + i:064x}" for i in range(len(labels))])
        return make_store(folder / name, {"block1_pool": codes}, labels, sha256=sha256, **facts)

    store("train.h5", list("abc") * 20)
    return store, featx.fit(folder / "train.h5", baselines=False).model


def test_images_that_were_not_fitted_on_are_scored(made):
    """Of train and val, fitted on train, val is the score; train stands apart."""
    found = featx.evaluate(made / "data", model=made / "model.skops")
    assert found.evaluation.n_images == 9
    assert found.evaluation.accuracy.value == 1
    assert (found.n_fitted_on, found.on_fitted_on.value, found.notes) == (18, 1.0, ())
    of_store = featx.evaluate(made / "codes.h5", model=made / "model.skops")
    assert of_store.evaluation.confusion == found.evaluation.confusion
    assert of_store.evaluation.log_loss.value == pytest.approx(found.evaluation.log_loss.value)
    assert (of_store.n_fitted_on, of_store.on_fitted_on) == (18, found.on_fitted_on)


def test_the_score_is_that_of_the_predictions(clouds):
    """Predictions of featx.predict, scored by hand, give the same figures; wrong ones are named."""
    store, bundle = clouds
    labels = list("abc") * 30
    # The first one was fitted on: all that follows stands one row further down.
    sha256 = [f"{0:064x}", *(f"{1000 + i:064x}" for i in range(90))]
    path = store("other.h5", ["a", *labels], start=1000, sha256=sha256)
    table = featx.predict(path, model=bundle)[1:]
    found = featx.evaluate(path, model=bundle).evaluation
    right = np.mean(table["label"] == labels)
    assert 0.5 < right < 1
    assert found.accuracy.value == pytest.approx(right)
    wanted = score_predictions(
        np.array(labels), table.filter(like="p_").to_numpy(), list("abc"), np.arange(90)
    )
    assert found.log_loss == wanted.log_loss
    worst = found.confusions[0]
    wrong = table[(np.array(labels) == worst.true) & (table["label"] == worst.predicted)]
    assert len(wrong) == worst.n
    assert set(worst.paths) <= set(wrong["path"])


def test_fitted_images_are_known_by_their_bytes(made, tmp_path):
    """A training image under another name and label is not counted, and is scored apart."""
    for name in ("red", "blue"):
        (tmp_path / name).mkdir()
        shutil.copy(made / f"data/val/{name}/0.png", tmp_path / name / "new.png")
    shutil.copy(made / "data/train/green/3.png", tmp_path / "red/renamed.png")
    found = featx.evaluate(tmp_path, model=made / "model.skops")
    assert (found.evaluation.n_images, found.evaluation.accuracy.value) == (2, 1.0)
    assert (found.n_fitted_on, found.on_fitted_on.value) == (1, 0.0)


def test_nothing_but_fitted_images_is_an_error(made):
    """A score of the training images is never given."""
    message = (
        "The classifier was fitted on every labelled image (18), so nothing is left to score. "
        "Give images that it never saw."
    )
    for inputs, split in (("data/train", None), ("codes.h5", "train"), ("data", "train")):
        with refused(message):
            prepare_evaluation(made / inputs, model=made / "model.skops", split=split)


def test_a_split_narrows(made):
    """With a split the images of others are neither scored nor scored apart."""
    for inputs in ("data", "codes.h5"):
        found = featx.evaluate(made / inputs, model=made / "model.skops", split="val")
        assert (found.evaluation.n_images, found.n_fitted_on) == (9, 0)
        assert found.on_fitted_on is None
        message = (
            "No image belongs to the split 'test'; their splits are train, val. Use another "
            "--split."
        )
        with refused(message):
            prepare_evaluation(made / inputs, model=made / "model.skops", split="test")
    message = "No image belongs to the split 'val'; they have no splits. Use another --split."
    with refused(message):
        prepare_evaluation(made / "data/val", model=made / "model.skops", split="val")


def test_images_without_labels_are_refused(made):
    """Where no image has a label the message says where labels come from."""
    message = (
        "No image has a label, so there is nothing to compare with. Labels come from class "
        "folders (data/CLASS/… or data/train/CLASS/…), from a table that lists images "
        "(--manifest TABLE) or, for a store, from one of its paths (--labels TABLE)."
    )
    with refused(message):
        prepare_evaluation(made / "data/val/red", model=made / "model.skops")


def test_what_is_left_out_is_counted(clouds):
    """No label, no codes, an unknown label and a group that was fitted on: each is said."""
    store, bundle = clouds
    path = store(
        "gaps.h5",
        [*"abcab", None, "dog", "eel", "dog", "a"],
        start=2000,
        failed={0: "empty"},
        groups=[None, "g", *[None] * 7, "g"],
        sha256=[*(f"{2000 + i:064x}" for i in range(9)), f"{0:064x}"],
    )
    found = featx.evaluate(path, model=bundle)
    assert found.notes == (
        "1 image without a label left out.",
        "1 image without codes left out.",
        "1 image of the group of an image that was fitted on: the score may flatter.",
        "3 images of classes that the classifier does not know (dog, eel): they count as wrong.",
    )
    assert (found.evaluation.n_images, found.n_fitted_on) == (7, 1)
    recalls = {each.label: each.recall for each in found.evaluation.per_class}
    assert (recalls["dog"], recalls["eel"]) == (0, 0)


def test_a_bundle_that_does_not_know_its_images_says_so(clouds):
    """Without the hashes of the fitted images nothing can be kept apart: a note says it."""
    store, bundle = clouds
    other = featx.Model(bundle.classifier, bundle.recipe)
    found = featx.evaluate(store("again.h5", list("abc"), start=3000), model=other)
    said = "The bundle does not say what it was fitted on: the score may flatter."
    assert found.notes == (said,)


def test_copies_and_groups_are_drawn_together(clouds):
    """Images of equal bytes or of one group share a key of the bootstrap; others have their own."""
    store, bundle = clouds
    path = store(
        "twins.h5",
        list("abcabc"),
        start=4000,
        sha256=[f"{4000 + i:064x}" for i in (0, 0, 1, 2, 3, 4)],
        groups=[None, None, None, "g", "g", None],
    )
    keys = prepare_evaluation(path, model=bundle).groups
    assert keys[0] == keys[1]
    assert keys[3] == keys[4]
    assert len(set(keys)) == 4


def test_unreadable_images_are_left_out(made, tmp_path):
    """A bad file is counted; where no other is left that is an error, not a score of nothing."""
    (tmp_path / "red").mkdir()
    (tmp_path / "red/bad.png").write_bytes(b"no image")
    shutil.copy(made / "data/train/red/0.png", tmp_path / "red/fitted.png")
    message = (
        "The classifier was fitted on 1 image of these, and 1 other could not be read, so nothing "
        "is left to score. Give images that it never saw."
    )
    with refused(message):
        featx.evaluate(tmp_path, model=made / "model.skops")
    shutil.copy(made / "data/val/red/0.png", tmp_path / "red/good.png")
    found = featx.evaluate(tmp_path, model=made / "model.skops")
    assert (found.evaluation.n_images, found.n_fitted_on) == (1, 1)
    assert found.notes == ("1 image that cannot be read left out.",)


def test_labels_of_a_store_come_from_a_table(made, tmp_path):
    """--labels gives a store's images other labels; for files it is refused, with the way to go."""
    table = tmp_path / "table.csv"
    rows = [f"val/{name}/{i}.png,{name}" for name in ("red", "blue") for i in range(3)]
    table.write_text("\n".join(["path,colour", *rows[:-1], "val/blue/2.png,red"]))
    found = featx.evaluate(
        made / "codes.h5", model=made / "model.skops", labels=table, label_column="colour"
    )
    assert found.evaluation.n_images == 6
    assert found.evaluation.accuracy.value == pytest.approx(5 / 6)
    assert found.evaluation.confusions[0].paths == ("val/blue/2.png",)
    assert found.notes[-1] == "21 images without a label left out."
    message = (
        f"--labels {table} gives labels to the images of a store. For image files, list them with "
        "their labels in a table of its own: --manifest TABLE"
    )
    with refused(message, OptionError):
        prepare_evaluation(made / "data", model=made / "model.skops", labels=table)
    message = (
        "--label-column, --split-column and --group-column name columns of a table. Use them with "
        "--labels TABLE."
    )
    with refused(message, OptionError):
        prepare_evaluation(made / "codes.h5", model=made / "model.skops", label_column="colour")


def test_a_manifest_lists_images(made, tmp_path):
    """A table of images stands for a folder, and not beside one."""
    table = tmp_path / "table.csv"
    rows = [f"{made}/data/val/{name}/0.png,{name}" for name in ("red", "blue", "green")]
    table.write_text("\n".join(["path,label", *rows]))
    found = featx.evaluate(manifest=table, model=made / "model.skops")
    assert (found.evaluation.n_images, found.evaluation.accuracy.value) == (3, 1.0)
    message = "Images come from INPUT or from --manifest, not from both. Leave one of them out."
    with refused(message, OptionError):
        prepare_evaluation(made / "data", manifest=table, model=made / "model.skops")
    with refused("No images, folder or store was given."):
        prepare_evaluation(model=made / "model.skops")


def test_no_network_is_loaded_for_what_is_refused(made, monkeypatch):
    """What cannot be scored is said before the network starts."""
    monkeypatch.setattr(workflow, "probability_blocks", None)
    with pytest.raises(ImagesError):
        featx.evaluate(made / "data/train", model=made / "model.skops")


# the command line


def test_the_verb_prints_scores(run):
    """featx evaluate prints each score with its interval, tables, and the fitted images apart."""
    code, out, err = run("evaluate", "data")
    assert (code, err.count("\n"), "CPU (tensorflow)" in err) == (0, 1, True)
    first, *lines = out.splitlines()
    last = lines.pop()
    assert re.match("model.skops: .* 9 images$", first)
    assert "18 images" in last
    assert "1.000 (95 % interval 0.824 to 1.000)" in last
    assert lines[:3] == [
        "accuracy           1.000 (95 % interval 0.701 to 1.000)",
        "balanced accuracy  1.000 (95 % interval 1.000 to 1.000)",
        "macro F1           1.000 (95 % interval 1.000 to 1.000)",
    ]
    interval = r"\d\.\d{3} \(95 % interval \d\.\d{3} to \d\.\d{3}\)"
    names = ("log loss         ", "Brier score      ", "calibration error")
    for line, name, end in zip(lines[3:6], names, ("", "", ", 15 bins"), strict=True):
        assert re.fullmatch(f"{name}  {interval}{end}", line), line
    assert lines[6:] == [
        "",
        "class  precision  recall  95 % interval    F1  images",
        "blue        1.00    1.00   0.44 to 1.00  1.00       3",
        "green       1.00    1.00   0.44 to 1.00  1.00       3",
        "red         1.00    1.00   0.44 to 1.00  1.00       3",
        "",
        "true \\ predicted  blue  green  red",
        "blue                 3      0    0",
        "green                0      3    0",
        "red                  0      0    3",
        "",
    ]


def test_quiet_prints_no_tables(run):
    """With --quiet there are the scores, and stderr is empty."""
    code, out, err = run("evaluate", "codes.h5", "--split", "val", "-q")
    assert (code, err) == (0, "")
    assert [line.split("  ")[0] for line in out.splitlines()[1:]] == [
        *("accuracy", "balanced accuracy", "macro F1"),
        *("log loss", "Brier score", "calibration error"),
    ]


def test_json_is_one_object(run):
    """--json gives the evaluation, the fitted images and the notes."""
    code, out, _ = run("evaluate", "codes.h5", "--json")
    facts = json.loads(out)
    found = featx.evaluate("codes.h5")
    assert code == 0
    assert facts == found.to_dict()
    assert set(facts) == {*found.evaluation.to_dict(), "fitted_on", "notes"}
    assert facts["fitted_on"]["n_images"] == 18
    assert set(facts["fitted_on"]["accuracy"]) == {"value", "low", "high"}


def test_no_labels_exit_with_1(run):
    """Without labels the verb prints an error and exits with 1."""
    code, out, err = run("evaluate", "data/val/red")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert "--manifest" in err


def test_predict_gives_the_most_probable(run, made):
    """featx predict --top 1 -o NAME.jsonl writes a label a line; its summary counts labels."""
    code, out, err = run("predict", "data/val", "--top", "1", "-o", "top.jsonl")
    (made / "top.jsonl").unlink()
    assert (code, out) == (0, "top.jsonl: 9 predictions\n")
    assert err.splitlines()[1:] == [f"  {3:6} blue", f"  {3:6} green", f"  {3:6} red"]


def test_mistakes_are_named_and_many_classes_are_not_drawn(capsys):
    """The worst confusions come with images; of more than 20 classes there is no matrix."""
    classes = [f"class {k:02d}" for k in range(21)]
    y = np.array(classes)
    p = np.eye(21)
    p[3, [3, 5]] = 0.25, 0.75
    found = score_predictions(y, p, classes, np.arange(21), paths=[f"{k}.png" for k in range(21)])
    print_scores(found, quiet=False, beside=[("  majority class", "0.048")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  majority class   0.048"
    assert lines[7].startswith("top-5 accuracy     1.000 (95 % interval ")
    assert re.search("21 .*--json", lines[-5])
    assert re.fullmatch(r"  1 .*class 03.*class 05.*3\.png", lines[-2])

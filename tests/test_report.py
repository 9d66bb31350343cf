"""The report: its contents, and a page that shows them safely and with a bounded size."""

import dataclasses
import json
import re
import shlex
import shutil
from html.parser import HTMLParser
from pathlib import Path

import h5py
import numpy as np
import pytest
from pages import (
    HOSTILE_LABELS,
    HOSTILE_PATHS,
    hostile_model,
    hostile_store,
    sweep_facts,
    tuning_facts,
)
from PIL import Image

import featx
from featx.errors import ExistsError, ModelError, OptionError
from featx.fitting import prepare_fit
from featx.fitting.attribution import model_decision_scores
from featx.fitting.cross_validation import cross_validate
from featx.metrics.evaluation import score_predictions
from featx.report import ReportSettings, prepare_report, run_report, write_report
from featx.report.contents import CodeMap, Contents, ImageResults, Images, Missing
from featx.report.gathering.heat_maps import run_heat_maps
from featx.report.gathering.sources import find_source, gather
from featx.report.page import render
from featx.report.page_images import MAX_IMAGES_PER_CELL, MAX_THUMBNAILS, images_to_look_at

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Reader(HTMLParser):
    """Read a page: its text, ids, elements and data; its elements must be balanced."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.stack, self.ids, self.text, self.elements, self.data = [], [], [], [], ""
        self.feed(text)
        self.close()
        assert not self.stack, self.stack

    def handle_starttag(self, tag, attrs):
        self._note(tag, attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._note(tag, attrs)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "script" and not self.data:
            self.data = data
        elif not self.stack or self.stack[-1] not in {"style", "script"}:
            self.text.append(data)

    def _note(self, tag, attrs):
        found = dict(attrs)
        assert len(found) == len(attrs), f"an attribute twice in {attrs}"
        self.elements.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())

    def has(self, id_):
        return id_ in self.ids


def read(text):
    """Read a page, and check what holds for every page."""
    page = Reader(text)
    assert len(page.ids) == len(set(page.ids))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert tag not in {"iframe", "object", "embed", "link", "base", "form", "b onclick"}
        for name in ("href", "xlink:href", "src", "action"):
            assert attributes.get(name, "#").startswith(("#", "data:image/")), attributes
    scripts = [a for tag, a in page.elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    assert "://" not in re.sub(r'xmlns(:\w+)?="http://www.w3.org/[\w/]+"', "", text)
    assert not re.findall(r"url\((?![\"']?(?:#|data:image/jpeg;base64,))", text)
    targets = {a["href"][1:] for tag, a in page.elements if tag == "a"}
    assert targets <= set(page.ids)
    for section in re.findall(r"<section.*?</section>", text, re.DOTALL):
        assert len(Reader(section).words.split()) > 5, section
    return page


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_store):
    return hostile_model(tmp_path_factory.mktemp("hostile"), make_store)


@pytest.fixture(scope="module")
def contents(model):
    return gather(ReportSettings(model))


@pytest.fixture(scope="module")
def text(contents):
    return render(contents)


@pytest.fixture(scope="module")
def with_splits(tmp_path_factory, make_store):
    folder = tmp_path_factory.mktemp("splits")
    return hostile_model(folder, make_store, splits=["train"] * 30 + ["val"] * 18)


# contents


def test_images_of_a_model_scored_on_folds_are_predicted_held_out(model, contents):
    results = contents.image_results
    job = prepare_fit(model.parent / "codes.h5", C=1.0, baselines=False)
    assert results.images.predicted.count(None) == 0
    found = cross_validate(job)
    assert results.evaluation.confusion == found.evaluation().confusion
    np.testing.assert_allclose(results.images.confidence, found.probabilities.max(axis=1))
    assert len(results.images.path) == len(job.rows) == 47
    assert results.unreadable == (
        ("000<img src=x onerror=alert(1)>.png", "<script>alert(5)</script>"),
    )
    assert "5 folds" in results.how


def test_settings_of_the_fit_are_those_of_the_page(contents):
    """The fit had --C: the predictions are the same, and the command has --C."""
    assert contents.image_results.evaluation.confusion == contents.evaluation.confusion
    assert contents.image_results.note == ""
    assert "--clf logistic --C 1 --repeats 1 -o" in contents.commands["Classifier"]


def test_a_command_of_a_page_makes_the_same_model(tmp_path, make_store, run):
    store = hostile_store(tmp_path / "co des.h5", make_store)
    given = {"C": [0.5, 2], "settings": {"max_iter": 77}, "class_weight": "balanced"}
    made = featx.fit(
        store, **given, folds=3, duplicates="keep", seed=3, output=tmp_path / "one.skops"
    ).to_dict()
    line = gather(ReportSettings(tmp_path / "one.skops")).commands["Classifier"]
    code, out, _ = run(*shlex.split(line)[1:], "--overwrite", "--json")
    assert code == 0
    again = json.loads(out)
    for facts in (made, again):
        del facts["seconds"], facts["gflops"]
    assert again == json.loads(json.dumps(made))


@pytest.mark.slow
def test_a_note_if_predictions_are_not_those_of_the_score(tmp_path, make_store):
    """With --clf auto each fold chose a classifier; the page uses the saved one."""
    featx.fit(
        hostile_store(tmp_path / "codes.h5", make_store), clf="auto", output=tmp_path / "m.skops"
    )
    contents = gather(ReportSettings(tmp_path / "m.skops"))
    same = contents.image_results.evaluation.confusion == contents.evaluation.confusion
    assert not same
    for evaluation in (contents.image_results.evaluation, contents.evaluation):
        assert f"{evaluation.accuracy.value:.3f}" in contents.image_results.note


def test_images_of_a_split_are_predicted_by_the_model_itself(with_splits):
    contents = gather(ReportSettings(with_splits))
    results, summary = contents.image_results, featx.load_model(with_splits).summary
    assert [list(row) for row in results.evaluation.confusion] == summary["confusion"]
    assert results.note == ""
    assert sum(label is not None for label in results.images.predicted) == 18
    assert "val" in results.how
    assert contents.evaluation.to_dict() == {
        key: summary[key] for key in contents.evaluation.to_dict()
    }


def test_a_model_that_saw_the_scored_images_does_not_predict_them(tmp_path, make_store):
    store = hostile_store(tmp_path / "codes.h5", make_store, splits=["train"] * 30 + ["val"] * 18)
    featx.fit(store, refit="all", output=tmp_path / "all.skops")
    apart = featx.fit(store, output=tmp_path / "apart.skops")
    results = gather(ReportSettings(tmp_path / "all.skops")).image_results
    assert "fitted on all images" in results.how
    assert results.evaluation.confusion == apart.evaluation.confusion


def test_missing_codes_are_named_with_a_command(with_splits, tmp_path):
    model = featx.load_model(with_splits)
    moved = dataclasses.replace(
        model, provenance={**model.provenance, "codes": [str(tmp_path / "gone.h5")]}
    )
    moved.save(tmp_path / "moved.skops")
    contents = gather(ReportSettings(tmp_path / "moved.skops"))
    assert "gone.h5" in contents.image_results.text
    assert "--codes FILE" in contents.image_results.text
    assert "featx extract" in contents.image_results.text
    page = read(render(contents))
    assert page.has("missing")
    assert page.has("confusion")  # the model has its counts
    assert not page.has("files")
    codes = [with_splits.parent / "codes.h5"]
    there = gather(ReportSettings(tmp_path / "moved.skops", codes=codes))
    assert isinstance(there.image_results, ImageResults)


@pytest.mark.parametrize("name", ["codes", "labels"])
def test_what_the_user_names_is_used_or_an_error(with_splits, tmp_path, name):
    """Codes or labels that do not exist, or are something else, leave no page."""
    (tmp_path / "other.h5").write_text("no store")
    for value in ("nope", "other.h5"):
        with pytest.raises(ModelError, match=value):
            prepare_report(with_splits, tmp_path / "page.html", **{name: tmp_path / value})


def test_the_table_of_labels_is_used_or_named(tmp_path, make_store):
    store = hostile_store(tmp_path / "codes.h5", make_store, paths=[f"{k}.png" for k in range(48)])
    rows = [f"{k}.png,{'ab'[k % 2]},{'train' if k < 30 else 'val'}" for k in range(48)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,split", *rows]))
    featx.fit(
        store, labels=tmp_path / "table.csv", split_column="split", output=tmp_path / "m.skops"
    )
    given = ReportSettings(tmp_path / "m.skops")
    assert set(gather(given).image_results.images.label) == {"a", "b"}
    (tmp_path / "table.csv").rename(tmp_path / "other.csv")
    assert "--labels TABLE" in gather(given).image_results.text
    results = gather(dataclasses.replace(given, labels=tmp_path / "other.csv")).image_results
    assert set(results.images.label) == {"a", "b"}


def test_the_map_is_the_pca_of_the_codes(with_splits):
    found = gather(ReportSettings(with_splits)).image_results.code_map
    job = prepare_fit(with_splits.parent / "codes.h5", baselines=False)
    codes = job.joined.matrix(job.rows).block(np.arange(len(job.rows)))
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    left, lengths, _ = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points), np.abs(left * lengths)[:, :2], atol=1e-6)
    np.testing.assert_allclose(
        found.explained_variance, (lengths**2 / np.sum(lengths**2))[:2], atol=1e-8
    )


@pytest.fixture
def sweep(tmp_path, make_store):
    """The folder of a sweep, made by hand: two rows, one store."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    hostile_store(folder / "32-avg.h5", make_store)
    (folder / "sweep.json").write_text(json.dumps(sweep_facts()))
    return folder


def test_a_page_about_a_sweep(sweep):
    for source in (sweep, sweep / "sweep.json"):
        contents = gather(ReportSettings(source))
    assert list(map(str, contents.sweep.rows)) == [contents.sweep.cheapest, contents.sweep.best]
    (headline, expected), (best, of_best) = contents.bars
    assert "expected accuracy on new images (nested cross-validation)" in headline
    assert "optimistic" in best
    assert (expected, of_best.interval) == (contents.sweep.expected_accuracy, None)
    assert len(contents.image_results.images.path) == 47
    page = read(render(contents))
    for name in ("sweep", "curve", "confusion", "classes", "reliability", "images", "map"):
        assert page.has(name)
    assert "Undecided <i>whether</i>." in page.words
    assert "featx finetune c" in page.words
    (sweep / "32-avg.h5").unlink()
    page = read(render(gather(ReportSettings(sweep))))
    assert "featx sweep -o" in page.words
    assert not page.has("confusion")


def test_a_page_about_a_fine_tuning(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(tuning_facts()))
    contents = gather(ReportSettings(tmp_path / "tuned.keras"))
    assert [name for name, _ in contents.bars] == [
        "fine-tuned network",
        "featx fit on fine-tuned codes",
        "linear probe (featx fit)",
        "majority class",
    ]
    page = read(render(contents))
    assert page.has("training")
    assert "Use the <probe>." in page.words
    assert "featx finetune -o" in page.words  # the command that makes what is missing


@pytest.mark.parametrize("name", ["letter.txt", "empty", "codes.h5"])
def test_other_sources_are_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(OptionError, match=rf"{name}.*featx fit CODES"):
        find_source(tmp_path / name)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other"}', '{"format": "featx-sweep"}'])
def test_a_damaged_result_is_refused_with_the_command_that_makes_it(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(ModelError, match=r"sweep\.json.*featx sweep"):
        gather(ReportSettings(tmp_path))


def test_a_model_without_a_summary_is_refused(with_splits, tmp_path):
    bare = dataclasses.replace(featx.load_model(with_splits), summary={}, provenance={})
    bare.save(tmp_path / "bare.skops")
    with pytest.raises(ModelError, match=r"bare\.skops.*featx fit"):
        gather(ReportSettings(tmp_path / "bare.skops"))


# the page


def test_every_section_of_a_model_is_there(text):
    page = read(text)
    for name in ("summary", "confusion", "classes", "reliability", "images", "map", "files"):
        assert page.has(name)
    for words in ("block1_conv1", "logistic", "featx extract IMAGES", "95 % interval", "F1"):
        assert words in page.words
    assert not page.has("missing")


def test_hostile_names_are_text_everywhere(text):
    page = read(text)
    for label in HOSTILE_LABELS:
        assert label in page.words
    shown = {image["path"] for image in json.loads(page.data)["images"]}
    for hostile in HOSTILE_PATHS[:7]:
        assert any(path.endswith(hostile) for path in shown)
    for raw in ("<img", "<script>alert", "<b onclick", "onerror=alert(1)>.png", "<!--.png"):
        assert raw not in text
    assert "1337" not in page.words
    assert not re.search("[\u202e\u2028\x1b]", text)


def test_the_policy_allows_only_the_script_of_the_page(text):
    import base64
    import hashlib

    policy = next(a["content"] for tag, a in read(text).elements if "http-equiv" in a)
    script = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "img-src data:" in policy


def test_cells_are_buttons_with_their_images(contents, text):
    page = read(text)
    cells = json.loads(page.data)["cells"]
    buttons = {
        a["data-key"]: a for _, a in page.elements if a.get("id", "").startswith("confusion-cell")
    }
    assert set(buttons) == set(cells)
    assert [a["tabindex"] for a in buttons.values()].count("0") == 1
    images = json.loads(page.data)["images"]
    labels = contents.image_results.evaluation.labels
    for key, cell in cells.items():
        row, column = map(int, key.split("-"))
        assert buttons[key]["role"] == "button"
        assert cell["n"] == contents.image_results.evaluation.confusion[row][column]
        assert len(cell["images"]) == min(cell["n"], MAX_IMAGES_PER_CELL)
        for number in cell["images"]:
            assert images[number]["label"] == labels[row]
            assert images[number]["predicted"] == labels[column]
        probabilities = [images[number]["p"] for number in cell["images"]]
        assert probabilities == sorted(probabilities, reverse=True)


def test_points_of_the_map_are_their_images(contents, text):
    page = read(text)
    images = json.loads(page.data)["images"]
    points = [a for tag, a in page.elements if tag == "use" and "data-key" in a]
    assert len(points) == 47
    for point in points:
        image = images[int(point["data-key"])]
        assert point["aria-label"] == f"{image['path']}, {image['label']}"


def many(n, k=20):
    """Return contents of n images of k classes, with long names and thumbnails of noise."""
    rng = np.random.default_rng(0)
    classes = [f"class number {c:02}" for c in range(k)]
    y = np.array(classes)[np.arange(n) % k]
    probabilities = rng.dirichlet(np.ones(k), n)
    best = probabilities.argmax(axis=1)
    images = Images(
        path=tuple(f"{'long/' * 30}{i}.png" for i in range(n)),
        label=tuple(y),
        thumbnails=rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        predicted=tuple(classes[c] for c in best),
        confidence=probabilities.max(axis=1),
        files=(Path("no.png"),) * n,
        sha256=("",) * n,
    )
    code_map = CodeMap(np.arange(min(n, 600)), rng.normal(size=(min(n, 600), 2)), (0.3, 0.1))
    evaluation = score_predictions(y, probabilities, classes, np.arange(n))
    unreadable = tuple((f"{i}.png", "no image") for i in range(999))
    results = ImageResults(images, evaluation, "Held out.", code_map, (), unreadable)
    return Contents("model", "m.skops", (), (), (), "", evaluation, results, (), {})


def test_a_page_of_many_images_has_a_bounded_size():
    text = render(many(2000))
    page = read(text)
    assert len(text.encode()) < 3_000_000
    data = json.loads(page.data)
    n_with = sum("bare" not in image for image in data["images"])
    assert n_with == min(len(data["images"]), MAX_THUMBNAILS)
    assert f"{MAX_THUMBNAILS:,} thumbnails" in page.words
    assert "200" in page.words
    assert max(len(cell["images"]) for cell in data["cells"].values()) <= MAX_IMAGES_PER_CELL


def test_many_classes_and_no_mistakes(tmp_path):
    contents = many(300, 70)
    assert read(render(contents)).has("confusion")
    right = dataclasses.replace(
        contents.image_results.images, predicted=contents.image_results.images.label
    )
    results = dataclasses.replace(
        contents.image_results, images=right, code_map=Missing("There is no map, for a test."),
        unreadable=(),
    )  # fmt: skip
    page = read(render(dataclasses.replace(contents, image_results=results)))
    assert page.has("images")
    assert "There is no map, for a test." in page.words


# heat maps


@pytest.fixture(scope="module")
def explained(tmp_path_factory, make_image_folder):
    """A linear classifier, and its images, some of which the page may predict wrongly."""
    folder = tmp_path_factory.mktemp("explained")
    make_image_folder(folder / "data")
    featx.extract(
        folder / "data", layer=["block1_conv2", "block1_pool"], pool="avg", size=32,
        weights="random:0", output=folder / "codes.h5",
    )  # fmt: skip
    featx.fit(folder / "codes.h5", C=1.0, output=folder / "model.skops")
    return folder


def test_heat_maps_are_of_the_images_to_look_at_and_add_up(explained):
    job = prepare_report(explained / "model.skops", explained / "page.html", heat_maps=2)
    images = job.contents.image_results.images
    wrong, correct = images_to_look_at(images)
    assert job.heat_maps.images == (*wrong[:2], *correct[:2])
    found = run_heat_maps(job.heat_maps)
    assert [image for image, _ in found] == list(job.heat_maps.images)
    codes = featx.open_store(explained / "codes.h5")
    for image, shown in found:
        assert shown.path == str(images.files[image])
        assert shown.label == images.predicted[image]
        total = shown.contributions.sum() + shown.constant
        np.testing.assert_allclose(total, shown.decision_score, rtol=1e-6)
        row = list(codes.images.path).index(images.path[image])
        code = np.hstack([codes.flat_codes(layer)[row] for layer in codes.recipe.layers])
        k = job.contents.model.classes.index(shown.label)
        (decisions,) = model_decision_scores(job.contents.model, code[None])
        np.testing.assert_allclose(shown.decision_score, decisions[k], rtol=1e-4)
    page = read(run_report(job).read_text(encoding="utf-8"))
    assert sum(tag == "img" for tag, _ in page.elements) == 2 * len(found)
    assert not page.has("missing")


def test_an_image_that_changed_has_no_heat_map(explained, tmp_path):
    shutil.copytree(explained, tmp_path / "moved")
    model, page = tmp_path / "moved/model.skops", tmp_path / "page.html"
    codes = tmp_path / "moved/codes.h5"
    with h5py.File(codes, "r+") as file:
        facts = json.loads(file.attrs["provenance"])
        file.attrs["provenance"] = json.dumps(facts | {"root": str(tmp_path / "moved/data")})
    job = prepare_report(model, page, codes=codes, heat_maps=2)
    first, *others = job.heat_maps.images
    files = job.contents.image_results.images.files
    Image.new("RGB", (9, 9)).save(files[first])
    job = prepare_report(model, page, codes=codes, heat_maps=2)
    assert job.heat_maps.images == tuple(others)
    shutil.rmtree(tmp_path / "moved/data")
    job = prepare_report(model, page, codes=codes, heat_maps=2)
    assert job.heat_maps is None
    text = read(run_report(job).read_text(encoding="utf-8")).words
    assert str(files[first]) in text


def test_no_heat_maps_if_none_are_requested_or_possible(explained, tmp_path):
    page = tmp_path / "page.html"
    job = prepare_report(explained / "model.skops", page, heat_maps=0)
    assert (job.heat_maps, job.contents.heat_maps) == (None, ())
    with pytest.raises(OptionError, match=r"--heat-maps.*24.*25"):
        prepare_report(explained / "model.skops", page, heat_maps=25)
    model = tmp_path / "knn.skops"
    featx.fit(explained / "codes.h5", clf="knn", output=model)
    job = prepare_report(model, page)
    assert job.heat_maps is None
    assert f"featx explain {model} IMAGE" in job.contents.heat_maps.text


# the file


def test_the_verb_writes_one_file(with_splits, tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("report", with_splits)
    assert code == 0
    assert re.fullmatch(r"report\.html: .*model\.skops, [\d.]+ MB\n", out)
    read((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    code, _, err = run("report", with_splits)
    assert code == 1
    assert "report.html" in err
    assert "--overwrite" in err
    code, out, _ = run("report", with_splits, "--overwrite", "--json")
    assert code == 0
    assert json.loads(out)["page"] == "report.html"


def test_the_output_is_checked_before_work(with_splits, tmp_path, monkeypatch):
    monkeypatch.setattr("featx.report.prepare.gather", lambda *_, **__: pytest.fail("work"))
    with pytest.raises(OptionError, match=r"-o NAME\.html"):
        write_report(with_splits, tmp_path / "page.pdf")
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(ExistsError, match="--overwrite"):
        write_report(with_splits, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == "mine"


def test_codes_and_labels_are_for_models(sweep, tmp_path):
    with pytest.raises(OptionError, match="--codes and --labels"):
        featx.write_report(sweep, tmp_path / "page.html", codes="other.h5")

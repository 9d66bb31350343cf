"""Sweeps: one pass for several stores, cross-validated candidates, and conclusions from them."""

import csv
import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import featx
from featx.errors import ModelError, OptionError
from featx.extraction import executors
from featx.fitting.cross_validation import HeldOutPredictions, compare, cross_validate
from featx.fitting.learning_curve import LearningPoint
from featx.store import open_store
from featx.workflows import SweepProgress, prepare_sweep, run_sweep
from featx.workflows.sweeping import run as sweeping
from featx.workflows.sweeping.prepare import Candidate
from featx.workflows.sweeping.results import SweepRow, read_sweep
from featx.workflows.sweeping.verdict import (
    cheapest_not_worse,
    domain_verdict,
    more_images_verdict,
)

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = {"size": 32, "weights": "random:0", "pool": ["avg", "max"], "clf": "centroid"}
SMALLEST = {**TINY, "pool": "avg", "folds": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory, make_image_folder):
    """A folder with data/ (train and val) and plain/ (the same classes without splits)."""
    folder = tmp_path_factory.mktemp("home")
    make_image_folder(folder / "data")
    (folder / "plain").symlink_to(folder / "data/train")
    return folder


@pytest.fixture(scope="module")
def made(home):
    """A sweep without splits."""
    return featx.sweep(home / "plain", output=home / "sweep", **TINY)


def predictions_of(n_right, seed=0):
    """Return held-out predictions for 100 images, of which `n_right` are right."""
    rng = np.random.default_rng(seed)
    y = np.array(["a", "b"])[np.arange(100) % 2]
    wrong = np.zeros(100, bool)
    wrong[rng.permutation(100)[n_right:]] = True
    of_a = np.where((y == "a") ^ wrong, 0.9, 0.1)
    probabilities = np.stack([of_a, 1 - of_a], axis=1)
    each = np.arange(100)
    return HeldOutPredictions(
        rows=each, probabilities=probabilities, y=y, groups=each, classes=("a", "b"),
        fold=each % 5, known=each >= 0, search_accuracy=np.full(5, n_right / 100),
    )  # fmt: skip


def row_of(layer, n_right, *, pool="avg", size=224, seed=0):
    """Return a row of a layer with `n_right` of 100 right predictions."""
    held_out = predictions_of(n_right, seed)
    accuracy = held_out.evaluation().accuracy
    return SweepRow((layer,), pool, (size, size), 8, accuracy, accuracy, 32.0, 0.1, held_out)


# The candidates.


def test_all_layers_poolings_and_sizes_are_candidates_the_cheapest_first(home, tmp_path):
    """Joined layers are candidates too, unless codes are flattened; nothing is written."""
    job = prepare_sweep(
        home / "data", output=tmp_path / "sweep", size=[96, 64], layer="block3_conv1",
        weights="random:0",
    )  # fmt: skip
    candidates = set(job.candidates)
    for size in ((96, 96), (64, 64)):
        for pool in ("avg", "max", "avg+max", "grid:2", "none"):
            for k in range(1, 6):
                assert Candidate((f"block{k}_pool",), pool, size) in candidates
            assert Candidate(("block3_conv1",), pool, size) in candidates
            joined = Candidate(("block4_pool", "block5_pool"), pool, size)
            assert (joined in candidates) == (pool != "none")
    costs = [candidate.gflop for candidate in job.candidates]
    assert costs == sorted(costs)
    assert job.candidates[0] == Candidate(("block1_pool",), "avg", (64, 64))
    assert len(job.extractions) == 10
    assert not list((tmp_path / "sweep").iterdir())


def test_layers_too_small_for_a_grid_are_left_out_with_a_note(home, tmp_path):
    """At 32 pixels the map of block5_pool has one position."""
    job = prepare_sweep(home / "data", output=tmp_path / "s", size=32, weights="random:0")
    assert any({"32", "block5_pool"} <= set(note.split()) for note in job.notes)
    assert Candidate(("block4_pool",), "grid:2", (32, 32)) in job.candidates
    assert Candidate(("block5_pool",), "grid:2", (32, 32)) not in job.candidates


def test_flattened_codes_are_left_out_if_they_are_large(home, tmp_path, monkeypatch):
    """A note reports it, and --pool none includes them."""
    monkeypatch.setattr("featx.workflows.sweeping.prepare._MOST_FLATTENED", 1000)
    settings = {"output": tmp_path / "s", "size": 32, "weights": "random:0"}
    job = prepare_sweep(home / "data", **settings)
    assert any("--pool none" in note for note in job.notes)
    assert "none" not in {pool for _, pool in job.extractions}
    job = prepare_sweep(home / "data", pool="none", **settings)
    assert {pool for _, pool in job.extractions} == {"none"}


def test_scales_are_passes_without_poolings_that_keep_positions(home, tmp_path):
    """Crops exclude grids as well."""
    job = prepare_sweep(
        home / "data", output=tmp_path / "s", scale=[64, 32], flip=True, weights="random:0"
    )
    assert {size for size, _ in job.extractions} == {(64, 64), (32, 32)}
    assert {pool for _, pool in job.extractions} == {"avg", "max", "avg+max", "grid:2"}
    for (size, _), extraction in job.extractions.items():
        assert (extraction.recipe.scales, extraction.recipe.flip) == ((size[0],), True)
    job = prepare_sweep(home / "data", output=tmp_path / "t", size=64, crops=5, weights="random:0")
    assert {pool for _, pool in job.extractions} == {"avg", "max", "avg+max"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pool": "mean"}, "mean"),
        ({"scale": 32}, "--scale"),
        ({"layer": "block9_pool"}, "block9_pool"),
        ({"clf": "forest"}, "forest"),
        ({"budget": -1.0}, "--budget"),
        ({"pool": "grid:40"}, "grid:40.*--size"),
        ({"folds": 1}, "--folds"),
        ({"resize": "stretch"}, "--resize"),
    ],
)
def test_settings_that_are_not_allowed_are_refused_and_leave_nothing(
    home, tmp_path, settings, words
):
    """No folder is made either."""
    with pytest.raises(OptionError, match=words):
        prepare_sweep(home / "data", output=tmp_path / "out", **{**TINY, **settings})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [224, "224", ["224"]])
def test_the_default_size_with_a_scale_counts_as_not_given(home, tmp_path, size):
    """In every spelling, as for `featx extract`; another size is refused."""
    job = prepare_sweep(home / "data", output=tmp_path / "s", **{**TINY, "size": size, "scale": 32})
    assert job.sizes == ((32, 32),)
    with pytest.raises(OptionError, match="--size"):
        prepare_sweep(
            home / "data", output=tmp_path / "t", **{**TINY, "size": [224, 64], "scale": 32}
        )


def test_a_folder_with_other_files_is_refused(home, tmp_path):
    """The message names such a file."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("dear")
    with pytest.raises(OptionError, match=r"dear\.txt"):
        prepare_sweep(home / "data", output=tmp_path / "letters", **TINY)


# The results.


def test_each_row_has_the_scores_of_its_own_store(home, made):
    """A candidate is cross-validated as a fit on its store alone would be."""
    assert len(made.rows) == 2 * (5 + 2)
    for row in made.rows[::4]:
        job = featx.fitting.prepare_fit(
            home / f"sweep/32-{row.pool}.h5", layer=row.layers, clf="centroid", baselines=False
        )
        assert cross_validate(job).evaluation().accuracy == row.accuracy
        assert row.n_features == job.joined.recipe.n_features
        assert row.bytes_per_image == 4 * row.n_features
    assert made.best.accuracy.value == max(row.accuracy.value for row in made.rows)
    assert made.final is None


def test_a_deeper_layer_takes_more_time(made):
    """The time of the pass is divided by the arithmetic of the layers."""
    seconds = {row.layers: row.seconds_per_image for row in made.rows if row.pool == "avg"}
    ordered = [seconds[(f"block{k}_pool",)] for k in range(1, 6)]
    assert ordered == sorted(ordered)
    assert ordered[0] > 0
    assert seconds["block4_pool", "block5_pool"] == seconds[("block5_pool",)]


def test_images_pass_once_and_codes_are_those_of_extract(home, tmp_path, monkeypatch):
    """After the budget, one candidate is evaluated, and a note counts the others."""
    counts = []
    load = executors.load_backbone

    def counting(*arguments):
        backbone = load(*arguments)
        ((shape, run),) = backbone._runs.items()
        backbone._runs[shape] = lambda images: counts.append(len(images)) or run(images)
        return backbone

    monkeypatch.setattr(executors, "load_backbone", counting)
    found = featx.sweep(home / "plain", budget=1e-9, output=tmp_path / "s", **TINY)
    assert 18 <= sum(counts) < 36
    layers = list(open_store(tmp_path / "s/32-max.h5").recipe.layers)
    alone = featx.extract(
        home / "plain", layer=layers, pool="max", size=32, weights="random:0",
        output=tmp_path / "alone.h5",
    )  # fmt: skip
    ours, expected = (open_store(p).digests() for p in (tmp_path / "s/32-max.h5", alone.path))
    assert ours == expected
    assert len(found.rows) == 1
    assert any("13 of 14" in note and "block5_pool, max, 32" in note for note in found.notes)


def test_the_files_hold_the_results(home, made):
    """sweep.json is what to_dict returns, with a version; sweep.csv has a row per candidate."""
    record = read_sweep(home / "sweep")
    assert record == read_sweep(home / "sweep/sweep.json")
    assert [row.accuracy for row in record.rows] == [row.accuracy for row in made.rows]
    assert str(record.best_row) == str(made.best)
    assert record.fit.clf == made.fit["clf"]
    facts = json.loads((home / "sweep/sweep.json").read_text())
    assert facts == json.loads(json.dumps(made.to_dict()))
    assert (facts["format"], facts["format_version"]) == ("featx-sweep", 2)
    assert facts["best"] == str(made.best)
    assert set(facts["selected_in_folds"]) <= {str(row) for row in made.rows}
    with (home / "sweep/sweep.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in table] == [r.accuracy.value for r in made.rows]
    assert [row["layers"] for row in table] == ["+".join(r.layers) for r in made.rows]
    assert {row["size"] for row in table} == {"32"}


@pytest.mark.parametrize("text", [None, "{", "[]", '{"format": "other"}'])
def test_another_file_is_not_read(tmp_path, text):
    """The message names the file and the command that makes it."""
    path = tmp_path / "sweep.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ModelError, match=r"sweep\.json.*featx sweep .*-o"):
        read_sweep(path)


def test_results_of_featx_0_1_are_refused_with_the_command(tmp_path):
    """Its keys have other names; the stores in the same folder are reused."""
    old = Path(__file__).parent / "data/results-0.1/sweep.json"
    shutil.copy(old, tmp_path)
    with pytest.raises(ModelError, match=rf"version 1.*featx sweep .*-o {tmp_path}"):
        read_sweep(tmp_path)


def test_with_splits_only_the_best_is_scored_on_val(home, tmp_path, monkeypatch):
    """Candidates are compared on train, and val is scored once."""
    seen = []
    run_fit = sweeping.run_fit
    monkeypatch.setattr(
        sweeping, "run_fit", lambda job, **on: seen.append(job) or run_fit(job, **on)
    )
    found = featx.sweep(home / "data", output=tmp_path / "s", **SMALLEST)
    assert [len(row.held_out.y) for row in found.rows] == [18] * len(found.rows)
    assert [job.joined.recipe.layers for job in seen] == [found.best.layers]
    assert found.final.to_dict()["scored_on"] == "val"
    assert found.final.evaluation.n_images == 9


def test_a_stopped_sweep_resumes_with_the_same_results(home, made, tmp_path, monkeypatch):
    """Stores and finished candidates are used again; other settings are evaluated again."""
    settings = {"output": tmp_path / "s", **TINY}
    shutil.copytree(home / "sweep", tmp_path / "s", ignore=shutil.ignore_patterns("*.npz"))

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(
            prepare_sweep(home / "plain", progress=SweepProgress(candidates=stop), **settings)
        )
    calls = []
    evaluate = sweeping.cross_validate
    monkeypatch.setattr(
        sweeping, "cross_validate", lambda job, **on: calls.append(job) or evaluate(job, **on)
    )
    found = featx.sweep(home / "plain", **settings)
    assert len(calls) == len(found.rows) - 3
    ours, theirs = ({**each.to_dict(), "seconds": 0} for each in (found, made))
    assert ours == theirs
    assert found.rows[0].seconds_per_image > 0  # known from the pass before
    budget = {**settings, "budget": 1e-9}
    other = featx.sweep(home / "plain", seed=1, **budget)
    assert len(calls) == len(found.rows) - 2
    (ours,), (theirs, *_) = other.rows, found.rows
    assert (ours.held_out.fold != theirs.held_out.fold).any()


# The conclusions.


def test_the_cheapest_row_that_is_not_significantly_worse():
    """A row that is far worse is not taken, however cheap."""
    weak, near, best = (
        row_of("block1_pool", 60),
        row_of("block2_pool", 89, seed=1),
        row_of("block3_pool", 92, seed=2),
    )
    assert cheapest_not_worse([weak, near, best], best) is near
    assert cheapest_not_worse([best, weak, near], best) is best


def test_images_are_different_if_an_earlier_layer_is_significantly_better():
    """The text has the layer and its accuracy."""
    last = row_of("block5_pool", 70)
    found = domain_verdict([row_of("block3_pool", 95, seed=1), last, row_of("block2_pool", 60)])
    assert found.verdict == "different"
    assert found.difference.low > 0
    assert [fact for fact in ("block3_pool", "0.950", "224") if fact not in found.text] == []


def test_the_best_of_several_layers_needs_more_evidence():
    """A gain that is significant for one earlier layer may not be for the best of four."""
    last, better = row_of("block5_pool", 70), row_of("block3_pool", 88, seed=1)
    alone = domain_verdict([better, last])
    others = [row_of(f"block{k}_pool", 60, seed=k) for k in (1, 2, 4)]
    among = domain_verdict([*others, better, last])
    assert (alone.verdict, among.verdict) == ("different", "undecided")
    assert alone.difference == compare(better.held_out, last.held_out)
    expected = compare(better.held_out, last.held_out, confidence=1 - 0.05 / 4)
    assert among.difference == expected
    assert among.difference.low < alone.difference.low


@pytest.mark.parametrize(("size", "verdict"), [(159, "undecided"), (160, "different")])
def test_small_images_say_nothing_about_their_domain(size, verdict):
    """The text has the size, and that of the feature map of the last layer."""
    rows = [row_of("block3_pool", 95, seed=1, size=size), row_of("block5_pool", 60, size=size)]
    found = domain_verdict(rows)
    assert found.verdict == verdict
    assert f"{size} pixels" in found.text
    assert ("4 x 4" in found.text) == (verdict == "undecided")
    assert (found.difference is None) == (verdict == "undecided")


def test_images_of_one_group_have_no_verdict():
    """The text says why, and the best row is the only one that is surely not worse."""
    rows = [row_of("block3_pool", 95, seed=1), row_of("block5_pool", 60)]
    rows = [
        dataclasses.replace(
            row, held_out=dataclasses.replace(row.held_out, groups=np.zeros(100, np.int32))
        )
        for row in rows
    ]
    found = domain_verdict(rows)
    assert found.verdict == "undecided"
    assert "one group" in found.text
    assert cheapest_not_worse(rows[::-1], rows[0]) is rows[0]


@pytest.mark.parametrize("n_right", [71, 60])
def test_otherwise_it_is_undecided(n_right):
    """A small gain, or none, decides nothing."""
    rows = [row_of("block3_pool", n_right, seed=1), row_of("block5_pool", 70)]
    assert domain_verdict(rows).verdict == "undecided"


def test_only_average_pooling_at_one_size_counts():
    """Rows with another pooling or size, and rows without block5_pool, are not evidence."""
    rows = [
        row_of("block3_pool", 99, pool="max", seed=1),
        row_of("block3_pool", 99, size=192, seed=1),
        row_of("block4_pool", 71, seed=1),
        row_of("block5_pool", 70),
    ]
    assert domain_verdict(rows).verdict == "undecided"
    assert domain_verdict([row_of("block3_pool", 99)]).verdict == "undecided"


def test_more_images_would_help_if_the_last_doubling_did():
    """A small gain, or one point alone, decides nothing."""

    def points(*rights):
        return [
            LearningPoint(0.5 * (k + 1), 40 * (k + 1), predictions_of(right, seed=k))
            for k, right in enumerate(rights)
        ]

    assert more_images_verdict(points(60, 90)).verdict == "more"
    assert more_images_verdict(points(88, 90)).verdict == "undecided"
    assert more_images_verdict(points(90)).verdict == "undecided"


def test_the_commands_run_and_give_the_best_codes(run, home, made, monkeypatch, tmp_path):
    """extract and fit are run; finetune gets the weights as --init."""
    monkeypatch.chdir(tmp_path)
    for command in made.commands[:2]:
        code, _, err = run(*shlex.split(command)[1:])
        assert code == 0, err
    store = open_store(tmp_path / "best.h5")
    assert store.recipe.layers == made.best.layers
    assert (store.recipe.pool, store.recipe.size) == (made.best.pool, made.best.size)
    assert made.commands[2].split()[:2] == ["featx", "finetune"]
    assert "--init random:0" in made.commands[2]


def test_the_command_of_a_sweep_of_scales_gives_the_same_codes(home, tmp_path, run):
    """With mirror images, too."""
    made = featx.sweep(
        home / "plain", output=tmp_path / "sweep", scale=32, flip=True, pool="max",
        weights="random:0", clf="centroid", budget=1e-9,
    )  # fmt: skip
    words = shlex.split(made.commands[0].replace("best.h5", str(tmp_path / "best.h5")))
    assert {"--scale", "--flip"} <= set(words)
    assert run(*words[1:])[0] == 0
    swept = open_store(tmp_path / "sweep/32-max.h5")
    (layer,) = made.best.layers
    rows = np.arange(len(swept.images))
    np.testing.assert_array_equal(
        open_store(tmp_path / "best.h5").read_rows(layer, rows), swept.read_rows(layer, rows)
    )


# The command line.


def test_the_verb_prints_a_table_and_the_conclusions(run, home, made, monkeypatch):
    """Scores, verdicts and commands of the sweep are in the output; --json prints sweep.json."""
    monkeypatch.chdir(home)
    flags = ["--size", 32, "--weights", "random:0", "--pool", "avg", "--pool", "max"]
    flags += ["--clf", "centroid"]
    code, out, err = run("sweep", "plain", *flags, "-o", "sweep")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["layer", "pool", "size"]
    (best,) = [line for line in lines[1 : 1 + len(made.rows)] if line.endswith("best")]
    assert f"{made.best.accuracy.value:.3f}" in best
    headline, of_best = lines[1 + len(made.rows) : 3 + len(made.rows)]
    assert str(made.expected_accuracy) in headline
    assert "expected accuracy on new images (nested cross-validation)" in headline
    assert str(made.best) in of_best
    assert "optimistic" in of_best
    assert str(made.best.accuracy.interval[0]) not in of_best  # it would not contain the truth
    assert made.domain_verdict.text in lines
    assert made.more_images_verdict.text in lines
    assert "18 images" in err
    assert "14 candidates" in err
    code, out, _ = run("sweep", "plain", *flags, "-o", "sweep", "--json", "--quiet")
    assert {**json.loads(out), "seconds": 0} == {
        **json.loads(Path("sweep/sweep.json").read_text()),
        "seconds": 0,
    }


def test_a_budget_has_a_unit(run, home, monkeypatch):
    """The message has the value and the flag."""
    monkeypatch.chdir(home)
    code, _, err = run("sweep", "plain", "--budget", "soon")
    assert code == 1
    assert "--budget" in err
    assert "soon" in err

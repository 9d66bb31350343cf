"""The sweep: stores from one pass, candidates judged alike, words that follow from numbers."""

import csv
import json
import shlex

import numpy as np
import pytest

import featx
from featx.errors import OptionError
from featx.extraction import passes
from featx.fitting.cross_validation import HeldOutPredictions, cross_validate
from featx.fitting.learning_curve import LearningPoint
from featx.store import open_store
from featx.workflows.sweeping import (
    Candidate,
    SweepProgress,
    SweepRow,
    prepare_sweep,
    run_sweep,
)
from featx.workflows.sweeping.verdict import cheapest_not_worse, domain_verdict, more_images_verdict

TINY = {"size": 64, "weights": "random:0", "pool": ["avg", "max"], "clf": "ridge"}


@pytest.fixture(scope="module")
def home(tmp_path_factory, make_image_folder):
    """data/ with train and val; plain/ with the same classes and no splits."""
    folder = tmp_path_factory.mktemp("home")
    make_image_folder(folder / "data")
    (folder / "plain").symlink_to(folder / "data/train")
    return folder


@pytest.fixture(scope="module")
def made(home):
    """A sweep without splits."""
    return featx.sweep(home / "plain", output=home / "sweep", **TINY)


def judged_of(right, seed=0):
    """What predicts so many of 100 images right; the others by chance of the seed."""
    rng = np.random.default_rng(seed)
    y = np.array(["a", "b"])[np.arange(100) % 2]
    wrong = np.zeros(100, bool)
    wrong[rng.permutation(100)[right:]] = True
    of_a = np.where((y == "a") ^ wrong, 0.9, 0.1)
    shares = np.stack([of_a, 1 - of_a], axis=1)
    each = np.arange(100)
    return HeldOutPredictions(
        each, shares, y, each, ("a", "b"), each % 5, 0, search_accuracy=np.full(5, right / 100)
    )


def row_of(layer, right, *, pool="avg", size=224, seed=0):
    judged = judged_of(right, seed)
    accuracy = judged.evaluation().accuracy
    candidate = Candidate((layer,), pool, (size, size))
    return SweepRow(candidate, 8, accuracy, accuracy, 32.0, 0.1, judged)


# what is tried


def test_all_layers_poolings_and_sizes_are_tried_the_cheapest_first(home, tmp_path):
    job = prepare_sweep(
        home / "data", output=tmp_path / "sweep", size=[96, 64], layer="block3_conv1",
        weights="random:0",
    )  # fmt: skip
    tried = set(job.candidates)
    for size in ((96, 96), (64, 64)):
        for pool in ("avg", "max", "avg+max", "grid:2", "none"):
            for k in range(1, 6):
                assert Candidate((f"block{k}_pool",), pool, size) in tried
            assert Candidate(("block3_conv1",), pool, size) in tried
            joined = Candidate(("block4_pool", "block5_pool"), pool, size)
            assert (joined in tried) == (pool != "none")
    costs = [candidate.gflop for candidate in job.candidates]
    assert costs == sorted(costs)
    assert job.candidates[0] == Candidate(("block1_pool",), "avg", (64, 64))
    assert len(job.extractions) == 10
    assert not list((tmp_path / "sweep").iterdir())


def test_a_grid_that_a_map_is_too_small_for_is_left_out_by_name(home, tmp_path):
    job = prepare_sweep(home / "data", output=tmp_path / "s", size=32, weights="random:0")
    assert "At 32 pixels the maps of block5_pool are too small for grid:2." in job.notes
    assert Candidate(("block4_pool",), "grid:2", (32, 32)) in job.candidates
    assert Candidate(("block5_pool",), "grid:2", (32, 32)) not in job.candidates


def test_flattened_codes_are_left_out_where_the_disk_has_no_room(home, tmp_path, monkeypatch):
    monkeypatch.setattr("featx.workflows.sweeping.prepare._MOST_FLATTENED", 1000)
    settings = {"output": tmp_path / "s", "size": 32, "weights": "random:0"}
    job = prepare_sweep(home / "data", **settings)
    assert any("Flattened codes at 32 pixels would take" in note for note in job.notes)
    assert "none" not in {pool for _, pool in job.extractions}
    job = prepare_sweep(home / "data", pool="none", **settings)
    assert {pool for _, pool in job.extractions} == {"none"}


def test_scales_are_passes_without_poolings_that_keep_all_places(home, tmp_path):
    job = prepare_sweep(
        home / "data", output=tmp_path / "s", scale=[64, 32], flip=True, weights="random:0"
    )
    assert {size for size, _ in job.extractions} == {(64, 64), (32, 32)}
    assert {pool for _, pool in job.extractions} == {"avg", "max", "avg+max", "grid:2"}
    for (size, _), extraction in job.extractions.items():
        assert (extraction.recipe.scales, extraction.recipe.flip) == ((size[0],), True)
    job = prepare_sweep(home / "data", output=tmp_path / "t", size=64, crops=5, weights="random:0")
    assert {pool for _, pool in job.extractions} == {"avg", "max", "avg+max"}


def test_the_best_of_a_sweep_of_scales_is_made_again_by_its_command(home, tmp_path, run):
    made = featx.sweep(
        home / "plain", output=tmp_path / "sweep", scale=32, flip=True, pool="bilinear",
        weights="random:0", clf="ridge",
    )  # fmt: skip
    assert "--scale 32 --flip -o best.h5" in made.commands[0]
    words = shlex.split(made.commands[0].replace("best.h5", str(tmp_path / "best.h5")))
    assert run(*words[1:])[0] == 0
    swept = open_store(tmp_path / "sweep/32-bilinear.h5")
    (layer,) = made.best.layers
    rows = np.arange(len(swept.images))
    np.testing.assert_array_equal(
        open_store(tmp_path / "best.h5").read_rows(layer, rows), swept.read_rows(layer, rows)
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pool": "mean"}, "No such pool"),
        ({"scale": 32}, "Leave out --size, or --scale"),
        ({"layer": "block9_pool"}, "block9_pool"),
        ({"clf": "forest"}, "forest"),
        ({"budget": -1.0}, "--budget"),
        ({"pool": "grid:40"}, "Nothing is left to try"),
        ({"folds": 1}, "--folds"),
    ],
)
def test_what_cannot_be_is_refused_before_work_and_leaves_nothing(home, tmp_path, settings, words):
    with pytest.raises(OptionError, match=words):
        prepare_sweep(home / "data", output=tmp_path / "out", **{**TINY, **settings})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [224, "224", ["224"]])
def test_the_usual_size_beside_a_scale_is_as_if_not_given(home, tmp_path, size):
    """As for `featx extract`, however it is spelt."""
    job = prepare_sweep(home / "data", output=tmp_path / "s", **{**TINY, "size": size, "scale": 32})
    assert job.settings.scales
    with pytest.raises(OptionError, match="Leave out --size, or --scale"):
        prepare_sweep(
            home / "data", output=tmp_path / "t", **{**TINY, "size": [224, 64], "scale": 32}
        )


def test_a_folder_of_something_else_is_left_alone(home, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/dear.txt").write_text("dear")
    with pytest.raises(OptionError, match="other files than a sweep's"):
        prepare_sweep(home / "data", output=tmp_path / "letters", **TINY)


# what is found


def test_every_row_is_judged_as_its_store_alone(home, made):
    assert len(made.rows) == 2 * (5 + 2)
    for row in made.rows[::4]:
        name = f"64-{row.pool}.h5"
        job = featx.fitting.prepare_fit(
            home / "sweep" / name, layer=row.layers, clf="ridge", baselines=False
        )
        alone = cross_validate(job).evaluation()
        assert abs(alone.accuracy.value - row.accuracy.value) < 0.2  # it searches more finely
        assert row.n_features == job.joined.recipe.n_features
        assert row.bytes_per_image == 4 * row.n_features
    assert made.best.accuracy.value == max(row.accuracy.value for row in made.rows)
    assert made.final is None


def test_codes_are_those_of_extract_and_images_go_through_once(home, tmp_path, monkeypatch):
    counts = []
    load = passes.load_joint_backbone

    def counting(*arguments):
        backbone = load(*arguments)
        ((shape, run),) = backbone._runs.items()
        backbone._runs[shape] = lambda images: counts.append(len(images)) or run(images)
        return backbone

    monkeypatch.setattr(passes, "load_joint_backbone", counting)
    featx.sweep(home / "plain", output=tmp_path / "s", **TINY)
    assert 18 <= sum(counts) < 36
    layers = list(open_store(tmp_path / "s/64-max.h5").recipe.layers)
    alone = featx.extract(
        home / "plain", layer=layers, pool="max", size=64, weights="random:0",
        output=tmp_path / "alone.h5",
    )  # fmt: skip
    found, expected = (open_store(p).digests() for p in (tmp_path / "s/64-max.h5", alone.path))
    assert found == expected


def test_a_deeper_layer_costs_more_time(made):
    seconds = {row.layers: row.seconds_per_image for row in made.rows if row.pool == "avg"}
    ordered = [seconds[(f"block{k}_pool",)] for k in range(1, 6)]
    assert ordered == sorted(ordered)
    assert ordered[0] > 0
    assert seconds["block4_pool", "block5_pool"] == seconds[("block5_pool",)]


def test_files_say_what_was_found(home, made):
    facts = json.loads((home / "sweep/sweep.json").read_text())
    assert facts == json.loads(json.dumps(made.to_dict()))
    assert facts["best"] == str(made.best.candidate)
    with (home / "sweep/sweep.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in table] == [r.accuracy.value for r in made.rows]
    assert [row["layers"] for row in table] == ["+".join(r.layers) for r in made.rows]


def test_with_splits_val_is_scored_once_for_the_best_alone(home, tmp_path, monkeypatch):
    seen = []
    from featx.workflows.sweeping import run as sweeping

    fitted = sweeping.run_fit
    monkeypatch.setattr(
        sweeping, "run_fit", lambda job, **on: seen.append(job) or fitted(job, **on)
    )
    found = featx.sweep(home / "data", output=tmp_path / "s", **TINY)
    assert [len(row.held_out.y) for row in found.rows] == [18] * len(found.rows)
    assert len(seen) == 1
    assert seen[0].joined.recipe.layers == found.best.layers
    assert found.final.to_dict()["scored_on"] == "val"
    assert found.final.evaluation.n_images == 9


def test_what_was_stopped_goes_on_and_finds_the_same(home, made, tmp_path, monkeypatch):
    settings = {"output": tmp_path / "s", **TINY}

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(
            prepare_sweep(home / "plain", progress=SweepProgress(candidates=stop), **settings)
        )
    calls = []
    from featx.workflows.sweeping import run as sweeping

    judging = sweeping.cross_validate
    monkeypatch.setattr(
        sweeping, "cross_validate", lambda job, **on: calls.append(job) or judging(job, **on)
    )
    found = featx.sweep(home / "plain", **settings)
    assert len(calls) == len(found.rows) - 3
    for name in ("rows", "best", "expected_accuracy", "learning_curve", "domain_verdict"):
        ours, theirs = (json.loads(json.dumps(each.to_dict()[name])) for each in (found, made))
        if name == "rows":  # another pass took another time
            ours, theirs = ([{**r, "seconds_per_image": 0} for r in x] for x in (ours, theirs))
        assert ours == theirs, name
    assert found.rows[0].seconds_per_image > 0  # of the pass that was made before


def test_other_settings_are_judged_anew(home, tmp_path):
    settings = {**TINY, "pool": "avg", "output": tmp_path / "s"}
    one = featx.sweep(home / "plain", **settings)
    other = featx.sweep(home / "plain", seed=1, **settings)
    assert any(
        (a.held_out.fold != b.held_out.fold).any()
        for a, b in zip(one.rows, other.rows, strict=True)
    )


def test_the_budget_ends_it_in_words(home, tmp_path):
    found = featx.sweep(home / "plain", budget=1e-9, **{**TINY, "output": tmp_path / "s"})
    assert len(found.rows) == 1
    (said,) = [note for note in found.notes if note.startswith("The budget ended")]
    assert "13 of 14 candidates were not tried" in said
    assert "block5_pool, max, 64" in said


# what is said


def test_the_cheapest_that_cannot_be_told_from_the_best():
    weak, near, best = (
        row_of("block1_pool", 60),
        row_of("block2_pool", 89, seed=1),
        row_of("block3_pool", 92, seed=2),
    )
    assert cheapest_not_worse([weak, near, best], best) is near
    assert cheapest_not_worse([best, weak, near], best) is best


def test_images_are_different_where_an_earlier_layer_is_better_beyond_doubt():
    last = row_of("block5_pool", 70)
    found = domain_verdict([row_of("block3_pool", 95, seed=1), last, row_of("block2_pool", 60)])
    assert found.verdict == "different"
    assert found.difference.low > 0
    assert "block3_pool reaches 0.950" in found.text
    assert found.text.startswith("The images are different from ImageNet's")


@pytest.mark.parametrize("right", [71, 60])
def test_else_it_is_undecided(right):
    rows = [row_of("block3_pool", right, seed=1), row_of("block5_pool", 70)]
    assert domain_verdict(rows).verdict == "undecided"
    assert domain_verdict(rows).text.startswith("Undecided whether")


def test_only_average_pooling_at_one_size_counts():
    rows = [
        row_of("block3_pool", 99, pool="max", seed=1),
        row_of("block3_pool", 99, size=96, seed=1),
        row_of("block4_pool", 71, seed=1),
        row_of("block5_pool", 70),
    ]
    assert domain_verdict(rows).verdict == "undecided"
    assert domain_verdict([row_of("block3_pool", 99)]).verdict == "undecided"


def test_more_images_would_help_where_the_last_doubling_did():
    def points(*rights):
        return [
            LearningPoint(0.5 * (k + 1), 40 * (k + 1), judged_of(right, seed=k))
            for k, right in enumerate(rights)
        ]

    assert more_images_verdict(points(60, 90)).verdict == "more"
    assert more_images_verdict(points(88, 90)).verdict == "undecided"
    assert more_images_verdict(points(90)).verdict == "undecided"


def test_the_commands_run_and_give_the_best_codes(run, home, made, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for command in made.commands[:2]:
        code, _, err = run(*command.split()[1:])
        assert code == 0, err
    store = open_store(tmp_path / "best.h5")
    assert store.recipe.layers == made.best.layers
    assert (store.recipe.pool, store.recipe.size) == (made.best.pool, made.best.size)
    assert made.commands[2].split()[:2] == ["featx", "finetune"]
    assert "--init random:0" in made.commands[2]


def test_the_verb_prints_the_table_and_the_verdict(run, home, made, monkeypatch):
    monkeypatch.chdir(home)
    flags = ["--size", 64, "--weights", "random:0", "--pool", "avg", "--pool", "max"]
    flags += ["--clf", "ridge"]
    code, out, err = run("sweep", "plain", *flags, "-o", "sweep")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].split()[:5] == ["layer", "pool", "size", "numbers", "accuracy"]
    table = lines[1 : 1 + len(made.rows)]
    assert sum(line.endswith("best") for line in table) == 1
    best = next(line for line in table if line.endswith("best"))
    assert f"{made.best.accuracy.value:.3f}" in best
    assert f"best: {made.best.candidate}: accuracy {made.best.accuracy}" in lines
    assert any(line.startswith("sweep and take the best, as on other images") for line in lines)
    assert made.domain_verdict.text in lines
    assert "18 images in plain; 14 candidates" in err
    code, out, _ = run("sweep", "plain", *flags, "-o", "sweep", "--json", "--quiet")
    assert json.loads(out)["best"] == made.to_dict()["best"]


def test_times_are_read(run, home, monkeypatch):
    monkeypatch.chdir(home)
    code, _, err = run("sweep", "plain", "--budget", "soon")
    assert code == 1
    assert "Expected --budget 90s, 10m or 2h" in err

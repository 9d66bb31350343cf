"""The command line, run in this process: what it prints, where, and how it exits."""

import io
import json
import re
import shutil
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
import typer

import featx
from featx.cli import console, main
from featx.layers import LAYERS

TINY = ("--pool", "avg", "--size", "32", "--weights", "random:0")


@pytest.fixture
def folder(image_folder, monkeypatch):
    """The current folder; it holds only data/."""
    monkeypatch.chdir(image_folder.parent)
    return image_folder.parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_image_folder):
    """A folder with data/, its codes and a model."""
    folder = tmp_path_factory.mktemp("finished")
    settings = {"layer": "block1_pool", "pool": "avg", "size": 32, "weights": "random:0"}
    featx.extract(make_image_folder(folder / "data"), output=folder / "codes.h5", **settings)
    featx.fit(folder / "codes.h5", clf="ridge", output=folder / "model.skops")
    return folder


@pytest.fixture
def with_model(finished, tmp_path, monkeypatch):
    """The current folder; it holds data/, codes.h5 and model.skops."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def numbers(line):
    return re.findall(r"\d+", line)


def test_the_main_job(folder, run):
    """extract, fit and predict run without options in a folder with data/, and report results."""
    code, out, err = run("extract", "--layer", "block1_pool", *TINY)
    assert (code, listing(folder)) == (0, ["codes.h5", "data"])
    line = r"codes.h5: codes of 27 images in \d+ s, [\d.]+ images/s, network busy (\d+)% .*\.\n"
    assert 0 <= int(re.fullmatch(line, out)[1]) <= 100
    images, layer, disk, weights, device, times, following = err.splitlines()
    assert ("data" in images, numbers(images)) == (True, ["27", "18", "9", "3"])
    assert re.match("block1_pool: 64 .*float32", layer)
    assert re.match(r"codes.h5: 0.13 MB .*\([\d.]+ [GM]B", disk)
    assert re.match(r"weights random:0 \(random:0\): 2 layers", weights)
    assert re.match(r"device CPU \(tensorflow\), 27 images", device)
    assert len(re.findall(r"\d+%", times)) == 2
    assert "featx fit codes.h5 --clf logistic" in following
    code, out, err = run("fit", "--clf", "ridge")
    assert code == 0
    assert re.search(r"on val, 9 images$", out, re.M)
    assert re.search(r"^accuracy +1.000 \(95 % interval 0.629 to 1.000\)$", out, re.M)
    assert re.search(r"^model.skops: ridge, .* 18 images$", out, re.M)
    code, out, err = run("predict", "data/val/red", "data/val/blue/0.png")
    assert (code, out) == (0, "predictions.csv: 4 predictions\n")
    assert (folder / "predictions.csv").read_text().splitlines()[0] == (
        "path,file,label,p_blue,p_green,p_red,reason"
    )


def test_one_image_is_in_the_singular(folder, run):
    """Numbers and nouns agree on stderr and in results."""
    extract = ("extract", "data/val/red/0.png", "--layer", "block1_conv1", *TINY)
    code, out, err = run(*extract)
    assert (code, out.split(" in ")[0]) == (0, "codes.h5: codes of 1 image")
    assert "1 images" not in err
    assert "1 layers" not in err
    code, _, err = run(*extract)
    assert (code, "codes.h5: 1 of 1 image is done" in err) == (0, True)


@pytest.mark.parametrize(
    ("gflops", "printed"), [(None, []), (0.4, []), (1.0, ["1"]), (41.6, ["42"])]
)
def test_the_speed_of_inner_products(with_model, run, monkeypatch, gflops, printed):
    """The speed is printed only if the clock could measure it, so never as 0."""
    from featx.fitting.run import Fit

    facts = Fit.to_dict
    monkeypatch.setattr(Fit, "to_dict", lambda fitted: facts(fitted) | {"gflops": gflops})
    code, _, err = run("fit", "--clf", "centroid", "-o", "other.skops")
    assert (code, re.findall(r"(\S+) GFLOP/s", err)) == (0, printed)


def test_json_is_one_object_with_scores(with_model, run):
    """fit --json prints one object; a score has value, low and high."""
    code, out, _ = run("fit", "--json", "--quiet", "--overwrite")
    facts = json.loads(out)
    assert code == 0
    assert set(facts) == {
        *("codes", "layers", "solver", "gflops", "classifier", "normalise", "parameters", "tried"),
        *("scored_on", "without_duplicates", "baselines", "calibration", "seed", "n_train"),
        *("components", "whiten", "repeat_accuracies"),
        *("n_images", "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier"),
        *("calibration_error", "calibration_bins", "reliability", "top5", "labels", "per_class"),
        "confusion",
        *("confusions", "n_repeats", "duplicates", "notes", "seconds", "model"),
        *("n_groups", "n_folds", "positive", "threshold"),
    }
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier"):
        assert set(facts[name]) == {"value", "low", "high"}
    assert facts["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert facts == featx.load_model("model.skops").summary


def test_quiet_prints_results_only(folder, run):
    """With --quiet stderr stays empty and stdout holds the result."""
    code, out, err = run("extract", "--layer", "block1_pool", *TINY, "--quiet")
    assert (code, err, out.count("\n")) == (0, "", 1)
    code, out, err = run("fit", "--clf", "centroid", "-q")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 11
    code, out, err = run("predict", "data", "-q")
    assert (code, err, out.count("\n")) == (0, "", 1)


def test_extract_without_a_layer_lists_them(folder, run):
    """Without --layer, extract prints a table of the layers and exits as for a bad call."""
    code, out, err = run("extract")
    assert code == 2
    assert [line.split()[0] for line in out.splitlines()[1:]] == [layer.name for layer in LAYERS]
    assert "featx extract --layer block2_pool" in err
    assert "featx extract 'my photos' --layer block2_pool" in run("extract", "my photos")[2]
    assert listing(folder) == ["data"]


def test_the_next_step_is_possible(folder, run):
    """Without labels, the command that extract proposes has a table of labels."""
    (folder / "flat").mkdir()
    shutil.copy(folder / "data/train/red/0.png", folder / "flat/0.png")
    _, out, err = run("extract", "flat", "--layer", "block1_pool", *TINY, "-o", "flat.h5")
    assert "flat.h5: codes of 1 image in " in out
    assert err.splitlines()[0].startswith("1 image in flat (")
    following = err.splitlines()[-1]
    assert "featx fit flat.h5 --labels TABLE.csv" in following
    assert "featx predict flat.h5 --model MODEL" in following


def test_groups_are_counted_and_archives_named_as_typed(folder, run):
    """The first line has the number of groups and, for an archive, the path that was typed."""
    shutil.make_archive("pictures", "zip", root_dir=".", base_dir="data")
    extract = ("extract", "pictures.zip", "--layer", "block1_pool", *TINY)
    _, _, err = run(*extract, "--group", "[01].png")
    first, note = err.splitlines()[:2]
    assert first == "27 images in pictures.zip/data (train 18, val 9, 3 classes, 2 groups)"
    assert note.startswith("note: ")
    assert "'pictures.zip'" in note


def test_each_verb_is_one_line_of_the_help(run):
    """The list of verbs has whole sentences: no line is cut."""
    _, out, _ = run("--help")
    verbs = out.partition("Commands:")[2]
    assert "predict" in verbs
    assert "..." not in verbs


def test_layers_shows_what_codes_cost(run):
    """Shape, width, bytes and GFLOP follow size, pool and dtype; fc layers have one size only."""
    _, out, _ = run("layers")
    assert re.search(r"block2_pool +56x56x128 +401,408 +1.61 MB +9.42", out)
    _, out, _ = run("layers", "--size", "256", "--pool", "avg", "--dtype", "float16")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["block2_pool"] == ["128", "128", "0.00", "MB", "12.31"]
    assert rows["fc1"] == ["-", "-", "-", "-"]
    assert run("layers", "--pool", "mean")[0] == 1


def test_layers_too_small_for_a_grid_have_a_dash(run):
    """A layer that is too small for the grid has a dash; a grid that fits no layer is an error."""
    _, out, _ = run("layers", "--pool", "grid:14")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["block5_conv1"][:2] == ["14x14x512", "100,352"]
    assert rows["block5_pool"] == ["-", "-", "-", "-"]
    assert rows["fc1"][:2] == ["4096", "4,096"]
    code, out, err = run("layers", "--pool", "grid:225")
    assert (code, out) == (1, "")
    assert "--pool grid:225" in err
    assert "224x224" in err
    _, out, _ = run("layers", "--pool", "avg+max")
    assert re.search(r"^block5_pool +1024 +1,024 ", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("pool", "shape", "printed"),
    [("grid:2", (2, 2, 64), "2x2x64 = 256"), ("avg+max", (128,), "128")],
)
def test_the_main_job_at_other_poolings(folder, run, pool, shape, printed):
    """The store's codes have the pooling's shape; fit and predict take them, or the images."""
    code, _, err = run("extract", "--layer", "block1_pool", *TINY, "--pool", pool)
    assert code == 0
    assert re.search(rf"^block1_pool: {printed} ", err, re.M)
    store = featx.open_store("codes.h5")
    assert store.recipe.pool == pool
    with h5py.File("codes.h5") as file:
        assert file["codes/block1_pool"].shape == (27, *shape)
    assert f"\n  pool: {pool}\n" in run("info", "codes.h5")[1]
    code, out, _ = run("fit", "--clf", "ridge", "-q")
    assert code == 0
    assert re.search(r"^accuracy +1.000 ", out, re.M)
    assert run("predict", "codes.h5", "-o", "codes.csv")[0] == 0
    assert run("predict", "data", "-o", "images.csv")[0] == 0
    codes, images = (pd.read_csv(name, index_col="path") for name in ("codes.csv", "images.csv"))
    assert list(codes.label) == list(images.label)
    np.testing.assert_allclose(codes.filter(like="p_"), images.filter(like="p_"), atol=1e-5)
    assert run("evaluate", "data/val")[0] == 0


def wrong_names(folder):
    with h5py.File(folder / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv_a", b"conv_b"]
        for name in ("conv_a", "conv_b"):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel", b"bias"]
            group["kernel"] = np.zeros((5, 5, 3, 8), "f4")
            group["bias"] = np.zeros(8, "f4")


def truncated(folder):
    with h5py.File(folder / "whole.h5", "w") as file:
        file["x"] = np.zeros(1000)
    (folder / "cut.h5").write_bytes((folder / "whole.h5").read_bytes()[:3000])


EXTRACT = ("extract", "--layer", "block1_pool")


@pytest.mark.parametrize(
    ("prepare", "arguments", "facts"),
    [
        (None, ("extract", "--layer", "block2_pol"), ["'block2_pol'", "'block2_pool'"]),
        (None, ("extract", "photos", "--layer", "fc1"), ["'photos'", "--manifest"]),
        (
            wrong_names,
            (*EXTRACT, "--weights", "w.h5"),
            ["w.h5", "block1_conv1", "block1_conv2", "conv_a", "conv_b"],
        ),
        (truncated, (*EXTRACT, "--weights", "cut.h5"), ["cut.h5", "3,000 bytes", "--weights"]),
        (truncated, ("fit", "cut.h5"), ["cut.h5", "featx extract"]),
        (None, ("fit",), ["codes.h5", "featx extract"]),
        (None, ("fit", "--clf", "forest"), ["'forest'", "--clf", "hist-gradient-boosting, auto"]),
        (None, ("predict", "data"), ["model.skops", "featx fit"]),
        (None, ("export", "-o", "codes.xlsx"), ["codes.xlsx", ".parquet", ".csv", ".npz"]),
        (None, ("info", "nothing.h5"), ["nothing.h5", "model.skops", "codes.h5"]),
        (None, ("info", "data"), ["data is a folder", "model.skops", "codes.h5"]),
        (None, ("weights", "fetch", "resnet"), ["'resnet'", "featx weights fetch imagenet"]),
        (None, (*EXTRACT, "--batch-size", "many"), ["--batch-size", "many", "auto"]),
        (None, ("fit", "--C", "1,x"), ["--C 1,x", "--C 1,10,100"]),
        (None, ("sweep", "--budget", "10"), ["--budget 10", "10m"]),
    ],
)
def test_errors_are_one_message(folder, run, prepare, arguments, facts):
    """A mistake gives one message with the facts, and leaves no files."""
    if prepare is not None:
        prepare(folder)
    before = listing(folder)
    code, out, err = run(*arguments)
    assert (code, out, err.count("error: ")) == (1, "", 1)
    assert err.startswith("error: ")
    assert [fact for fact in facts if fact not in err] == []
    assert listing(folder) == before


def test_a_store_of_another_recipe_is_refused(with_model, run):
    """predict names the setting in which the codes differ from those of the model."""
    run("extract", "--layer", "block1_pool", *TINY[2:], "-o", "wide.h5")
    code, out, err = run("predict", "wide.h5")
    assert (code, out) == (1, "")
    for fact in ("wide.h5", "pool", "none", "--pool avg"):
        assert fact in err
    assert "predictions.csv" not in listing(with_model)


def test_fit_without_labels_is_refused(folder, make_store, run):
    """Images without labels cannot be fitted on; the message lists the sources of labels."""
    make_store(folder / "codes.h5", {"block1_pool": np.eye(6, 64, dtype="f4")}, [None] * 6)
    code, out, err = run("fit")
    assert (code, out) == (1, "")
    for fact in ("codes.h5", "data/CLASS", "--manifest", "--labels"):
        assert fact in err
    assert "model.skops" not in listing(folder)


def test_an_existing_model_is_kept(folder, run):
    """A second fit into the same file names --overwrite, before the store is opened."""
    (folder / "model.skops").write_text("precious")
    code, _, err = run("fit", "no-store-at-all.h5")
    assert code == 1
    assert "model.skops" in err
    assert "--overwrite" in err
    assert (folder / "model.skops").read_text() == "precious"


def test_bad_images_are_listed_and_counted(folder, run):
    """extract counts unreadable images and exits 0; info --bad lists them; fit leaves them out."""
    (folder / "data/train/red/0.png").write_bytes(b"")
    code, out, _ = run("extract", "--layer", "block1_pool", *TINY)
    assert code == 0
    assert re.search(r" 1 could not be read: featx info codes.h5 --bad$", out)
    _, out, _ = run("info", "codes.h5", "--bad")
    assert out.splitlines()[1] == "train/red/0.png  empty file"
    _, _, err = run("fit", "--clf", "centroid")
    assert re.search(r"^note: .*1 image .* red", err, re.M)


def test_all_bad_is_an_error(folder, run):
    """If no image can be read the exit code is 1."""
    for path in (folder / "data").rglob("*.png"):
        path.write_bytes(b"")
    code, _, err = run("extract", "--layer", "block1_pool", *TINY)
    assert code == 1
    assert re.match("error: .*27 images.*featx info codes.h5 --bad$", err.splitlines()[-1])


def test_info_shows_what_a_file_is(with_model, run):
    """A store, a model and a weights file are recognised by content, in words and as JSON."""
    _, out, _ = run("info", "codes.h5", "--json", "--digest")
    facts = json.loads(out)
    assert (facts["kind"], facts["images"], facts["status"]["done"]) == ("store", 27, 27)
    assert facts["digest"] == featx.open_store("codes.h5").digests()
    assert facts["recipe"]["layers"] == ["block1_pool"]
    _, out, _ = run("info", "model.skops")
    assert out.startswith("kind: model\nclasses: blue, green, red\n")
    accuracy = featx.load_model("model.skops").summary["accuracy"]["value"]
    assert f"\n  accuracy: {accuracy:.3f} (95 % interval " in out
    assert "{" not in out  # tables are for --json
    assert re.search(r"^  .*--json: .*reliability.*confusion", out, re.M)
    bundled = featx.__path__[0] + "/network/vgg19_oxford_normalised.h5"
    _, out, _ = run("info", bundled, "--json")
    facts = json.loads(out)
    assert facts["kind"] == "weights"
    assert facts["covers"] == [layer.name for layer in LAYERS if layer.kind == "conv"]
    assert facts["missing"] == ["fc1", "fc2"]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (("fit", "model.skops", "-o", "other.skops"), ["featx info model.skops"]),
        (("export", "model.skops", "-o", "other.csv"), ["featx info model.skops"]),
        (("fit", "data", "-o", "other.skops"), ["data", "featx extract data", "-o codes.h5"]),
        (("explain", "data/train/red/0.png", "data"), ["0.png", "featx fit"]),
        (("info", "model.skops", "--bad"), ["model.skops", "--bad"]),
    ],
)
def test_a_file_of_another_kind_is_refused(with_model, run, arguments, facts):
    """The message names the file and the command to use instead."""
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert [fact for fact in facts if fact not in err] == []


def test_a_keras_archive_is_not_a_model(folder, run):
    """A zip file that skops did not write is read as weights, with the message for weights."""
    with zipfile.ZipFile(folder / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    code, _, err = run("info", "x.keras")
    assert code == 1
    assert err.startswith("error: ")
    assert "skops" not in err


def test_export_prints_what_it_made(with_model, run):
    """export writes Parquet by default and prints the size of the file."""
    code, out, _ = run("export")
    assert code == 0
    assert re.fullmatch(r"codes.parquet: [\d.]+ MB\n", out)


def test_a_wrong_call_exits_with_2(run):
    """A flag that does not exist is a command line that cannot be read."""
    code, _, err = run("fit", "--classifier", "ridge")
    assert code == 2
    assert "--classifier" in err


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (("extrct",), "'extract'"),
        (("weights", "fech"), "'fetch'"),
        (("extract", "--layr", "block2_pool"), "--layer"),
        (("extract", "--layer", "block2_pool", "--preset", "texure"), "'texture'"),
        (("extract", "--layer", "block2_pol"), "'block2_pool'"),
        (("extract", "--layer", "block2_pool", "--pool", "agv"), "'avg'"),
        (("extract", "--layer", "block2_pool", "--resize", "sqash"), "'squash'"),
        (("extract", "--layer", "block2_pool", "--weights", "bundeld"), "'bundled'"),
        (("extract", "--layer", "block2_pool", "--device", "cpuu"), "'cpu'"),
        (("fit", "--clf", "logistik"), "'logistic'"),
        (("fit", "--clf", "ridge", "--set", "alfa=1"), "'alpha'"),
        (("fit", "--normalise", "center"), "'centre'"),
        (("fit", "--calibration", "temprature"), "'temperature'"),
        (("fit", "--solver", "grma"), "'gram'"),
        (("fit", "--duplicates", "togehter"), "'together'"),
        (("export", "--split", "tran"), "'train'"),
        (("finetune", "--augment", "strng"), "'strong'"),
        (("finetune", "--optimizer", "adam"), "'adamw'"),
    ],
)
def test_a_mistyped_name_gets_the_nearest(folder, make_store, run, arguments, guess):
    """For verbs, options and their values, the message proposes what was probably meant."""
    make_store(folder / "codes.h5", {"block1_pool": np.eye(6, 64, dtype="f4")}, list("aaabbb"))
    if arguments[0] == "extract":
        arguments += ("-o", "others.h5")
    code, _, err = run(*arguments)
    assert code in {1, 2}
    assert guess in err


def test_every_verb_has_help(run):
    """Each verb and each of its options has a help text."""
    _, out, _ = run("--help")
    verbs = re.findall(r"^  (\w+)  ", out, re.MULTILINE)
    assert verbs == [
        *("plan", "extract", "fit", "sweep", "finetune", "evaluate", "compare"),
        *("predict", "explain", "report", "export", "layers", "info", "weights"),
    ]
    for verb in verbs:
        code, out, _ = run(verb, "--help")
        assert code == 0
        assert not re.findall(r"^  --[\w-]+ *\w*$", out, re.MULTILINE), out


@pytest.mark.parametrize("arguments", [["--help"], ["layers"]])
def test_light_commands_import_nothing_heavy(arguments):
    """Help and tables come without NumPy, TensorFlow, Keras, pandas or scikit-learn."""
    code = (
        "import sys\nfrom featx.cli import main\n"
        f"sys.argv = ['featx', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib', 'numpy'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_progress_without_a_terminal_is_a_line_now_and_then(monkeypatch, capsys):
    """A log gets a line every ten seconds, its rate counted from the first batch of this run."""
    now = iter([100.0, 105.0, 112.0, 113.0, 130.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress_bar("extract", quiet=False) as progress:
        for done in (532, 564, 580, 590, 600):  # 500 were done by an earlier run
            progress(done, 600)
    assert capsys.readouterr().err == "extract: 580 of 600, 4.0 images/s, 5 s left\n"


def test_progress_of_a_second_round_starts_over(monkeypatch, capsys):
    """When fewer images are done than before, a new round has started, with its own rate."""
    now = iter([0.0, 5.0, 20.0, 32.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress_bar("images", quiet=False) as progress:
        for done in (100, 200, 100, 160):
            progress(done, 200)
    assert capsys.readouterr().err == "images: 160 of 200, 5.0 images/s, 8 s left\n"


def test_labels_that_the_terminal_cannot_show_are_escaped(folder, make_store, monkeypatch):
    """In an ASCII terminal a label is printed with escapes; the fit is not lost."""
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(20, 8)) + np.repeat([[0], [9]], 10, axis=0)
    make_store(folder / "codes.h5", {"block1_pool": codes.astype("f4")}, ["rosé", "gris"] * 10)
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "argv", ["featx", "fit", "--clf", "centroid"])
    with pytest.raises(SystemExit) as ended:
        main()
    terminal.flush()
    assert not ended.value.code
    assert b"ros\\xe9" in terminal.buffer.getvalue()
    assert (folder / "model.skops").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_ctrl_c_prints_what_is_kept(tmp_path, capsys, exists):
    """Ctrl-C prints one line with the path, no traceback, and exits with code 130."""
    path = tmp_path / "codes.h5"
    if exists:
        path.touch()
    with pytest.raises(typer.Exit) as stopped, console.stoppable(path):
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
    assert ("not exist" in line) is not exists

"""The command line, run in this process: what it prints, where, and how it exits."""

import json
import os
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
from featx.cli import console
from featx.layers import LAYERS

TINY = ("--pool", "avg", "--size", "32", "--weights", "random:0")


@pytest.fixture
def folder(image_folder, monkeypatch):
    """The current folder: it holds data/ and nothing else."""
    monkeypatch.chdir(image_folder.parent)
    return image_folder.parent


def listing(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_main_job(folder, run):
    """extract, fit and predict run as they stand in a folder with data/, and say what they made."""
    code, out, err = run("extract", "--layer", "block1_pool", *TINY)
    assert (code, listing(folder)) == (0, ["codes.h5", "data"])
    assert re.fullmatch(r"codes.h5: codes of 27 images in \d+ s, [\d.]+ images/s.\n", out)
    lines = err.splitlines()
    shares = r"network \d+% of the time, decoding \d+%, writing \d+%; the network waited \d+%"
    assert re.fullmatch(shares, lines.pop(-2))
    assert re.fullmatch(r"codes.h5: 0.13 MB of disk \([\d.]+ [GM]B free\)", lines.pop(2))
    assert lines == [
        "27 images in data (train 18, val 9, 3 classes)",
        "block1_pool: 64 numbers an image, float32",
        "weights random:0 (random:0): all 2 layers made",
        "device CPU (tensorflow), 27 images at a time",
        "Next: featx fit codes.h5 --clf logistic",
    ]
    code, out, err = run("fit", "--clf", "ridge")
    assert code == 0
    assert "scored on val, 9 images" in out
    assert "accuracy           1.000 (95 % interval 0.701 to 1.000)" in out
    assert "model.skops: ridge, fitted on 18 images" in out
    code, out, err = run("predict", "data/val/red", "data/val/blue/0.png")
    assert (code, out) == (0, "predictions.csv: 4 predictions\n")
    assert (folder / "predictions.csv").read_text().splitlines()[0] == (
        "path,label,p_blue,p_green,p_red"
    )


def test_one_image_is_said_in_the_singular(folder, run):
    """In lines on stderr and in results; docs/troubleshooting.md quotes the plural."""
    code, out, err = run("extract", "data/val/red/0.png", "--layer", "block1_conv1", *TINY)
    assert (code, out.split(" in ")[0]) == (0, "codes.h5: codes of 1 image")
    assert err.splitlines()[0].startswith("1 image in ")
    assert "weights random:0 (random:0): 1 layer made" in err
    assert "device CPU (tensorflow), 1 image at a time" in err
    code, _, err = run("extract", "data/val/red/0.png", "--layer", "block1_conv1", *TINY)
    assert (code, "going on with codes.h5: 1 of 1 image is done" in err) == (0, True)


@pytest.mark.parametrize(("gflops", "said"), [(None, []), (0.4, []), (1.0, ["1"]), (41.6, ["42"])])
def test_the_speed_of_inner_products_is_said_where_it_is_one(
    folder, run, monkeypatch, gflops, said
):
    """A few rows take no time that a clock can tell: no speed of 0 is said."""
    from featx.fitting.run import Fit

    run("extract", "--layer", "block1_pool", *TINY, "--quiet")
    facts = Fit.to_dict
    monkeypatch.setattr(Fit, "to_dict", lambda fitted: facts(fitted) | {"gflops": gflops})
    code, _, err = run("fit", "--clf", "ridge")
    assert (code, re.findall(r"inner products at (\S+) GFLOP/s", err)) == (0, said)


def test_json_is_one_object_with_scores(folder, run):
    """fit --json prints one object; a score has value, low and high."""
    run("extract", "--layer", "block1_pool", *TINY, "--quiet")
    code, out, _ = run("fit", "--json", "--quiet")
    facts = json.loads(out)
    assert code == 0
    assert set(facts) == {
        *("codes", "layers", "solver", "gflops", "classifier", "normalise", "parameters", "tried"),
        *("scored_on", "without_duplicates", "baselines", "calibration", "seed", "n_train"),
        *("components", "whiten"),
        *("n_images", "accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier"),
        *("calibration_error", "calibration_bins", "reliability", "top5", "labels", "per_class"),
        "confusion",
        *("confusions", "n_repeats", "duplicates", "notes", "seconds", "model"),
    }
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "brier"):
        assert set(facts[name]) == {"value", "low", "high"}
    assert facts["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert facts == featx.load_model("model.skops").summary


def test_quiet_prints_results_only(folder, run):
    """With --quiet stderr stays empty and stdout holds the result."""
    code, out, err = run("extract", "--layer", "block1_pool", *TINY, "--quiet")
    assert (code, err, out.count("\n")) == (0, "", 1)
    code, out, err = run("fit", "-q")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 11
    code, out, err = run("predict", "data", "-q")
    assert (code, err, out.count("\n")) == (0, "", 1)


def test_extract_without_a_layer_lists_them(folder, run):
    """Without --layer there is a table of the layers, no store, and the exit code of a bad call."""
    code, out, err = run("extract")
    assert code == 2
    assert [line.split()[0] for line in out.splitlines()[1:]] == [layer.name for layer in LAYERS]
    said = "No --layer was given. Choose one: featx extract{} --layer block2_pool\n"
    assert err == said.format("")
    assert run("extract", "my photos")[2] == said.format(" 'my photos'")
    assert listing(folder) == ["data"]


def test_without_labels_the_next_step_is_no_fit_of_nothing(folder, run):
    """What is proposed after an extraction can be typed: without labels a table is needed."""
    _, _, err = run("extract", "data", "--layer", "block1_pool", *TINY)
    assert err.endswith("Next: featx fit codes.h5 --clf logistic\n")
    (folder / "flat").mkdir()
    shutil.copy(folder / "data/train/red/0.png", folder / "flat/0.png")
    _, out, err = run("extract", "flat", "--layer", "block1_pool", *TINY, "-o", "flat.h5")
    assert "flat.h5: codes of 1 image in " in out
    assert "1 image in flat (no labels)\n" in err
    assert err.endswith(
        "Next: featx fit flat.h5 --labels TABLE.csv (columns path and label), or "
        "featx predict flat.h5 --model MODEL\n"
    )


def test_groups_are_counted_and_archives_named_as_typed(folder, run):
    """The first line says how many groups were found, and of an archive what the user typed."""
    _, _, err = run("extract", "data", "--layer", "block1_pool", *TINY, "--group", "[01].png")
    assert "27 images in data (train 18, val 9, 3 classes, 2 groups)\n" in err
    shutil.make_archive("pictures", "zip", root_dir=".", base_dir="data")
    _, _, err = run("extract", "pictures.zip", "--layer", "block1_pool", *TINY, "-o", "zip.h5")
    assert "27 images in pictures.zip/data (" in err
    assert "'pictures.zip'" in err


def test_each_verb_is_one_line_of_the_help(run):
    """The list of verbs says whole sentences: nothing is cut."""
    _, out, _ = run("--help")
    verbs = out.partition("Commands:")[2]
    assert "predict" in verbs
    assert "..." not in verbs


def test_layers_shows_what_codes_cost(run):
    """Shape, width, bytes and GFLOP follow size, pool and dtype; fc layers have one size only."""
    _, out, _ = run("layers")
    assert "block2_pool     56x56x128    401,408   1.61 MB   9.42" in out
    _, out, _ = run("layers", "--size", "256", "--pool", "avg", "--dtype", "float16")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["block2_pool"] == ["128", "128", "0.00", "MB", "12.31"]
    assert rows["fc1"] == ["-", "-", "-", "-"]
    assert run("layers", "--pool", "mean")[0] == 1


def test_layers_too_small_for_a_grid_have_a_dash(run):
    """A grid that no map is fine enough for is an error; that of avg+max is twice as wide."""
    _, out, _ = run("layers", "--pool", "grid:14")
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["block5_conv1"][:2] == ["14x14x512", "100,352"]
    assert rows["block5_pool"] == ["-", "-", "-", "-"]
    assert rows["fc1"][:2] == ["4096", "4,096"]
    code, out, err = run("layers", "--pool", "grid:225")
    assert (code, out) == (1, "")
    assert err == (
        "error: Layer 'block1_conv1' has a map of 224x224 places at size 224x224. Expected at "
        "least 225x225 for --pool grid:225. Use --pool grid:224, or --size 225 or more.\n"
    )
    _, out, _ = run("layers", "--pool", "avg+max")
    assert re.search(r"^block5_pool +1024 +1,024 ", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("pool", "shape", "said"),
    [("grid:2", (2, 2, 64), "2x2x64 = 256"), ("avg+max", (128,), "128")],
)
def test_the_main_job_at_other_poolings(folder, run, pool, shape, said):
    """The store's codes have the pooling's shape; fit and predict take them, or the images."""
    code, _, err = run("extract", "--layer", "block1_pool", *TINY, "--pool", pool)
    assert code == 0
    assert f"block1_pool: {said} numbers an image, float32\n" in err
    store = featx.open_store("codes.h5")
    assert store.recipe.pool == pool
    with h5py.File("codes.h5") as file:
        assert file["codes/block1_pool"].shape == (27, *shape)
    assert f"\n  pool: {pool}\n" in run("info", "codes.h5")[1]
    code, out, _ = run("fit", "--clf", "ridge", "-q")
    assert code == 0
    assert "accuracy           1.000" in out
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


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (
            None,
            ("extract", "--layer", "block2_pol"),
            "No layer 'block2_pol' in VGG19. Did you mean 'block2_pool'? All names: featx layers",
        ),
        (
            None,
            ("extract", "photos", "--layer", "block2_pool"),
            "Folder 'photos' does not exist. Use a folder that contains a folder of images for "
            "each class, one image, or a table: --manifest FILE.csv",
        ),
        (
            wrong_names,
            ("extract", "--layer", "block1_pool", "--weights", "w.h5"),
            "w.h5 does not fit VGG19 up to block1_pool: 0 of 2 layers with weights match.\n"
            "  block1_conv1: not in the file\n"
            "  block1_conv2: not in the file\n"
            "The file holds: conv_a, conv_b.\n"
            "No layer has a name of VGG19, nor do all 16 convolutions follow in order by shape.\n"
            "Look inside: featx info w.h5",
        ),
        (
            truncated,
            ("extract", "--layer", "block1_pool", "--weights", "cut.h5"),
            "cut.h5 is cut short or damaged: it begins as a weights file, but cannot be read to "
            "its end (3,000 bytes). Copy or download it again, or use --weights bundled.",
        ),
        (
            truncated,
            ("fit", "cut.h5"),
            "cut.h5 cannot be read as a store: it is cut short, damaged, or no HDF5 file. "
            "Make it again: featx extract --overwrite",
        ),
        (
            None,
            ("fit",),
            "No store codes.h5. Make one first: "
            "featx extract IMAGES --layer block2_pool -o codes.h5",
        ),
        (
            None,
            ("fit", "--clf", "forest"),
            "No classifier 'forest'. Use --clf with one of logistic, ridge, linear-svm, svm-rbf, "
            "knn, centroid, lda, sgd, logistic-l1, hist-gradient-boosting, auto.",
        ),
        (
            None,
            ("predict", "data"),
            "No bundle model.skops. Make one first: featx fit CODES -o model.skops",
        ),
        (
            None,
            ("export", "-o", "codes.xlsx"),
            "Cannot tell a format from codes.xlsx. "
            "Expected -o NAME.parquet or -o NAME.csv or -o NAME.npz.",
        ),
        (
            None,
            ("info", "nothing.h5"),
            "No file nothing.h5. Expected a store (codes.h5), a bundle (model.skops) or a weights "
            "file: featx info FILE",
        ),
        (
            None,
            ("weights", "fetch", "resnet"),
            "No weights 'resnet' to fetch. Use: featx weights fetch imagenet",
        ),
        (
            None,
            ("extract", "--layer", "block1_pool", "--batch-size", "many"),
            "No such batch size: many. Expected --batch-size auto, or 1 and more.",
        ),
    ],
)
def test_errors_are_one_message(folder, run, prepare, arguments, message):
    """A mistake is answered by one message, exit code 1, and nothing is left behind."""
    if prepare is not None:
        prepare(folder)
    before = listing(folder)
    code, out, err = run(*arguments)
    assert (code, out, err) == (1, "", f"error: {message}\n")
    assert listing(folder) == before


def test_a_store_of_another_recipe_is_refused(folder, run):
    """predict names the field in which the codes differ from the classifier's."""
    run("extract", "--layer", "block1_pool", *TINY)
    run("fit")
    run("extract", "--layer", "block1_pool", *TINY[2:], "-o", "wide.h5")
    code, out, err = run("predict", "wide.h5")
    assert (code, out) == (1, "")
    assert err == (
        "error: wide.h5 holds codes of another recipe than the classifier's: pool is none, "
        "expected avg. Extract again with --pool avg.\n"
    )
    assert "predictions.csv" not in listing(folder)


def test_fit_without_labels_is_refused(folder, run):
    """Images without class folders cannot be fitted on; the message says where labels come from."""
    run("extract", "data/val/red", "--layer", "block1_pool", *TINY)
    code, out, err = run("fit")
    assert (code, out) == (1, "")
    assert err == (
        "error: No image in codes.h5 has a label. Labels come from class folders (data/CLASS/… or "
        "data/train/CLASS/…), a manifest (featx extract --manifest table.csv), or a table: featx "
        "fit --labels table.csv\n"
    )
    assert "model.skops" not in listing(folder)


def test_an_existing_model_is_kept(folder, run):
    """A second fit into the same file says --overwrite at once, before the store is opened."""
    (folder / "model.skops").write_text("precious")
    code, _, err = run("fit", "no-store-at-all.h5")
    assert code == 1
    assert err == "error: model.skops exists. Use --overwrite to replace it, or another -o.\n"
    assert (folder / "model.skops").read_text() == "precious"


def test_bad_images_are_listed_and_counted(folder, run):
    """extract counts unreadable images and exits 0; info --bad lists them; fit leaves them out."""
    (folder / "data/train/red/0.png").write_bytes(b"")
    code, out, _ = run("extract", "--layer", "block1_pool", *TINY)
    assert code == 0
    assert out.endswith("images/s. 1 could not be read: featx info codes.h5 --bad\n")
    _, out, _ = run("info", "codes.h5", "--bad")
    assert out == "path             reason\ntrain/red/0.png  empty file\n"
    _, _, err = run("fit")
    assert "note: 1 image could not be read and is left out: 1 of red." in err


def test_all_bad_is_an_error(folder, run):
    """If no image can be read the exit code is 1."""
    for path in (folder / "data").rglob("*.png"):
        path.write_bytes(b"")
    code, _, err = run("extract", "--layer", "block1_pool", *TINY)
    assert code == 1
    assert err.endswith(
        "error: Of 27 images none could be read. Reasons: featx info codes.h5 --bad\n"
    )


def test_info_tells_what_a_file_is(folder, run):
    """A store, a bundle and a weights file are told apart by content, in words and as JSON."""
    run("extract", "--layer", "block1_pool", *TINY)
    run("fit")
    _, out, _ = run("info", "codes.h5", "--json", "--digest")
    facts = json.loads(out)
    assert (facts["kind"], facts["images"], facts["status"]["done"]) == ("store", 27, 27)
    assert facts["digest"] == featx.open_store("codes.h5").digests()
    assert facts["recipe"]["layers"] == ["block1_pool"]
    _, out, _ = run("info", "model.skops")
    assert out.startswith("kind: bundle\nclasses: blue, green, red\n")
    accuracy = featx.load_model("model.skops").summary["accuracy"]["value"]
    assert f"\n  accuracy: {accuracy:.3f} (95 % interval " in out
    assert "{" not in out  # tables are for --json
    assert "\n  more, by --json: tried, reliability, " in out
    for verb, output in (("fit", "other.skops"), ("export", "other.csv")):
        _, _, err = run(verb, "model.skops", "-o", output)
        assert err.endswith("is a zip archive, not a store. What it is: featx info model.skops\n")
    _, _, err = run("fit", "data", "-o", "other.skops")
    assert err == (
        "error: data is a folder, not a store. If it holds images, make a store of them first: "
        "featx extract data --layer block2_pool -o codes.h5\n"
    )
    _, _, err = run("explain", "data/train/red/0.png", "data")
    assert "0.png is no bundle. Expected a file that featx fit wrote" in err
    code, _, err = run("info", "model.skops", "--bad")
    assert (code, err) == (
        1,
        "error: model.skops is no store: --bad and --digest ask about the images and codes of "
        "one.\n",
    )
    bundled = featx.__path__[0] + "/network/vgg19_oxford_normalised.h5"
    _, out, _ = run("info", bundled, "--json")
    facts = json.loads(out)
    assert facts["kind"] == "weights"
    assert facts["covers"] == [layer.name for layer in LAYERS if layer.kind == "conv"]
    assert facts["missing"] == ["fc1", "fc2"]


def test_a_keras_archive_is_no_bundle(folder, run):
    """A zip is a bundle only if skops wrote it; another is read as weights, with their message."""
    with zipfile.ZipFile(folder / "x.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    code, _, err = run("info", "x.keras")
    assert code == 1
    assert err.startswith("error: ")
    assert "bundle" not in err


def test_export_prints_what_it_made(folder, run):
    """export writes Parquet by default and says how large it is."""
    run("extract", "--layer", "block1_pool", *TINY)
    code, out, _ = run("export")
    assert code == 0
    assert re.fullmatch(r"codes.parquet: [\d.]+ MB\n", out)


def test_a_wrong_call_exits_with_2(run):
    """A flag that does not exist is the shell's kind of mistake."""
    code, _, err = run("fit", "--classifier", "ridge")
    assert code == 2
    assert "No such option" in err


@pytest.mark.parametrize(
    ("arguments", "guess"),
    [
        (("extrct",), "Did you mean 'extract'"),
        (("weights", "fech"), "Did you mean 'fetch'?"),
        (("extract", "--layr", "block2_pool"), "--layer"),
        (("extract", "--layer", "block2_pool", "--recipe", "texure"), "Did you mean 'texture'?"),
        (("extract", "--layer", "block2_pol"), "Did you mean 'block2_pool'?"),
        (("extract", "--layer", "block2_pool", "--pool", "agv"), "Did you mean 'avg'?"),
        (("extract", "--layer", "block2_pool", "--resize", "sqash"), "Did you mean 'squash'?"),
        (("extract", "--layer", "block2_pool", "--weights", "bundeld"), "Did you mean 'bundled'?"),
        (("extract", "--layer", "block2_pool", "--device", "cpuu"), "Did you mean 'cpu'?"),
        (("fit", "--clf", "logistik"), "Did you mean 'logistic'?"),
        (("fit", "--clf", "ridge", "--set", "alfa=1"), "Did you mean 'alpha'?"),
        (("fit", "--normalise", "center"), "Did you mean 'centre'?"),
        (("fit", "--calibration", "temprature"), "Did you mean 'temperature'?"),
        (("fit", "--road", "spam"), "Did you mean 'span'?"),
        (("fit", "--duplicates", "togehter"), "Did you mean 'together'?"),
        (("finetune", "--augment", "strng"), "Did you mean 'strong'?"),
        (("finetune", "--optimizer", "adam"), "Did you mean 'adamw'?"),
    ],
)
def test_a_mistyped_name_is_answered_by_the_nearest(folder, make_store, run, arguments, guess):
    """Verbs, options and the words behind them: the message proposes what was meant."""
    make_store(folder / "codes.h5", {"block1_pool": np.eye(6, 64, dtype="f4")}, list("aaabbb"))
    if arguments[0] == "extract":
        arguments += ("-o", "others.h5")
    code, _, err = run(*arguments)
    assert code in {1, 2}
    assert guess in err


def test_every_verb_has_help(run):
    """Each verb and each of its options says what it is for."""
    _, out, _ = run("--help")
    verbs = re.findall(r"^  (\w+)  ", out, re.MULTILINE)
    assert verbs == [
        *("plan", "extract", "fit", "sweep", "finetune", "evaluate", "predict"),
        *("explain", "report", "export", "layers", "info", "weights"),
    ]
    for verb in verbs:
        code, out, _ = run(verb, "--help")
        assert code == 0
        assert not re.findall(r"^  --[\w-]+ *\w*$", out, re.MULTILINE), out


@pytest.mark.parametrize("arguments", [["--help"], ["layers"]])
def test_light_commands_import_no_tensorflow(arguments):
    """Help and tables come without TensorFlow, Keras, pandas or scikit-learn."""
    code = (
        "import sys\nfrom featx.cli import main\n"
        f"sys.argv = ['featx', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'tensorflow', 'keras', 'pandas', 'sklearn', 'matplotlib'} & set(sys.modules)\n"
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


def test_progress_of_a_second_round_begins_anew(monkeypatch, capsys):
    """Codes are extracted, and then those of the tuned network: one bar, two rounds."""
    now = iter([0.0, 5.0, 20.0, 32.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress_bar("images", quiet=False) as progress:
        for done in (100, 200, 100, 160):
            progress(done, 200)
    assert capsys.readouterr().err == "images: 160 of 200, 5.0 images/s, 8 s left\n"


def test_labels_that_the_terminal_cannot_show_are_spelt_out(folder):
    """In an ASCII terminal a label is printed with escapes; the fit is not lost."""
    (folder / "data/train/red").rename(folder / "data/train/rosé")
    (folder / "data/val/red").rename(folder / "data/val/rosé")
    featx.extract("data", layer="block1_pool", pool="avg", size=32, weights="random:0")
    code = "import sys; from featx.cli import main; sys.argv = ['featx', 'fit']; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"ros\\xe9" in ended.stdout
    assert (folder / "model.skops").exists()


@pytest.mark.parametrize(
    ("is_there", "kept"), [(True, "keeps what is done"), (False, "is not there yet")]
)
def test_ctrl_c_says_what_is_kept(tmp_path, capsys, is_there, kept):
    """And nothing else: no traceback, exit code 130."""
    path = tmp_path / "codes.h5"
    if is_there:
        path.touch()
    with pytest.raises(typer.Exit) as stopped, console.stoppable(path):
        raise KeyboardInterrupt
    assert stopped.value.exit_code == 130
    assert capsys.readouterr().err == f"Stopped. {path} {kept}; the same command goes on.\n"

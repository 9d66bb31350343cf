"""`featx finetune` on the command line: its output, its files, and runs that are killed."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from featx.workflows import prepare_finetune, prepare_sweep

# Keras converts TensorFlow's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = ["--layer", "block2_pool", "--size", "32", "--init", "random", "--batch-size", "6"]
TINY += ["--freeze-until", "block1_pool"]
KILLED = -signal.SIGKILL
SCORES = ("majority", "probe", "tuned", "fit_on_tuned")


@pytest.fixture(scope="module")
def home(tmp_path_factory, make_image_folder):
    """A folder with data/: 18 training images and 9 test images."""
    folder = tmp_path_factory.mktemp("home")
    make_image_folder(folder / "data")
    return folder


@pytest.fixture
def run(run, monkeypatch, home):
    """Run `featx finetune data`; return exit code, stdout and stderr."""
    monkeypatch.chdir(home)

    def call(*arguments, verb="finetune", images="data"):
        return run(verb, *([] if images is None else [images]), *arguments)

    return call


def facts_of(folder):
    """Return run.json without names, times and the number of resumed epochs."""
    text = (folder / "run.json").read_text().replace(folder.name, "DIR")
    drawn = {"seconds", "images_per_second", "gflops", "resumed_epochs", "micro_batch"}
    return json.loads(
        text, object_hook=lambda facts: {k: v for k, v in facts.items() if k not in drawn}
    )


def close(one, two):
    """Compare JSON, and numbers with the digits of float32."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            close(one[name], two[name])
    elif isinstance(one, list):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            close(a, b)
    elif isinstance(one, float):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-6)
    else:
        assert one == two


@pytest.fixture
def straight(run, home):
    """The command of an uninterrupted run of three epochs, its stdout and its stderr."""
    command = [*TINY, "--epochs", "3", "--lr", "1e-4", "--dropout", "0.1"]
    code, out, err = run(*command, "--tensorboard", "-o", "straight")
    assert code == 0, err
    return command, out, err


def test_a_run_from_start_to_end(run, home, straight):
    """It shows every epoch, and prints four scores with intervals."""
    command, out, err = straight
    lines = err.splitlines()
    for fact in ("27 images", "block2_pool", "block1_pool", "adamw", "0.0001"):
        assert fact in lines[0]
    assert any(re.search(r"\b15\b.*\b3\b.*\b9\b.*\(val\)", line) for line in lines)
    shown = [int(line.split()[0]) for line in lines if re.match(r" *\d+ of 3 ", line)]
    assert shown == [0, 1, 2, 3]
    facts = facts_of(home / "straight")
    assert any(f"epoch {facts['best_epoch']}" in line for line in lines)
    printed = out.splitlines()
    assert re.search(r"\b9\b.*\(val\)", printed[0])
    for line, name in zip(
        printed[2:6], ("majority", "probe", "tuned", "fit_on_tuned"), strict=True
    ):
        score = facts[name]
        expected = [f"{score['value']:.3f}", f"{score['low']:.3f}", f"{score['high']:.3f}"]
        assert re.findall(r"\d\.\d{3}", line) == expected
    assert printed[6] == facts["advice"]
    assert "Traceback" not in err
    events(home / "straight/tensorboard", facts)
    again_is_the_same_and_json(run, home, command, out)


def events(folder, facts):
    """The events for TensorBoard have the numbers of every epoch."""
    import tensorflow as tf

    (file,) = folder.iterdir()
    assert "tfevents" in file.name
    found = {}
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            found[event.step, value.tag] = value.simple_value
    for epoch in facts["history"]:
        for name in ("loss", "accuracy", "stopping_loss", "stopping_accuracy", "rate"):
            if epoch[name] is None:
                assert (epoch["epoch"], name) not in found
            else:
                assert found[epoch["epoch"], name] == pytest.approx(epoch[name], rel=1e-6)


def again_is_the_same_and_json(run, home, command, out):
    """The same command on the finished run prints the same; --json prints run.json."""
    stamp = (home / "straight/tuned.keras").stat().st_mtime_ns
    code, printed, _ = run(*command, "-o", "straight")
    assert (code, printed) == (0, out)
    code, printed, _ = run(*command, "-o", "straight", "--json", "--quiet")
    assert code == 0
    assert json.loads(printed) == json.loads((home / "straight/run.json").read_text())
    for name in SCORES:
        assert set(json.loads(printed)[name]) == {"value", "low", "high"}
    assert (home / "straight/tuned.keras").stat().st_mtime_ns == stamp


@pytest.fixture
def program():
    """The command that starts `featx` in another process."""
    code = "import sys; from featx.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code]


def kill_at(command, folder, line, delay):
    """Start a command, wait for a line of stderr and a short time, and kill it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    with process:
        for read in process.stderr:
            if line in read:
                break
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.stderr.read()
    return process.returncode


@pytest.mark.slow
def test_a_killed_run_gives_the_same_results(run, home, program):
    """The same command, killed twice at random moments, gives the results of an uninterrupted
    run."""
    command = [*TINY, "--epochs", "4", "--lr", "1e-4", "--dropout", "0.1", "--augment", "lecture"]
    code, _, err = run(*command, "-o", "whole")
    assert code == 0, err
    killed, done = [*program, "finetune", "data", *command, "-o", "killed"], []
    early = ["27 images", "device", "probe", " 0 of 4", " 1 of 4"]
    late = [" 1 of 4", " 2 of 4", " 3 of 4", "codes of the"]
    for moments in (early, late):
        moment, delay = random.choice(moments), random.uniform(0, 0.3)
        status = kill_at(killed, home, moment, delay)
        done.append((moment, delay, status))
        assert status in {KILLED, 0}, done
    code, _, err = run(*command, "-o", "killed")
    assert code == 0, (done, err)
    print(f"killed at {done}")
    close(facts_of(home / "whole"), facts_of(home / "killed"))
    assert len(facts_of(home / "killed")["history"]) == 5
    left = {path.name for path in (home / "killed").iterdir() if path.name[0] != "."}
    assert left == {path.name for path in (home / "whole").iterdir()}


@pytest.mark.usefixtures("straight")
def test_overwrite_starts_over(run, home):
    """Other settings than those of the finished run are refused, unless --overwrite is given."""
    shutil.copytree(home / "straight", home / "again")
    other = [*TINY, "--epochs", "1", "--optimizer", "sgd", "-o", "again"]
    code, out, err = run(*other)
    assert (code, out) == (1, "")
    assert "again" in err
    code, _, of_codes = run("--layer", "block1_conv1", "--size", "32", "-o", "again")
    assert code == 1
    assert "--layer block2_pool" in of_codes
    assert "optimizer is sgd, was adamw" in err
    assert "epochs is 1, was 3" in err
    one, two = ((home / name / "run.json").read_bytes() for name in ("again", "straight"))
    assert one == two
    code, _, err = run(*other, "--overwrite")
    assert code == 0, err
    facts = json.loads((home / "again/run.json").read_text())
    assert (facts["training"]["optimizer"], len(facts["history"])) == ("sgd", 2)
    assert facts["resumed_epochs"] == 0


def test_a_bad_image_is_left_out(run, home):
    """The run does not stop, and the image is in no set."""
    shutil.copytree(home / "data", home / "spoilt")
    (home / "spoilt/train/red/0.png").write_bytes(b"no image")
    (home / "spoilt/val/blue/1.png").write_bytes(b"")
    code, out, err = run(*TINY, "--epochs", "1", "-o", "bad", images="spoilt")
    assert code == 0, err
    assert re.search(r"\b8\b.*\(val\)", out.splitlines()[0])
    assert re.search("2 images.*1 of red, 1 of blue.*featx info bad/codes.h5 --bad", err)
    _, named, _ = run("--bad", verb="info", images="bad/codes.h5")
    assert "train/red/0.png" in named
    assert "val/blue/1.png" in named
    table = (home / "bad/split.csv").read_text()
    assert "train/red/1.png" in table
    assert "train/red/0.png" not in table
    assert "val/blue/1.png" not in table


# refusals


def draw(folder, n_images):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n_images):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--layer", "block9_pool"], "block9_pool"),
        (["--layer", "nonsense"], "nonsense"),
        (["--pool", "mean"], "mean"),
        (["--size", "big"], "big"),
        (["--size", "0"], "0"),
        (["--init", "no.h5"], "no.h5"),
        (["--init", "random:x"], "random:x"),
        (["--rename", "a"], "--rename OLD=NEW"),
        (["--freeze-until", "block9"], "block9"),
        (["--freeze-until", "block3_pool"], "--layer block2_pool"),
        (["--clf", "knn"], "'knn' for --clf"),
        (["--from-model", "no.skops"], "no.skops"),
        (["--head", "mlp"], "'mlp' for --head"),
        (["--head", "mlp:0"], "'mlp:0' for --head"),
        (["--head", "deep:3"], "'deep:3' for --head"),
        (["--head-init", "zero"], "'zero' for --head-init"),
        (["--head", "mlp:4", "--head-init", "probe"], "--head mlp:4"),
        (["--dropout", "1"], "--dropout"),
        (["--augment", "blur"], "'blur' for --augment"),
        (["--cache", "-1"], "--cache"),
        (["--cache", "0", "--freeze-until", "none"], "--cache"),
        (["--optimizer", "adam"], "'adam' for --optimizer"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr"),
        (["--block-decay", "2"], "--block-decay"),
        (["--weight-decay", "-1"], "--weight-decay"),
        (["--schedule", "exp"], "'exp' for --schedule"),
        (["--epochs", "0"], "--epochs"),
        (["--patience", "0"], "--patience"),
        (["--batch-size", "0"], "--batch-size"),
        (["--class-weight", "equal"], "'equal' for --class-weight"),
        (["--preprocess", "torch"], "torch"),
        (["--resize", "warp"], "warp"),
        (["--precision", "float8"], "float8"),
        (["--device", "tpu"], "tpu"),
        (["--manifest", "no.csv"], "no.csv"),
        (["--seed", "-1"], "--seed"),
        (["-o", "no/where"], "no"),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_values_that_are_not_allowed_are_refused(run, home, flags, words):
    """The exit code is 1, and nothing is printed or left behind."""
    before = sorted(path.name for path in home.iterdir())
    images = None if "--manifest" in flags else "data"
    code, out, err = run(*TINY, "-o", "none", *flags, images=images)
    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err
    assert sorted(path.name for path in home.iterdir()) == before


def test_other_outputs_are_not_written_to(run, home):
    """A file, a folder of other files, and a project that has a codes.h5."""
    (home / "file").write_text("mine")
    (home / "folder").mkdir()
    (home / "folder/notes.txt").write_text("mine")
    (home / "project").mkdir()
    for name in ("codes.h5", "thesis.txt"):
        (home / "project" / name).write_text("mine")
    for output in ("file", "folder", "project"):
        for more in ([], ["--overwrite"]):
            code, out, err = run(*TINY, "-o", output, *more)
            assert (code, out) == (1, "")
            assert f"{output} " in err
    for path in (home / "file", home / "folder/notes.txt", home / "project/codes.h5"):
        assert path.read_text() == "mine"
    assert len(list((home / "folder").iterdir())) == 1


@pytest.mark.parametrize("verb", ["sweep", "finetune"])
def test_leftovers_of_killed_runs_are_no_files_of_others(home, tmp_path, verb):
    """The next run accepts the folder that a killed one had just begun to fill."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("codes.h5", "split.csv"):
        (folder / f".{name}.featx-0123456789ab.tmp").write_bytes(b"")
    settings = {"size": 32, "weights": "random:0", "output": folder}
    if verb == "sweep":
        job = prepare_sweep(home / "data", **settings)
    else:
        settings["init"] = settings.pop("weights")
        job = prepare_finetune(home / "data", layer="block1_pool", **settings)
    assert job.folder == folder


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({}, "empty"),
        ({"ant": 5}, "ant"),
        ({"ant": 1, "bee": 1}, "test set"),
        ({"ant": 2, "bee": 2}, "early-stopping set"),
    ],
    ids=["none", "one class", "one each", "two each"],
)
def test_unsuitable_images_are_refused(run, home, classes, words, tmp_path):
    """No image, one class, and too few images for a set leave no result."""
    (tmp_path / "empty").mkdir()
    for name, n_images in classes.items():
        draw(tmp_path / "empty" / name, n_images)
    code, out, err = run(*TINY, "-o", tmp_path / "none", images=str(tmp_path / "empty"))
    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "none").exists()


def test_a_run_that_was_killed_early_is_resumed(run, home):
    """Only temporary files exist when the first file is not complete."""
    (home / "early").mkdir()
    (home / "early/.codes.h5.123.tmp").write_bytes(b"half")
    (home / "early/.codes.h5.lock").write_bytes(b"")
    code, _, err = run(*TINY, "--epochs", "1", "-o", "early", "--cache", "0")
    assert code == 0, err

"""`featx finetune` as people type it: its words, its files, and what a kill leaves."""

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

# Keras reads TensorFlow's variables in a way that NumPy 2 will not take for ever.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TINY = ["--layer", "block2_pool", "--size", "32", "--init", "random", "--batch-size", "6"]
TINY += ["--freeze-until", "block1_pool"]
KILLED = -signal.SIGKILL
SCORES = ("majority", "probe", "tuned", "fit_on_tuned")


@pytest.fixture(scope="module")
def home(tmp_path_factory, make_image_folder):
    """A folder with data/: 18 pictures to learn from and 9 to compare on."""
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
    """Return run.json without names, what a clock says, and how often it was stopped."""
    text = (folder / "run.json").read_text().replace(folder.name, "DIR")
    drawn = {"seconds", "images_per_second", "gflops", "resumed_epochs", "micro_batch"}
    return json.loads(
        text, object_hook=lambda facts: {k: v for k, v in facts.items() if k not in drawn}
    )


def close(one, two):
    """Compare JSON, numbers to float32's digits."""
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
    """The command of a run of three epochs that nothing stops, and what it says and prints."""
    command = [*TINY, "--epochs", "3", "--lr", "1e-4", "--dropout", "0.1"]
    code, out, err = run(*command, "--tensorboard", "-o", "straight")
    assert code == 0, err
    return command, out, err


def test_a_run_from_its_first_word_to_its_last(run, home, straight):
    """It says what it does, shows every epoch, and prints four scores with intervals."""
    command, out, err = straight
    said = err.splitlines()
    assert said[0] == (
        "27 images in data; VGG19 cut after block2_pool, all up to block1_pool frozen; adamw, "
        "rate 0.0001"
    )
    assert "15 images to train on, 3 to stop on, 9 untouched to compare on (val)" in said
    assert [int(line.split()[0]) for line in said if re.match(r" *\d+ of 3 ", line)] == [0, 1, 2, 3]
    facts = facts_of(home / "straight")
    assert f"all 3 epochs are done; best: epoch {facts['best_epoch']}" in said
    printed = out.splitlines()
    assert printed[0] == "accuracy on 9 untouched images (val)"
    for line, name in zip(
        printed[2:6], ("majority", "probe", "tuned", "fit_on_tuned"), strict=True
    ):
        score = facts[name]
        expected = [f"{score['value']:.3f}", f"{score['low']:.3f}", f"{score['high']:.3f}"]
        assert re.findall(r"\d\.\d{3}", line) == expected
    assert printed[6] == facts["advice"]
    assert not any(line.startswith("Traceback") for line in said)
    events(home / "straight/tensorboard", facts)
    again_is_the_same_and_json(run, home, command, out)


def events(folder, facts):
    """TensorBoard's own format holds every epoch's numbers."""
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
    """The same command on the finished run prints the same; with --json all of run.json."""
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
    """What starts `featx` in a process of its own."""
    code = "import sys; from featx.cli import main; sys.exit(main())"
    return [sys.executable, "-c", code]


def kill_at(command, folder, line, delay):
    """Start a command, wait for a line of stderr and a moment more, and kill it."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    with process:
        for said in process.stderr:
            if line in said:
                break
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.stderr.read()
    return process.returncode


def test_killed_at_random_moments_it_ends_as_a_straight_run(run, home, program):
    """Twice killed, somewhere between the first image and the last file, the same command ends
    with the numbers of a run that nothing stopped."""
    command = [*TINY, "--epochs", "4", "--lr", "1e-4", "--dropout", "0.1", "--augment", "lecture"]
    code, _, err = run(*command, "-o", "whole")
    assert code == 0, err
    killed, done = [*program, "finetune", "data", *command, "-o", "killed"], []
    early = ["27 images", "device", "probe:", " 0 of 4", " 1 of 4"]
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
def test_overwrite_begins_anew(run, home):
    """Other settings on a finished run are refused by name; --overwrite takes them."""
    shutil.copytree(home / "straight", home / "again")
    other = [*TINY, "--epochs", "1", "--optimizer", "sgd", "-o", "again"]
    code, out, err = run(*other)
    assert (code, out) == (1, "")
    assert "again holds a run with other settings: " in err
    code, _, of_codes = run("--layer", "block1_conv1", "--size", "32", "-o", "again")
    assert code == 1
    assert "error: again holds a run with other settings: --layer block2_pool " in of_codes
    assert "optimizer is sgd, was adamw" in err
    assert "epochs is 1, was 3" in err
    one, two = ((home / name / "run.json").read_bytes() for name in ("again", "straight"))
    assert one == two
    code, _, err = run(*other, "--overwrite")
    assert code == 0, err
    facts = json.loads((home / "again/run.json").read_text())
    assert (facts["tuning"]["optimizer"], len(facts["history"])) == ("sgd", 2)
    assert facts["resumed_epochs"] == 0


def test_a_bad_image_is_left_out_by_name(run, home):
    """The run goes on without it, and says where its name is; its part is none."""
    shutil.copytree(home / "data", home / "spoilt")
    (home / "spoilt/train/red/0.png").write_bytes(b"no image")
    (home / "spoilt/val/blue/1.png").write_bytes(b"")
    code, out, err = run(*TINY, "--epochs", "1", "-o", "bad", images="spoilt")
    assert code == 0, err
    assert out.startswith("accuracy on 8 untouched images (val)")
    said = "2 images could not be read and are left out: 1 of red, 1 of blue. Reasons: "
    assert f"{said}featx info bad/codes.h5 --bad" in err
    _, named, _ = run("--bad", verb="info", images="bad/codes.h5")
    assert "train/red/0.png" in named
    assert "val/blue/1.png" in named
    table = (home / "bad/split.csv").read_text()
    assert "train/red/1.png" in table
    assert "train/red/0.png" not in table
    assert "val/blue/1.png" not in table


# what is refused


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
        (["--freeze-until", "block3_pool"], "lies behind --layer block2_pool"),
        (["--clf", "knn"], "No probe 'knn'. Use --clf logistic, ridge or linear-svm."),
        (["--from-model", "no.skops"], "no.skops"),
        (["--head", "mlp"], "No such head: mlp"),
        (["--head", "mlp:0"], "No such head: mlp:0"),
        (["--head", "deep:3"], "No such head: deep:3"),
        (["--head-init", "zero"], "No head begins as 'zero'"),
        (["--head", "mlp:4", "--head-init", "probe"], "--head mlp:4 has layers that no probe has"),
        (["--dropout", "1"], "--dropout 1.0. Expected --dropout from 0 to below 1"),
        (["--augment", "blur"], "No augment 'blur'. Use --augment with one of none, flip"),
        (["--cache", "-1"], "No such number of copies: --cache -1"),
        (["--cache", "0", "--freeze-until", "none"], "--cache keeps activations of frozen layers"),
        (["--optimizer", "adam"], "No optimizer 'adam'"),
        (["--lr", "0"], "--lr 0.0"),
        (["--lr", "nan"], "--lr nan"),
        (["--block-decay", "2"], "--block-decay 2.0"),
        (["--weight-decay", "-1"], "--weight-decay -1.0"),
        (["--schedule", "exp"], "No schedule 'exp'"),
        (["--epochs", "0"], "--epochs 0"),
        (["--patience", "0"], "--patience 0"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--class-weight", "equal"], "No class weight 'equal'. Use --class-weight balanced."),
        (["--preprocess", "torch"], "torch"),
        (["--resize", "warp"], "warp"),
        (["--precision", "float8"], "float8"),
        (["--device", "tpu"], "tpu"),
        (["--manifest", "no.csv"], "no.csv"),
        (["--seed", "-1"], "--seed -1"),
        (["-o", "no/where"], "to make where in. Make it first."),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_words(run, home, flags, words):
    """One line of words, exit code 1, nothing printed and nothing left behind."""
    before = sorted(path.name for path in home.iterdir())
    images = None if "--manifest" in flags else "data"
    code, out, err = run(*TINY, "-o", "none", *flags, images=images)
    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err
    assert sorted(path.name for path in home.iterdir()) == before


def test_an_output_that_is_something_else_is_left_alone(run, home):
    """A file, a folder of other things, and a project with codes of its own are not written to."""
    (home / "file").write_text("mine")
    (home / "folder").mkdir()
    (home / "folder/notes.txt").write_text("mine")
    (home / "project").mkdir()
    for name in ("codes.h5", "thesis.txt"):
        (home / "project" / name).write_text("mine")
    cases = {
        "file": "file is a file. Expected a folder",
        "folder": "folder holds other files than a fine-tuning's",
        "project": "project holds other files than a fine-tuning's",
    }
    for output, words in cases.items():
        for more in ([], ["--overwrite"]):
            code, out, err = run(*TINY, "-o", output, *more)
            assert (code, out) == (1, "")
            assert words in err
    for path in (home / "file", home / "folder/notes.txt", home / "project/codes.h5"):
        assert path.read_text() == "mine"
    assert len(list((home / "folder").iterdir())) == 1


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({}, "empty"),
        ({"ant": 5}, "has images of ant. Expected two classes or more"),
        ({"ant": 1, "bee": 1}, "classes are too small"),
        ({"ant": 2, "bee": 2}, "Too few images"),
    ],
    ids=["none", "one class", "one each", "two each"],
)
def test_images_that_cannot_do_are_refused(run, home, classes, words, tmp_path):
    """No image, one class, and too few to compare on are words, and no result."""
    (tmp_path / "empty").mkdir()
    for name, n_images in classes.items():
        draw(tmp_path / "empty" / name, n_images)
    code, out, err = run(*TINY, "-o", tmp_path / "none", images=str(tmp_path / "empty"))
    assert (code, out) == (1, "")
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "none").exists()


def test_what_an_early_kill_leaves_is_gone_on_with(run, home):
    """Killed before its first file had a name, a run is begun again by the same command."""
    (home / "early").mkdir()
    (home / "early/.codes.h5.123.tmp").write_bytes(b"half")
    (home / "early/.codes.h5.lock").write_bytes(b"")
    code, _, err = run(*TINY, "--epochs", "1", "-o", "early", "--cache", "0")
    assert code == 0, err

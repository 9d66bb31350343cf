"""Completion: what a Tab offers, asked as bash, zsh and fish ask, and as the library takes it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from featx.choices import (
    Augmentation,
    Calibration,
    Dtype,
    Jpeg,
    Normalise,
    Optimizer,
    Precision,
    Preprocess,
    Resize,
    ScalesJoin,
    Schedule,
    Solver,
)
from featx.cli import app as cli
from featx.cli.completion import CLASSIFIERS, words_of
from featx.extraction import PRESETS
from featx.fitting.classifiers import AUTO
from featx.fitting.classifiers import CLASSIFIERS as TABLE
from featx.layers import LAYERS

FEATX = (
    "import sys\nsys.argv[0] = 'featx'\nfrom featx.cli import main\n"
    "try:\n    main()\nfinally:\n"
    "    heavy = {'tensorflow', 'keras', 'sklearn', 'pandas', 'h5py'} & set(sys.modules)\n"
    "    print(f'imported {heavy}' if heavy else '', end='', file=sys.stderr)\n"
)
NAMES = [layer.name for layer in LAYERS]


def environment(**more):
    return {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **more}


def ask(shell, line):
    """What the shell gets for the words that were typed so far, the last of them incomplete."""
    words = line.split(" ")
    asked = {
        "_FEATX_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [sys.executable, "-c", FEATX],
        env=environment(**asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line for line in done.stdout.splitlines() if line]


def test_the_three_shells_get_the_layers():
    """Each is answered in its own words, and nothing heavy is imported for it."""
    block2 = ["block2_conv1", "block2_conv2", "block2_pool"]
    assert ask("bash", "featx extract --layer block2") == block2
    fish = ask("fish", "featx extract --layer block2")
    assert fish == [
        "block2_conv1\t112x112x128 at size 224",
        "block2_conv2\t112x112x128 at size 224",
        "block2_pool\t56x56x128 at size 224",
    ]
    zsh = ask("zsh", "featx extract --layer block2_p")
    assert zsh == ['_arguments \'*: :(("block2_pool":"56x56x128 at size 224"))\'']


def test_verbs_options_and_files():
    """Verbs and options complete too; where a file is meant, the shell is left to its own."""
    assert ask("bash", "featx ex") == ["extract", "explain", "export"]
    assert ask("bash", "featx fit --comp") == ["--components"]
    assert ask("bash", "featx fit cod") == []
    assert ask("zsh", "featx predict pho") == ["_files"]


def test_bash_itself_completes():
    """The script that --show-completion prints is run by bash, as a Tab would."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    script = (
        'eval "$(featx --show-completion bash)"\n'
        "COMP_WORDS=(featx fit --normalise sq) COMP_CWORD=3\n"
        "_featx_completion featx\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "-c", script],
        env=environment(PATH=path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("sqrt-l2\n", "")


def commands():
    group = get_command(cli.app)
    verbs = {name: verb for name, verb in group.commands.items() if name != "weights"}
    return {**verbs, "weights fetch": group.commands["weights"].commands["fetch"]}


def offered(verb, option):
    """Values that a Tab offers behind an option."""
    command = commands()[verb]
    (parameter,) = [p for p in command.params if option in p.opts]
    context = command.make_context("featx", [], resilient_parsing=True)
    return [item.value for item in parameter.shell_complete(context, "")]


@pytest.mark.parametrize(
    ("verb", "option", "expected"),
    [
        *((verb, "--layer", NAMES) for verb in ("plan", "extract", "fit", "sweep", "finetune")),
        ("finetune", "--freeze-until", [*NAMES, "none"]),
        *((verb, "--clf", [*TABLE, AUTO]) for verb in ("fit", "sweep")),
        *((verb, "--normalise", get_args(Normalise)) for verb in ("fit", "sweep")),
        *((verb, "--recipe", PRESETS) for verb in ("plan", "extract")),
        ("extract", "--pool", ["none", "avg", "max", "avg+max", "grid:2", "bilinear"]),
        ("extract", "--weights", ["bundled", "imagenet", "random:0"]),
        ("evaluate", "--device", ["auto", "cpu", "gpu", "gpu:0"]),
        ("predict", "--device", ["auto", "cpu", "gpu", "gpu:0", "gpu:all"]),
        ("extract", "--resize", get_args(Resize)),
        ("extract", "--jpeg", get_args(Jpeg)),
        ("extract", "--preprocess", get_args(Preprocess)),
        ("extract", "--precision", get_args(Precision)),
        ("predict", "--precision", get_args(Precision)),
        ("extract", "--dtype", get_args(Dtype)),
        ("extract", "--scales-join", get_args(ScalesJoin)),
        ("fit", "--road", get_args(Solver)),
        ("fit", "--calibration", get_args(Calibration)),
        ("finetune", "--augment", get_args(Augmentation)),
        ("finetune", "--optimizer", get_args(Optimizer)),
        ("finetune", "--schedule", get_args(Schedule)),
        ("export", "--split", ["train", "val", "test"]),
        ("weights fetch", "name", ["imagenet"]),
    ],
)
def test_what_is_offered_is_what_is_taken(verb, option, expected):
    """The words behind an option are those that the library knows, all of them."""
    assert sorted(offered(verb, option)) == sorted(expected)


def test_no_option_is_forgotten():
    """Each option of each verb completes to the words of its metavar."""
    n_options = 0
    for name, command in commands().items():
        for parameter in command.params:
            words = [word for word, _ in words_of(getattr(parameter, "metavar", None) or "")]
            if words:
                assert offered(name, parameter.opts[0]) == words
                n_options += 1
    assert n_options > 50


def test_help_names_the_classifiers():
    """The names that complete are those of the table, and --help lists them."""
    assert set(CLASSIFIERS) == {*TABLE, AUTO}
    (parameter,) = [p for p in commands()["fit"].params if "--clf" in p.opts]
    for name in CLASSIFIERS:
        assert name in parameter.help

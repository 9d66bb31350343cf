"""Completion: what a Tab offers to bash, zsh and fish, and that the library accepts it."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from featx import choices
from featx.choices import choices_of
from featx.cli import app as cli
from featx.cli.completion import words_of
from featx.layers import LAYERS

FEATX = (
    "import sys\nsys.argv[0] = 'featx'\nfrom featx.cli import main\n"
    "try:\n    main()\nfinally:\n"
    "    heavy = {'tensorflow', 'keras', 'sklearn', 'pandas', 'h5py', 'numpy'} & set(sys.modules)\n"
    "    print(f'imported {heavy}' if heavy else '', end='', file=sys.stderr)\n"
)
NAMES = [layer.name for layer in LAYERS]
NO_DETECTION = "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"


def asked(shell, line):
    """The environment in which a shell asks how the last word of a line may be completed."""
    return {
        "_FEATX_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


@pytest.fixture
def ask(run, monkeypatch):
    """A function of a shell and a line that returns what the shell gets."""

    def call(shell, line):
        for name, value in asked(shell, line).items():
            monkeypatch.setenv(name, value)
        code, out, err = run()
        assert (code, err) == (0, "")
        return [line for line in out.splitlines() if line]

    return call


def test_the_three_shells_get_the_layers(ask):
    """Each shell gets the layers in its own format."""
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


def test_verbs_options_and_files(ask):
    """Verbs and options complete too; files are left to the shell."""
    assert ask("bash", "featx ex") == ["extract", "explain", "export"]
    assert ask("bash", "featx fit --comp") == ["--components"]
    assert ask("bash", "featx fit cod") == []
    assert ask("zsh", "featx predict pho") == ["_files"]


def test_completion_imports_nothing_heavy():
    """Completion imports neither NumPy nor any larger library."""
    done = subprocess.run(
        [sys.executable, "-c", FEATX],
        env={**os.environ, NO_DETECTION: "1", **asked("bash", "featx fit --normalise sq")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["sqrt-l2"], "")


def test_bash_itself_completes():
    """Bash runs the script that --show-completion prints, as for a Tab."""
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
        env={**os.environ, NO_DETECTION: "1", "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("sqrt-l2\n", "")


@functools.cache
def commands():
    group = get_command(cli.app)
    verbs = {name: verb for name, verb in group.commands.items() if name != "weights"}
    return {**verbs, "weights fetch": group.commands["weights"].commands["fetch"]}


def offered(verb, option):
    """The values that a Tab offers after an option."""
    command = commands()[verb]
    (parameter,) = [p for p in command.params if option in p.opts]
    context = command.make_context("featx", [], resilient_parsing=True)
    return [item.value for item in parameter.shell_complete(context, "")]


@pytest.mark.parametrize(
    ("verb", "option", "expected"),
    [
        *((verb, "--layer", NAMES) for verb in ("plan", "extract", "fit", "sweep", "finetune")),
        ("finetune", "--freeze-until", [*NAMES, "none"]),
        *((verb, "--clf", choices_of(choices.Classifier)) for verb in ("fit", "sweep")),
        ("finetune", "--clf", choices_of(choices.ProbeClassifier)),
        *((verb, "--normalise", choices_of(choices.Normalise)) for verb in ("fit", "sweep")),
        *((verb, "--preset", choices_of(choices.PresetName)) for verb in ("plan", "extract")),
        ("extract", "--pool", ["none", "avg", "max", "avg+max", "grid:2", "bilinear"]),
        ("extract", "--weights", ["bundled", "imagenet", "random:0"]),
        ("evaluate", "--device", ["auto", "cpu", "gpu", "gpu:0"]),
        ("predict", "--device", ["auto", "cpu", "gpu", "gpu:0", "gpu:all"]),
        ("extract", "--resize", choices_of(choices.Resize)),
        ("predict", "--precision", choices_of(choices.Precision)),
        ("fit", "--solver", choices_of(choices.Solver)),
        ("finetune", "--schedule", choices_of(choices.Schedule)),
        ("export", "--split", choices_of(choices.Split)),
        ("weights fetch", "name", ["imagenet"]),
    ],
)
def test_what_is_offered_is_accepted(verb, option, expected):
    """The Tab key offers all values that the library supports."""
    assert sorted(offered(verb, option)) == sorted(expected)


def test_every_metavar_completes():
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
    """The help of --clf lists all classifiers."""
    (parameter,) = [p for p in commands()["fit"].params if "--clf" in p.opts]
    for name in choices_of(choices.Classifier):
        assert name in parameter.help

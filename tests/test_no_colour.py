"""NO_COLOR: output on a terminal has no colours if the user does not want them."""

import os
import re
import subprocess
import sys

import pytest

# The codes that choose a colour: 30 to 38, 40 to 48, 90 and above.
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)(?:;\d+)*m")
RUN = "import sys; sys.argv[0] = 'featx'; from featx.cli import main; main()"
BAR = (
    "from featx.cli.console import progress_bar\n"
    "with progress_bar('extract', quiet=False) as show:\n"
    "    show(1, 4)\n    show(2, 4)\n"
)
DOWNLOAD = (
    "from featx.network.weights.download import _Bar\n"
    "with _Bar('release.h5') as bar:\n    bar.total = 100\n    bar.update(50)\n"
)


def on_a_terminal(code, *arguments, **environment):
    """Return what Python code shows on a terminal."""
    master, slave = os.openpty()
    base = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR"}}
    base |= {"TERM": "xterm-256color", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=base | environment,
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # Linux raises this at the end of a terminal
            break
        if not part:
            break
        shown += part
    os.close(master)
    process.wait()
    return shown.decode()


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (BAR, (), "extract"),
        (DOWNLOAD, (), "release.h5"),
        (RUN, ("--install-completion", "bash"), "bash"),
    ],
)
def test_no_color_is_followed(tmp_path, code, arguments, words):
    """Progress bars and messages of typer have colours, and none with NO_COLOR."""
    coloured = on_a_terminal(code, *arguments, HOME=str(tmp_path))
    plain = on_a_terminal(code, *arguments, HOME=str(tmp_path), NO_COLOR="1")
    assert words in coloured
    assert words in plain
    assert COLOUR.search(coloured)
    assert not COLOUR.search(plain)


@pytest.mark.parametrize(
    "arguments", [("extrct",), ("info", "nothing.h5"), ("--help",), ("layers",)]
)
def test_errors_help_and_tables_have_no_colour(tmp_path, arguments):
    """Errors, help and tables are always plain text."""
    shown = on_a_terminal(RUN, *arguments, HOME=str(tmp_path))
    assert shown.strip()
    assert "\x1b" not in shown

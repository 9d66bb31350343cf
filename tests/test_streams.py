"""Closed, full and broken standard streams: results and exit codes are those of other runs."""

import errno
import json
import os
import shlex
import subprocess
import sys

import pytest

from featx.cli import console

RUN = "import sys; sys.argv[0] = 'featx'; from featx.cli import main; main()"


def shell(folder, redirections, *arguments):
    """Run `featx` through a shell; return exit code, stdout and stderr."""
    words = shlex.join([sys.executable, "-c", RUN, *arguments])
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {words} {redirections}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


EXTRACT = ["extract", "data", "--layer", "block1_pool", "--pool", "avg", "--size", "32"]
EXTRACT += ["--weights", "random:0"]


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "0<&- >&- 2>&-"])
def test_a_run_without_streams(image_folder, closed):
    """A store is complete although stderr is closed, and JSON on stdout is JSON only."""
    folder = image_folder.parent
    assert shell(folder, closed, *EXTRACT)[0] == 0
    assert shell(folder, "", "info", "codes.h5", "--json")[0] == 0
    code, out, err = shell(folder, closed, "fit", "codes.h5", "--clf", "ridge", "--json")
    assert (code, err) == (0, "")
    assert "model.skops" in {path.name for path in folder.iterdir()}
    if ">&- 2" not in closed:
        assert json.loads(out)["codes"] == ["codes.h5"]


@pytest.mark.slow
def test_a_file_never_gets_the_number_of_a_stream(tmp_path):
    """The first file that a run opens is not number 2, to which libraries write."""
    code = (
        "from featx.cli.streams import open_standard_streams as opened; opened()\n"
        "import os; file = os.open('file', os.O_CREAT | os.O_WRONLY)\n"
        "os.write(2, b'a line of a library'); assert file > 2; print('printed'); os._exit(0)"
    )
    (tmp_path / "code.py").write_text(code)
    command = f"exec '{sys.executable}' code.py <&- >&- 2>&-"
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_results_that_cannot_be_printed_are_an_error(tmp_path):
    """A full disk at the end of stdout is exit code 1 with the reason; at stderr it is not."""
    code, _, err = shell(tmp_path, ">/dev/full", "layers")
    assert code == 1
    assert os.strerror(errno.ENOSPC) in err
    assert "Traceback" not in err
    code, out, _ = shell(tmp_path, "2>/dev/full", "layers")
    assert (code, "block1_pool" in out) == (0, True)


@pytest.mark.slow
def test_a_pipe_without_a_reader(tmp_path):
    """The end of `head` ends featx without a traceback."""
    _, _, err = shell(tmp_path, "| head -c 1", "layers")
    assert "Traceback" not in err
    assert "Exception" not in err


def test_progress_on_a_closed_terminal(monkeypatch):
    """A note that cannot be printed does not end a run."""

    class Closed:
        def write(self, text):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sys, "stderr", Closed())
    console.say("3 of 4", quiet=False)

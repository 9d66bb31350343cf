"""Files are refused before work, appear whole, and never replace another unasked."""

import re
from pathlib import Path

import pytest

from featx.errors import ExistsError, OptionError, OutputError
from featx.outputs import check_output, made_folder, whole_file


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    """Inside the block the name is free or keeps the old file; after a failure nothing is left."""
    path = tmp_path / "out.csv"
    with whole_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"

    def stopped():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_the_system_refuses_is_one_message(tmp_path):
    """An error of the system becomes featx's, in the system's words."""
    message = f"Cannot write {tmp_path}: Is a directory. Choose another -o."
    with (
        pytest.raises(OutputError, match=f"^{re.escape(message)}$"),
        whole_file(tmp_path) as temporary,
    ):
        temporary.write_text("x")
    assert not [path for path in tmp_path.parent.iterdir() if path.suffix == ".tmp"]


def test_an_output_is_checked_before_work(tmp_path):
    """Ending, folder and an existing file, in that order; a free name comes back as a path."""
    (tmp_path / "old.csv").touch()
    cases = [
        ("no/old.txt", OptionError, "Cannot tell a format from old.txt. Expected -o NAME.csv."),
        (
            "no/old.csv",
            OptionError,
            f"No folder {tmp_path}/no to write old.csv into. Make it, or another -o.",
        ),
        (
            "old.csv",
            ExistsError,
            f"{tmp_path}/old.csv exists. Use --overwrite to replace it, or another -o.",
        ),
    ]
    for name, kind, message in cases:
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            check_output(tmp_path / name, overwrite=False, suffixes=(".csv",))
    free = str(tmp_path / "new.csv")
    assert check_output(free, overwrite=False, suffixes=(".csv",)) == tmp_path / "new.csv"
    assert check_output(tmp_path / "old.csv", overwrite=True) == tmp_path / "old.csv"


def test_a_link_stays_and_its_target_is_written(tmp_path):
    """An output that is a link to another disk stays one."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    with whole_file(tmp_path / "link.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text() == "new"


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_is_no_ordinary_file_is_never_replaced(tmp_path, overwrite):
    """A folder or a device of that name is refused, --overwrite or not."""
    for path in (tmp_path, Path("/dev/null")):
        message = f"{path} exists and is no ordinary file: it is not replaced. Choose another -o."
        with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
            check_output(path, overwrite=overwrite)


def test_a_folder_that_was_made_goes_with_what_failed(tmp_path):
    """One that was there stays, and so does one whose block came to its end."""
    (tmp_path / "there").mkdir()
    for name, left in (("new", False), ("there", True)):
        with pytest.raises(KeyboardInterrupt), made_folder(tmp_path / name):
            raise KeyboardInterrupt
        assert (tmp_path / name).exists() == left
    with made_folder(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()

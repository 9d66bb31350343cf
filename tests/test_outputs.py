"""Files are checked before the work, appear complete, and never replace others by accident."""

from pathlib import Path

import pandas as pd
import pytest
from pandas._libs.parsers import STR_NA_VALUES

from featx.errors import BusyError, ExistsError, OptionError, OutputError
from featx.outputs import (
    _MISSING_IN_PANDAS,
    check_output,
    log_missing_names,
    made_folder,
    sole_writer,
    whole_file,
    write_csv,
)


def test_a_file_appears_complete_or_not_at_all(tmp_path):
    """Inside the block the old file is kept; after a failure nothing is left."""
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


def test_errors_of_the_system(tmp_path):
    """An OSError becomes an OutputError with the path and the reason."""
    with (
        pytest.raises(OutputError, match=rf"{tmp_path}.*Is a directory.*-o"),
        whole_file(tmp_path) as temporary,
    ):
        temporary.write_text("x")
    assert not [path for path in tmp_path.parent.iterdir() if path.suffix == ".tmp"]


def test_an_output_is_checked_before_work(tmp_path):
    """Suffix, folder and an existing file are checked; a free path is returned as a Path."""
    (tmp_path / "old.csv").touch()
    cases = [
        ("no/old.txt", OptionError, r"old\.txt.*-o NAME\.csv"),
        ("no/old.csv", OptionError, rf"{tmp_path}/no .*-o"),
        ("old.csv", ExistsError, rf"{tmp_path}/old\.csv.*--overwrite"),
    ]
    for name, error, facts in cases:
        with pytest.raises(error, match=facts):
            check_output(tmp_path / name, overwrite=False, suffixes=(".csv",))
    free = str(tmp_path / "new.csv")
    assert check_output(free, overwrite=False, suffixes=(".csv",)) == tmp_path / "new.csv"
    assert check_output(tmp_path / "old.csv", overwrite=True) == tmp_path / "old.csv"


def test_a_folder_that_cannot_be_made(tmp_path):
    """A file, a folder without a parent folder, and a link to itself are refused."""
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name, facts in (
        ("file", rf"{tmp_path}/file.*-o"),
        ("no/new", rf"{tmp_path}/no .*-o"),
        ("loop", rf"{tmp_path}/loop.*-o"),
    ):
        with pytest.raises(OptionError, match=facts), made_folder(tmp_path / name):
            pass


def test_a_link_is_kept_and_its_target_is_written(tmp_path):
    """An output that is a link to another disk stays a link."""
    (tmp_path / "link.csv").symlink_to(tmp_path / "target.csv")
    with whole_file(tmp_path / "link.csv") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "target.csv").read_text() == "new"


@pytest.mark.parametrize("overwrite", [True, False])
def test_only_regular_files_are_replaced(tmp_path, overwrite):
    """A folder or a device is refused, with and without --overwrite."""
    for path in (tmp_path, Path("/dev/null")):
        with pytest.raises(OptionError, match=rf"{path}.*-o"):
            check_output(path, overwrite=overwrite)


def test_a_new_folder_is_removed_after_a_failure(tmp_path):
    """A folder that existed is kept, and so is a new one without a failure."""
    (tmp_path / "there").mkdir()
    for name, left in (("new", False), ("there", True)):
        with pytest.raises(KeyboardInterrupt), made_folder(tmp_path / name):
            raise KeyboardInterrupt
        assert (tmp_path / name).exists() == left
    with made_folder(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()


def test_one_writer_at_a_time(tmp_path):
    """A second writer is refused with the path; no lock is left."""
    path = tmp_path / "out.csv"
    with sole_writer(path), pytest.raises(BusyError, match=str(path)), sole_writer(path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["NA", "None", "nan", "null", "N/A"])
def test_names_that_pandas_takes_for_missing_values(tmp_path, caplog, name):
    """A note names them, and how to read the table; read so, they are names again."""
    path = tmp_path / "table.csv"
    write_csv(path, ["label", "p"], [[name, 0.5], ["b", None]])
    log_missing_names(path, [name, "b", None])
    assert pd.read_csv(path)["label"].isna().sum() == 1
    assert f"'{name}'" in caplog.text
    assert "keep_default_na=False, na_values=['']" in caplog.text
    found = pd.read_csv(path, keep_default_na=False, na_values=[""])
    assert found["label"].tolist() == [name, "b"]
    assert found["p"].isna().tolist() == [False, True]


def test_other_names_and_formats_need_no_note(tmp_path, caplog):
    """Parquet and JSON lines distinguish names and missing values; "na" is a name for pandas."""
    log_missing_names(tmp_path / "table.csv", ["na", "none", "b", None, ""])
    log_missing_names(tmp_path / "table.parquet", ["NA"])
    assert caplog.records == []


def test_the_names_are_those_of_pandas():
    """All texts that pandas takes for missing values have a note."""
    assert _MISSING_IN_PANDAS | {""} == STR_NA_VALUES

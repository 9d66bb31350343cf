"""The pages of the guide are true: their commands and their Python run on data/."""

import re
import tomllib

import pytest
from transcripts import (
    ROOT,
    blocks,
    check_commands,
    folder_with_data,
    folder_with_half_of_data,
    run_python,
)

QUICK_START = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
COMING_FROM = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_quick_start_runs_and_prints_what_it_shows(tmp_path):
    """In a folder with data/ its commands run in order, then its Python in one process."""
    folder = folder_with_data(tmp_path)
    assert check_commands(QUICK_START, folder) >= 12
    code = "\n".join(blocks(QUICK_START, "python"))
    assert "import featx" in code
    run_python([code], folder)


@pytest.mark.slow
def test_the_python_for_newcomers_runs(tmp_path):
    """The blocks of coming-from.md run in order in one process, except those marked."""
    code = "\n".join(runnable(COMING_FROM))
    assert code.count("import featx") >= 2
    run_python([code], folder_with_half_of_data(tmp_path))


def runnable(page):
    """Return the page's Python, except blocks that need other packages or a download."""
    return [block for block in blocks(page, "python") if not block.startswith("# not run here")]


def test_the_citation_is_of_this_version():
    """CITATION.cff and the page on citing name the version and the title of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "citing.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [project["version"]]
    assert re.findall(r"^abstract: (.*)$", citation, re.MULTILINE) == [project["description"]]
    assert re.findall(r"version = \{(.*)\},$", page, re.MULTILINE) == [project["version"]]

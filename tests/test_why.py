"""Every claim of docs/why.md is in benchmarks/README.md or shown by a test."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/why.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ")][2:]
LINK = re.compile(r"\[[^]]*\]\(\.\./benchmarks/README\.md#([\w-]+)\)")


def sections():
    """The benchmarks' text by the anchor that GitHub makes of a heading."""
    text = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.*)$", text, flags=re.MULTILINE)
    return {
        heading.lower().replace(" ", "-"): body
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def cells(row):
    return [cell.strip() for cell in row.strip("|").split(" | ")]


def test_the_table_has_eight_to_ten_rows():
    assert 8 <= len(ROWS) <= 10
    assert all(len(cells(row)) == 3 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:30])
def test_each_row_can_be_traced(row):
    """Its figures and commands are in the section that it links to; otherwise its tests exist."""
    claim = cells(row)[2]
    anchors = LINK.findall(claim)
    if anchors:
        (section,) = (sections()[anchor] for anchor in anchors)
        for command in re.findall(r"`((?:python|featx) [^`]+)`", claim):
            assert re.search(rf"^{re.escape(command)}\b", section, re.MULTILINE), command
        words = re.sub(r"`[^`]*`", "", LINK.sub("", claim)).replace(",", "")
        figures = re.findall(r"\d[\d.e-]*\d|\d", words)
        assert figures
        found = re.findall(r"\d[\d.e-]*\d|\d", section.replace(",", ""))
        assert set(figures) <= set(found), set(figures) - set(found)
    else:
        named = re.findall(r"(tests/test_\w+\.py) ((?:`test_\w+`(?:, )?)+)", claim)
        assert named
        for file, names in named:
            source = (ROOT / file).read_text(encoding="utf-8")
            for name in re.findall(r"`(\w+)`", names):
                assert f"def {name}(" in source, (file, name)

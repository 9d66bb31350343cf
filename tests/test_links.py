"""Links in the repository's pages lead somewhere: to a file that is there, and to a heading of it.

Addresses on the network are not asked.
"""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/api/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def without_code(text):
    """Return text without code, in which brackets are not links."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path):
    """Return the anchors of the headings of a page, on GitHub and on the site."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    slugs = []
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", text, re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
        slugs.append(f"{slug}-{slugs.count(slug)}" if slug in slugs else slug)
    return slugs


def broken(path):
    """Return the links of a page that lead nowhere, as written."""
    found = []
    for link in LINK.findall(without_code(path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):  # https:, mailto:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / unquote(name) if name else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    """Each relative link of a page leads to an existing file, and to one of its headings."""
    assert broken(path) == []


def test_broken_links_are_found(tmp_path):
    """A missing file and a missing heading are reported; code and addresses are not links."""
    (tmp_path / "other.md").write_text("# One heading\n\n## `featx fit`, again\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#one-heading) [c](other.md#featx-fit-again) [d](#here)\n"
        "[e](gone.md) [f](other.md#two) [g](#there) [h](https://featx.example/gone.md)\n"
        "`x[0](no.md)`\n```\ny[0](no.md)\n```\n"
    )
    assert broken(page) == ["gone.md", "other.md#two", "#there"]


def test_the_pages_are_read():
    """README.md links to pages of docs/, so that the tests above have something to read."""
    names = {path.name for path in PAGES}
    assert {"README.md", "CHANGELOG.md", "recipes.md", "store-format.md", "index.md"} <= names
    links = LINK.findall(without_code((ROOT / "README.md").read_text(encoding="utf-8")))
    assert any(link.startswith("docs/") for link in links)

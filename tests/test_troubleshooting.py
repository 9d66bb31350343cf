"""The messages on docs/troubleshooting.md are those that featx prints."""

import re
from pathlib import Path

import pytest
from transcripts import ROOT, blocks
from wording import strings

import featx

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [" ".join(block.split()) for block in blocks(PAGE, "text")]
#: Names that are capitals by themselves; other words in capitals stand for values.
NAMES = "CUDA|FEATX_CACHE|GPU|HDF5|HDF5_USE_FILE_LOCKING|FALSE|KERAS_BACKEND|UTF|VGG19"
#: What the page writes for a value or leaves out, and where sentences end: the source may be cut.
CUTS = re.compile(rf"\b(?!(?:{NAMES})\b)[A-Z][A-Z0-9_]*\b|(?<=[.:?;]) |'|…")


SOURCES = {
    file: "\1".join(strings(file.read_text(encoding="utf-8")))
    for file in sorted(Path(featx.__file__).parent.rglob("*.py"))
}


def fixed_words(message):
    """Return the parts of a message that must occur unchanged in featx's source."""
    parts = (part.strip(" .,:;()") for part in CUTS.split(message))
    return [part for part in parts if re.search("[a-z]{2}", part)]


def sources_of(message):
    """The files that hold all fixed words of a message, in the order of the alphabet."""
    words = fixed_words(message)
    return [file for file, text in SOURCES.items() if words and all(w in text for w in words)]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_source(message):
    """One file holds every fixed word of it, and enough of them to be of this message alone."""
    assert sum(map(len, fixed_words(message))) >= 14
    assert sources_of(message), f"no file of featx says: {fixed_words(message)}"


def test_another_wording_is_noticed():
    """A word that is changed, or that another file has, is not found."""
    assert sources_of("FILE exists. Use --overwrite to replace it, or another -o.")
    assert not sources_of("FILE exists. Use --overwrite to replace it, or some other -o.")
    assert not sources_of("FILE exists. Install the same everywhere: pip install featx==VERSION")


def test_the_page_has_what_users_meet():
    """There are many messages, and none of them twice."""
    assert len(MESSAGES) >= 25
    assert len(set(MESSAGES)) == len(MESSAGES)

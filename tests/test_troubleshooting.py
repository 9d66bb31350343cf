"""The messages on docs/troubleshooting.md are those that featx prints."""

import ast
import re
from pathlib import Path

import pytest
from transcripts import ROOT, blocks

import featx

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = [" ".join(block.split()) for block in blocks(PAGE, "text")]
#: Names that are capitals by themselves; other words in capitals stand for values.
NAMES = "CUDA|FEATX_CACHE|GPU|HDF5|KERAS_BACKEND|UTF|VGG19"
#: What the page writes for a value or leaves out, and where sentences end: the source may be cut.
CUTS = re.compile(rf"\b(?!(?:{NAMES})\b)[A-Z][A-Z0-9_]*\b|(?<=[.:?;]) |'|…")


def said(node):
    """What a string says, a mark where a value is put in; of a number with its noun, of many."""
    match node:
        case ast.JoinedStr(values=values):
            return "".join(map(said, values))
        case ast.Constant(value=str(text)):
            return text
        case ast.FormattedValue(value=ast.Call(func=ast.Name("counted"), args=[_, one])):
            return f"\0 {said(one)}s"
        case ast.FormattedValue(value=ast.Call(func=ast.Name("counted"), args=[_, _, many])):
            return f"\0 {said(many)}"
    return "\0"


def texts(file):
    """What a file's strings say, one string after the other."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield said(node)
        elif isinstance(node, ast.Constant) and id(node) not in inside:
            yield node.value if isinstance(node.value, str) else ""


SOURCES = {
    file: "\1".join(" ".join(text.split()) for text in texts(file))
    for file in sorted(Path(featx.__file__).parent.rglob("*.py"))
}


def fixed_words(message):
    """The parts of a message that featx's source has to hold as they stand."""
    parts = (part.strip(" .,:;()") for part in CUTS.split(message))
    return [part for part in parts if re.search("[a-z]{2}", part)]


def said_by(message):
    """The files that hold all fixed words of a message, in the order of the alphabet."""
    words = fixed_words(message)
    return [file for file, text in SOURCES.items() if words and all(w in text for w in words)]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_in_the_source(message):
    """One file holds every fixed word of it, and enough of them to be of this message alone."""
    assert sum(map(len, fixed_words(message))) >= 14
    assert said_by(message), f"no file of featx says: {fixed_words(message)}"


def test_another_wording_is_noticed():
    """A word that is changed, or one of another file, is no longer found."""
    assert said_by("FILE exists. Use --overwrite to replace it, or another -o.")
    assert not said_by("FILE exists. Use --overwrite to replace it, or some other -o.")
    assert not said_by("FILE exists. Install the same everywhere: pip install featx==VERSION")


def test_the_page_has_what_users_meet():
    """There are many messages, and none of them twice."""
    assert len(MESSAGES) >= 25
    assert len(set(MESSAGES)) == len(MESSAGES)

"""The schema of JSON documents: what fits becomes a dataclass, and what does not has a place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from featx.documents import FieldError, any_float, check_format, conform


@dataclass(frozen=True)
class Leaf:
    n: int
    kind: Literal["oak", "elm"] = "oak"

    def __post_init__(self):
        if self.n < 0:
            raise ValueError("n is negative")


@dataclass(frozen=True)
class Tree:
    leaves: tuple[Leaf, ...]
    pair: tuple[float, str]
    parent: Leaf | None
    size: int | Literal["auto"]
    by_name: Mapping[str, Leaf]
    loss: Annotated[float, any_float]
    upper: Annotated[str, lambda value: value.upper() if value else {}["x"]]
    free: Any
    sound: bool
    tags: list[str]


GOOD = {
    "leaves": [{"n": 1}, {"n": 2, "kind": "elm", "unknown": 5}], "pair": [1, "a"], "parent": None,
    "size": "auto", "by_name": {"x": {"n": 3}}, "loss": float("inf"), "upper": "a",
    "free": {"any": [1]}, "sound": True, "tags": [],
}  # fmt: skip


def test_a_document_becomes_its_dataclass():
    """Lists become tuples, integers become floats, unknown fields are ignored."""
    assert conform(Tree, GOOD) == Tree(
        (Leaf(1), Leaf(2, "elm")), (1.0, "a"), None, "auto", {"x": Leaf(3)}, float("inf"), "A",
        {"any": [1]}, True, [],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"leaves": [{"n": 1}, {"n": True}]}, "leaves[1].n"),
        ({"leaves": [{}]}, "leaves[0].n"),
        ({"leaves": [{"n": -1}]}, "leaves[0]"),
        ({"leaves": [{"n": 2**53 + 1}]}, "leaves[0].n"),
        ({"leaves": [{"n": 1, "kind": "ash"}]}, "leaves[0].kind"),
        ({"leaves": {"0": {"n": 1}}}, "leaves"),
        ({"pair": [1]}, "pair"),
        ({"pair": [float("nan"), "a"]}, "pair[0]"),
        ({"pair": [10**400, "a"]}, "pair[0]"),
        ({"parent": 5}, "parent"),
        ({"size": "some"}, "size"),
        ({"size": 1.0}, "size"),
        ({"by_name": {"x": {"n": "3"}}}, "by_name.x.n"),
        ({"by_name": []}, "by_name"),
        ({"loss": "inf"}, "loss"),
        ({"upper": ""}, "upper"),
        ({"sound": 1}, "sound"),
        ({"tags": [5]}, "tags[0]"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_named(change, place):
    """The place is that of the innermost value."""
    with pytest.raises(FieldError) as found:
        conform(Tree, GOOD | change)
    assert found.value.place == f".{place}"


def test_a_missing_field_is_named():
    """Only fields with a default may be missing."""
    with pytest.raises(FieldError) as found:
        conform(Tree, {name: value for name, value in GOOD.items() if name != "free"})
    assert found.value.place == ".free"


@pytest.mark.parametrize("facts", [[], {"format": "b"}, {"format": "a", "format_version": 2}])
def test_another_format_is_refused(facts):
    """A document without a version has version 1."""
    check_format({"format": "a"}, "a", 1)
    with pytest.raises(FieldError):
        check_format(facts, "a", 1)

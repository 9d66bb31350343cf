"""Fixed choices: one list for each, and one check that names the flag and the value."""

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest

import featx
from featx import choices
from featx.choices import check_choice, check_choices, choices_of, flag_of
from featx.errors import OptionError
from featx.extraction import PRESETS
from featx.fitting import CLASSIFIERS


def literals():
    """Return every Literal of the module, by name."""
    return {name: each for name, each in vars(choices).items() if get_origin(each) is Literal}


def test_flags():
    """Underscores are hyphens, and lists have the singular."""
    assert [flag_of(name) for name in ("layers", "scales", "settings", "class_weight")] == [
        "--layer", "--scale", "--set", "--class-weight",
    ]  # fmt: skip


def test_choices_of_types_without_choices():
    """Other types, and unions of several Literals, have no list of choices."""
    assert choices_of(choices.Resize) == ("squash", "crop", "pad")
    assert choices_of(choices.Refit | None) == ("all",)
    for other in (str, int | None, Any, choices.Pool):
        assert choices_of(other) == ()


@pytest.mark.parametrize("name", literals())
def test_every_choice_is_accepted_and_others_are_not(name):
    """An error names the flag, the value and the choices, and corrects a typing error."""
    allowed = choices_of(literals()[name])
    for value in allowed:
        check_choice("some_setting", value, allowed)
    wrong = allowed[0] + "x"
    with pytest.raises(OptionError) as caught:
        check_choice("some_setting", wrong, allowed)
    for fact in ("--some-setting", repr(wrong), *allowed):
        assert fact in str(caught.value)


def test_fields_are_checked_by_their_types():
    """None is allowed where the type allows it; fields without choices are not checked."""

    @dataclass
    class Settings:
        resize: choices.Resize = "squash"
        refit: choices.Refit | None = None
        size: int = 224

    check_choices(Settings(size="anything"))
    check_choices(Settings(refit="all"))
    for wrong in ({"resize": "zoom"}, {"resize": None}, {"refit": "none"}):
        (name, value) = next(iter(wrong.items()))
        with pytest.raises(OptionError, match=f"{value!r} for --{name}"):
            check_choices(Settings(**wrong))


def test_tables_have_the_same_names():
    """The code behind each choice supports all of its values, and no others."""
    assert set(PRESETS) == set(get_args(choices.PresetName))
    assert {*CLASSIFIERS, "auto"} == set(get_args(choices.Classifier))
    assert set(get_args(choices.ProbeClassifier)) <= set(CLASSIFIERS)


def test_no_choice_is_listed_twice():
    """No other file lists the values of a Literal of three or more; the splits are unpacked."""
    known = [get_args(each) for name, each in literals().items() if name != "Split"]
    repeated = Counter()
    for path in Path(featx.__file__).parent.rglob("*.py"):
        if path.name == "choices.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Tuple | ast.List | ast.Set) and len(node.elts) > 2:
                values = tuple(x.value for x in node.elts if isinstance(x, ast.Constant))
                if any(set(values) == set(each) for each in known):
                    repeated[f"{path.name}: {values}"] += 1
    assert not repeated

"""Functions take the fields of settings classes: signatures, documentation and static types."""

import inspect
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_type_hints

import pytest

import featx
from featx.choices import choices_of
from featx.signatures import (
    documented_by,
    method_taking_fields_of,
    prepared_by,
    takes_fields_of,
    values_of,
)


@dataclass(frozen=True, kw_only=True)
class Paint:
    """What a wall is painted with.

    Parameters
    ----------
    colour : {"red", "blue"}, default="red"
        Colour of the paint [1]_.
    coats, days : int, default=1
        Number of coats, and of days.

    References
    ----------
    .. [1] On colours.
    """

    colour: Literal["red", "blue"] = "red"
    coats: int = 1
    days: int = 1


@dataclass(frozen=True, kw_only=True)
class Wall(Paint):
    """A painted wall.

    Parameters
    ----------
    height : float
        Height in metres.
    coats : int, default=2
        Number of coats of this wall.

    Examples
    --------
    >>> Wall(2.5)
    """

    height: float = field(kw_only=False)
    coats: int = 2


@takes_fields_of(Wall)
def prepare_paint(settings):
    """Prepare a wall.

    Returns
    -------
    Wall
        The wall.

    Raises
    ------
    ValueError
        The wall is too high.
    """
    if settings.height > 100:
        raise ValueError(settings.height)
    return settings


@prepared_by(prepare_paint)
def paint(job) -> str:
    """Paint a wall.

    Returns
    -------
    str
        The colour.
    """
    return job.colour


@pytest.mark.parametrize("function", [prepare_paint, paint])
def test_the_signature_is_that_of_the_settings(function):
    """It has the order, kinds, defaults and annotations of the fields."""
    signature = inspect.signature(function)
    expected = inspect.signature(Wall)
    assert list(signature.parameters.values()) == list(expected.parameters.values())
    assert signature.parameters["height"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert signature.parameters["coats"].default == 2
    hints = get_type_hints(function)
    assert hints["colour"] == Literal["red", "blue"]
    assert hints["height"] is float
    assert get_type_hints(paint)["return"] is str


def test_values_arrive():
    """By position where a field allows it, by name, and with defaults."""
    assert prepare_paint(2.5, colour="blue") == Wall(2.5, colour="blue")
    assert paint(2.5) == "red"


@pytest.mark.parametrize(
    ("arguments", "given", "name"),
    [((2.5,), {"color": "red"}, "color"), ((), {}, "height"), ((2.5, "red"), {}, "argument")],
)
def test_wrong_arguments_are_type_errors(arguments, given, name):
    """An unknown keyword, a missing argument, and one too many; errors of the function pass."""
    for function in (prepare_paint, paint):
        with pytest.raises(TypeError, match=name):
            function(*arguments, **given)
        with pytest.raises(ValueError, match="101"):
            function(101)


def sections_of(text):
    """Return the headings of a docstring, in order."""
    return re.findall(r"^(\w[\w ]*)\n-+$", text, re.MULTILINE)


def entries_of(text):
    """Return the names that the section Parameters describes, in order."""
    section = text.split("Parameters\n----------\n")[1].split("\n\n")[0]
    return [line.partition(" : ")[0] for line in section.splitlines() if line[0] != " "]


@pytest.mark.parametrize(("function", "result"), [(prepare_paint, "Wall"), (paint, "str")])
def test_the_docstring_is_merged(function, result):
    """Own summary, result; all entries in order of the fields; errors and references are kept."""
    text = inspect.getdoc(function)
    assert sections_of(text) == ["Parameters", "Returns", "Raises", "References"]
    # The entry of coats is overridden; the one that it shared with days still describes days.
    assert entries_of(text) == ["height", "colour", "coats", "coats, days"]
    assert "of this wall" in text
    assert text.split("Returns\n-------\n")[1].startswith(result)
    assert text.startswith(("Prepare a wall.", "Paint a wall."))
    assert "painted with" not in text
    assert ">>>" not in text


def test_a_class_is_documented_by_its_settings():
    """A class whose constructor takes the fields has their entries, and its own sections."""

    @documented_by(Wall)
    class Room:
        """A room.

        Attributes
        ----------
        walls : int
            Number of walls.
        """

        @method_taking_fields_of(Wall)
        def __init__(self, settings):
            self.settings = settings

    assert Room(3.0, colour="blue").settings == Wall(3.0, colour="blue")
    assert list(inspect.signature(Room).parameters) == list(inspect.signature(Wall).parameters)
    assert sections_of(inspect.getdoc(Room)) == ["Parameters", "Attributes", "References"]
    with pytest.raises(TypeError, match="color"):
        Room(3.0, color="blue")


def test_values_of_bases():
    """Only the fields of the given bases."""
    assert values_of(Wall(2.5, coats=3), Paint) == {"colour": "red", "coats": 3, "days": 1}


def public_functions():
    """Yield the public functions, and the class whose constructor takes settings."""
    for name in featx.__all__:
        value = getattr(featx, name)
        if inspect.isfunction(value) or name == "VGG19Codes":
            yield name, value


def calls_of(name, function):
    """Yield a call of a function, and whether a type checker accepts it."""
    parameters = inspect.signature(function).parameters.values()
    required = [each.name for each in parameters if each.default is inspect.Parameter.empty]
    given = [f"{each}=anything" for each in required]
    yield f"featx.{name}({', '.join(given)})", True
    yield f"featx.{name}({', '.join([*given, 'no_such_setting=anything'])})", False
    for missing in required:
        rest = [each for each in given if not each.startswith(f"{missing}=")]
        yield f"featx.{name}({', '.join(rest)})", False
    for each in parameters:
        if choices_of(each.annotation):
            wrong = [*(x for x in given if not x.startswith(f"{each.name}=")), f"{each.name}='?'"]
            yield f"featx.{name}({', '.join(wrong)})", False


def test_every_verb_is_checked():
    """The verbs are among the functions, and have choices that can be wrong."""
    calls = {name: list(calls_of(name, function)) for name, function in public_functions()}
    verbs = {"evaluate", "explain", "extract", "finetune", "fit", "plan", "predict", "sweep"}
    assert verbs | {"VGG19Codes", "write_report", "export", "open_store"} <= set(calls)
    n_wrong = {name: sum(not accepted for _, accepted in calls[name]) for name in verbs}
    assert n_wrong["fit"] >= 8
    assert min(n_wrong.values()) >= 2


@pytest.mark.slow
def test_type_checkers_reject_wrong_arguments(tmp_path):
    """mypy --strict: unknown keywords, missing arguments and wrong choices of every function."""
    root = Path(__file__).parents[1]
    lines = ["from typing import Any", "import featx", "anything: Any = None"]
    expected = {}
    for name, function in public_functions():
        for call, accepted in calls_of(name, function):
            lines.append(call)
            expected[len(lines)] = (call, accepted)
    file = tmp_path / "calls.py"
    file.write_text("\n".join(lines) + "\n")
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", root / "pyproject.toml"]
    found = subprocess.run(
        [*command, file],
        cwd=root,
        env=os.environ | {"MYPYPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    rejected = {int(line) for line in re.findall(r"calls\.py:(\d+): error", found)}
    wrong = [
        call for number, (call, accepted) in expected.items() if accepted == (number in rejected)
    ]
    assert rejected, found
    assert not wrong, found

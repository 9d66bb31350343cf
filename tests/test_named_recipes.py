"""Named recipes: they expand to flags that can be, and what is typed wins over them."""

import re
from pathlib import Path

import pytest

import featx
from featx.choices import PresetName, choices_of
from featx.errors import OptionError
from featx.extraction import PRESETS, find_preset, prepare_extraction
from featx.flags import flags_of
from featx.store import open_store


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_can_be(tmp_path, make_image_folder, name):
    job = prepare_extraction(
        make_image_folder(tmp_path / "data"), **find_preset(name).settings, output=tmp_path / "c.h5"
    )
    for setting, value in PRESETS[name].settings.items():
        field = {"layer": "layers", "scale": "scales"}.get(setting, setting)
        assert getattr(job.recipe, field) == value
    assert not re.search(r"--size", " ".join(PRESETS[name].settings))


def test_the_option_lists_them():
    """Completely, in order; so does the error."""
    assert choices_of(PresetName) == tuple(PRESETS)
    with pytest.raises(OptionError, match="'textur'.*--preset.*'texture'"):
        find_preset("textur")


def test_the_documentation_has_their_flags():
    """Each of them, all of its flags."""
    text = (Path(__file__).parents[1] / "docs/recipes.md").read_text(encoding="utf-8")
    for name, recipe in PRESETS.items():
        (shown,) = re.findall(rf"^\| `{name}` \| `(.*)` \|$", text, re.MULTILINE)
        flags = " ".join(flags_of(recipe.settings))
        assert sorted(re.split(r" ?--", shown)) == sorted(re.split(r" ?--", flags))


def test_the_flags_are_recorded_and_typed_ones_win(tmp_path, make_image_folder, monkeypatch, run):
    make_image_folder(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(
        "extract", "--preset", "vgg-paper", "--scale", "32", "--layer", "block1_pool", "--weights",
        "random:0",
    )  # fmt: skip
    assert code == 0, err
    assert "preset vgg-paper: --pool avg --scales-join stack --flip\n" in err
    named = open_store(Path("codes.h5"))
    featx.extract(
        layer="block1_pool",
        scale=32,
        pool="avg",
        flip=True,
        weights="random:0",
        output="by-hand.h5",
    )
    assert named.digests() == open_store(Path("by-hand.h5")).digests()
    code, _, err = run("plan", "--preset", "quick")
    assert code == 1
    assert "'quick' for --preset" in err

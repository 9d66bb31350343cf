"""Presets: their settings are valid, and typed options take precedence."""

import re
from pathlib import Path

import pytest

import featx
from featx.choices import PresetName, choices_of
from featx.errors import OptionError
from featx.extraction import PRESETS, prepare_extraction
from featx.extraction.presets import find_preset
from featx.flags import flags_of
from featx.store import open_store


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(tmp_path, image_folder, name):
    """An extraction accepts its settings, and the recipe has them."""
    settings = find_preset(name).settings
    job = prepare_extraction(image_folder, **settings, output=tmp_path / "codes.h5")
    for setting, value in settings.items():
        field = {"layer": "layers", "scale": "scales"}.get(setting, setting)
        assert getattr(job.recipe, field) == value


def test_names():
    """The Literal lists the presets in order; an unknown name is an error with a suggestion."""
    assert choices_of(PresetName) == tuple(PRESETS)
    with pytest.raises(OptionError, match=r"'textur'.*--preset.*'texture'"):
        find_preset("textur")


def test_the_documentation_has_their_flags():
    """docs/recipes.md lists all flags of each preset."""
    text = (Path(__file__).parents[1] / "docs/recipes.md").read_text(encoding="utf-8")
    for name, preset in PRESETS.items():
        (shown,) = re.findall(rf"^\| `{name}` \| `(.*)` \|$", text, re.MULTILINE)
        flags = " ".join(flags_of(preset.settings))
        assert sorted(re.split(r" ?--", shown)) == sorted(re.split(r" ?--", flags))


def test_typed_options_take_precedence(tmp_path, image_folder, monkeypatch, run):
    """The store records the settings, and the other flags of the preset are printed."""
    monkeypatch.chdir(image_folder.parent)
    code, _, err = run(
        "extract", "--preset", "vgg-paper", "--scale", "32", "--layer", "block1_pool", "--weights",
        "random:0",
    )  # fmt: skip
    assert code == 0, err
    assert "--pool avg --scales-join stack --flip\n" in err
    settings = {"layer": "block1_pool", "scale": 32, "pool": "avg", "flip": True}
    featx.extract(**settings, weights="random:0", output="by-hand.h5")
    digests = [open_store(Path(name)).digests() for name in ("codes.h5", "by-hand.h5")]
    assert digests[0] == digests[1]
    code, _, err = run("plan", "--preset", "quick")
    assert code == 1
    assert "'quick'" in err

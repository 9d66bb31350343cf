"""Presets: names for settings that work well together.

A name comes in, and settings of `featx.extract` go out. A store records the settings, not the
name of the preset.

References
----------
.. [1] K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for
   Large-Scale Image Recognition", 2014, appendix B.
   https://arxiv.org/abs/1409.1556
.. [2] T.-Y. Lin and S. Maji, "Visualizing and Understanding Deep Texture
   Representations", CVPR 2016. https://arxiv.org/abs/1511.05197
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from featx.choices import check_choice

__all__ = ["PRESETS", "Preset", "find_preset"]

_LATE = ("block2_pool", "block3_pool", "block4_pool", "block5_pool")


@dataclass(frozen=True)
class Preset:
    """Settings of `featx.extract` that have a name.

    Parameters
    ----------
    description : str
        Purpose of the preset.
    settings : mapping of str to object
        The settings by name.
    """

    description: str
    settings: Mapping[str, Any]


#: The presets, read-only and in the order in which they are listed. ``featx.extract("data",
#: **featx.PRESETS["fast"].settings)`` does the same as ``featx extract --preset fast``.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(
            "one layer in the middle of the network, one forward pass",
            {"layer": ("block4_pool",), "pool": "avg"},
        ),
        "best": Preset(
            "the most accurate settings in our benchmarks (docs/recipes.md)",
            {"layer": _LATE, "pool": "avg", "scale": (384,)},
        ),
        "texture": Preset(
            "bilinear pooling [2]_, for textures",
            {"layer": ("block4_pool",), "pool": "bilinear"},
        ),
        "vgg-paper": Preset(
            "three concatenated scales and mirror images, as in the VGG paper [1]_, at the last "
            "layer that takes images of any size",
            {
                "layer": ("block5_pool",),
                "pool": "avg",
                "scale": (256, 384, 512),
                "scales_join": "stack",
                "flip": True,
            },
        ),
    }
)


def find_preset(name: str) -> Preset:
    """Return a preset by its name.

    Raises
    ------
    OptionError
        There is no preset of that name.

    Examples
    --------
    >>> find_preset("fast").settings["pool"]
    'avg'
    """
    check_choice("preset", name, tuple(PRESETS))
    return PRESETS[name]

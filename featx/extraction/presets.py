"""Named recipes: a word for settings that go well together.

A name comes in and settings of `featx.extract` go out. Nothing else knows the names:
a store records the settings.

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

from featx.errors import OptionError
from featx.text import did_you_mean

__all__ = ["PRESETS", "Preset", "find_preset"]

_LATE = ("block2_pool", "block3_pool", "block4_pool", "block5_pool")


@dataclass(frozen=True)
class Preset:
    """Settings under a name.

    Parameters
    ----------
    words : str
        What it is.
    settings : mapping of str to object
        Of `featx.extract`.
    """

    words: str
    settings: Mapping[str, Any]


#: Read-only, in the order in which they are listed. ``featx.extract("data",
#: **featx.PRESETS["fast"].settings)`` is ``featx extract --recipe fast``.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(
            "one pass of one layer, in the middle of the network",
            {"layer": ("block4_pool",), "pool": "avg"},
        ),
        "best": Preset(
            "what did best where it was measured (docs/recipes.md)",
            {"layer": _LATE, "pool": "avg", "scale": (384,)},
        ),
        "texture": Preset(
            "mean products of channels [2]_, for textures",
            {"layer": ("block4_pool",), "pool": "bilinear"},
        ),
        "vgg-paper": Preset(
            "three scales side by side and mirror images, as VGG's authors did [1]_, from the last "
            "layer that takes any size",
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
    """Return a recipe by its name.

    Raises
    ------
    OptionError
        There is none of that name.

    Examples
    --------
    >>> find_preset("fast").settings["pool"]
    'avg'
    """
    if name in PRESETS:
        return PRESETS[name]
    guess = did_you_mean(name, PRESETS)
    message = f"No recipe '{name}'.{guess} Expected --recipe with one of {', '.join(PRESETS)}."
    raise OptionError(message)

"""`featx layers`: the layers of VGG19 and what their codes cost."""

from typing import Any

from featx.cli.console import gigabytes, print_table
from featx.cli.options import LayerOptions, Quiet
from featx.errors import OptionError
from featx.layers import LAYERS, gflop
from featx.recipe import Recipe, image_size


def command(options: LayerOptions, quiet: Quiet = False) -> None:
    """List the layers with the size and the cost of their codes."""
    print_layers(options.size, options.pool, options.dtype)


def print_layers(size: str, pool: str, dtype: Any) -> None:
    """Print the layers as a table on stdout."""
    # The layer with the largest feature map checks the settings: if it cannot take them, no layer
    # can, and that is an error instead of a dash.
    layers = ("block1_conv1",)
    recipe = Recipe(weights="", layers=layers, size=image_size(size), pool=pool, dtype=dtype)
    header = ("layer", "codes", "features", "per image", "GFLOP")
    print_table(header, (_row(layer.name, recipe) for layer in LAYERS))


def _row(name: str, settings: Recipe) -> tuple[str, ...]:
    try:
        recipe = settings.with_layers((name,))
    except OptionError:  # the layer does not exist at this size, or is too small for the grid
        return name, "-", "-", "-", "-"
    return (
        name,
        "x".join(map(str, recipe.code_shape(name))),
        f"{recipe.code_size(name):,}",
        gigabytes(recipe.code_bytes()),
        f"{gflop(name, recipe.size):.2f}",
    )

"""`featx layers`: the layers of VGG19 and what their codes cost."""

from featx.cli.console import Dtype, Pool, Quiet, Size, gigabytes, print_table
from featx.errors import OptionError
from featx.layers import LAYERS, gflop
from featx.recipe import Recipe, image_size

NAME = "layers"


def command(
    size: Size = "224",
    pool: Pool = "none",
    dtype: Dtype = "float32",
    quiet: Quiet = False,
) -> None:
    """List the layers, with the width and the cost of their codes."""
    print_layers(image_size(size), pool, dtype)


def print_layers(size: tuple[int, int], pool: str, dtype: str) -> None:
    """Print the layers as a table on stdout."""
    # The layer of the largest map checks the settings: what no layer takes is an error, not a dash.
    recipe = Recipe(weights="", layers=("block1_conv1",), size=size, pool=pool, dtype=dtype)  # type: ignore[arg-type]
    header = ("layer", "codes", "width", "an image", "GFLOP")
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

"""The recipe's poolings: what a code measures, what is refused, and what older files say."""

import json
import re

import pytest

from featx.errors import OptionError
from featx.recipe import Recipe

POOLS = ("none", "avg", "max", "avg+max", "grid:1", "grid:2", "grid:7")


def recipe_of(*layers, **settings):
    return Recipe(**{"weights": "random:0", "layers": layers, **settings})


@pytest.mark.parametrize(
    ("pool", "shape"),
    [
        ("none", (7, 8, 512)),
        ("avg", (512,)),
        ("max", (512,)),
        ("avg+max", (1024,)),
        ("grid:1", (1, 1, 512)),
        ("grid:3", (3, 3, 512)),
        ("grid:7", (7, 7, 512)),
    ],
)
def test_a_code_measures_what_its_pooling_leaves(pool, shape):
    """Shape, numbers and bytes; of two layers side by side as well."""
    recipe = recipe_of("block5_pool", "block4_conv1", pool=pool, size=(224, 256), dtype="float16")
    assert recipe.code_shape("block5_pool") == shape
    numbers = 1
    for side in shape:
        numbers *= side
    earlier = 4 * 4 * numbers if pool == "none" else numbers  # 28 x 32 places
    assert recipe.code_size("block5_pool") == numbers
    assert recipe.width == numbers + earlier
    assert recipe.code_bytes() == 2 * (numbers + earlier)
    assert len(recipe.code_names()) == recipe.width


@pytest.mark.parametrize("pool", POOLS)
def test_fully_connected_layers_stay_as_they_are(pool):
    """They have one place, and a grid of more cells is no error of theirs."""
    assert recipe_of("fc1", "fc2", pool=pool).code_shape("fc1") == (4096,)
    assert recipe_of("fc1", pool="grid:50").code_shape("fc1") == (4096,)


@pytest.mark.parametrize("pool", POOLS)
def test_a_recipe_comes_back_from_its_text(pool):
    """The text has the pooling's word, as it always had."""
    recipe = recipe_of("block2_pool", pool=pool)
    assert json.loads(recipe.to_json())["pool"] == pool
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.narrowed(["block1_pool"]).pool == pool


@pytest.mark.parametrize(
    "pool",
    [
        *("mean", "max+avg", "AVG", "avg+max ", "", "avg\n", None, 2),
        *("grid", "grid:", "grid:0", "grid:02", "grid:-1", "grid:2x2", "grid:٢", "grid:100000"),
    ],
)
def test_no_such_pool(pool):
    """What is no pooling is refused with all that are; a number of cells has one spelling."""
    message = (
        re.escape(f"No such pool: {pool!r}.")
        + "( Did you mean '[a-z+:2]+'\\?)?"
        + re.escape(
            " Expected none, avg, max, avg+max, bilinear or grid:N, as in grid:2. Use --pool avg."
        )
    )
    with pytest.raises(OptionError, match=f"^{message}$"):
        recipe_of("block1_pool", pool=pool)


@pytest.mark.parametrize(
    ("layers", "size", "pool", "message"),
    [
        (
            ["block5_pool"],
            (224, 224),
            "grid:8",
            "Layer 'block5_pool' has a map of 7x7 places at size 224x224. Expected at least 8x8 "
            "for --pool grid:8. Use --pool grid:7, or --size 256 or more.",
        ),
        (
            ["block4_pool"],
            (64, 96),
            "grid:5",
            "Layer 'block4_pool' has a map of 4x6 places at size 64x96. Expected at least 5x5 "
            "for --pool grid:5. Use --pool grid:4, or --size 80 or more.",
        ),
        (
            ["block5_pool", "fc1", "block5_conv1"],
            (224, 224),
            "grid:20",
            "Layer 'block5_pool' has a map of 7x7 places at size 224x224. Expected at least 20x20 "
            "for --pool grid:20. Use --pool grid:7, or --size 640 or more.",
        ),
    ],
)
def test_a_grid_finer_than_a_map_is_refused(layers, size, pool, message):
    """The smallest map is named, and the grid that is proposed fits all layers."""
    with pytest.raises(OptionError, match=f"^{re.escape(message)}$"):
        recipe_of(*layers, size=size, pool=pool)
    proposed = re.search(r"Use --pool (grid:\d+)", message)[1]
    assert recipe_of(*layers, size=size, pool=proposed).pool == proposed


def test_another_pooling_is_a_difference_with_its_flag():
    """Codes of another grid are named, with what to type."""
    (difference,) = recipe_of("block1_pool", pool="grid:2").differences(
        recipe_of("block1_pool", pool="avg+max")
    )
    assert str(difference) == "pool is grid:2, expected avg+max"
    assert difference.flag == "--pool avg+max"

"""The poolings of a recipe: shapes of codes, errors and JSON."""

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
def test_the_pooling_determines_the_shape_of_a_code(pool, shape):
    """The shape, number of features and bytes follow from the pooling, for two layers as well."""
    recipe = recipe_of("block5_pool", "block4_conv1", pool=pool, size=(224, 256), dtype="float16")
    assert recipe.code_shape("block5_pool") == shape
    numbers = 1
    for side in shape:
        numbers *= side
    earlier = 4 * 4 * numbers if pool == "none" else numbers  # 28 x 32 positions
    assert recipe.code_size("block5_pool") == numbers
    assert recipe.n_features == numbers + earlier
    assert recipe.code_bytes() == 2 * (numbers + earlier)
    assert len(recipe.code_names()) == recipe.n_features


@pytest.mark.parametrize("pool", POOLS)
def test_fully_connected_layers_are_not_pooled(pool):
    """Fully connected layers have no positions, so any grid is allowed."""
    assert recipe_of("fc1", "fc2", pool=pool).code_shape("fc1") == (4096,)
    assert recipe_of("fc1", pool="grid:50").code_shape("fc1") == (4096,)


@pytest.mark.parametrize("pool", POOLS)
def test_a_recipe_is_read_back_from_json(pool):
    """JSON holds the pooling as typed."""
    recipe = recipe_of("block2_pool", pool=pool)
    assert json.loads(recipe.to_json())["pool"] == pool
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.with_layers(["block1_pool"]).pool == pool


@pytest.mark.parametrize(
    "pool",
    [
        *("mean", "max+avg", "AVG", "avg+max ", "", "avg\n", None, 2),
        *("grid", "grid:", "grid:0", "grid:02", "grid:-1", "grid:2x2", "grid:٢", "grid:100000"),
    ],
)
def test_unknown_pools_are_refused(pool):
    """Unknown poolings are refused; each grid has only one spelling."""
    with pytest.raises(OptionError, match=f"{re.escape(repr(pool))} for --pool"):
        recipe_of("block1_pool", pool=pool)


@pytest.mark.parametrize(
    ("layers", "size", "pool", "facts"),
    [
        (["block5_pool"], (224, 224), "grid:8", ("block5_pool", "7x7", "grid:7", "--size 256")),
        (["block4_pool"], (64, 96), "grid:5", ("block4_pool", "4x6", "grid:4", "--size 80")),
        (
            ["block5_pool", "fc1", "block5_conv1"],
            (224, 224),
            "grid:20",
            ("block5_pool", "7x7", "grid:7", "--size 640"),
        ),
    ],
)
def test_a_grid_finer_than_a_map_is_refused(layers, size, pool, facts):
    """The error names the smallest feature map and suggests a grid that fits all layers."""
    with pytest.raises(OptionError) as caught:
        recipe_of(*layers, size=size, pool=pool)
    message = str(caught.value)
    assert [fact for fact in (*facts, f"--pool {pool}") if fact not in message] == []
    suggested = re.search(r"Use --pool (grid:\d+)", message)[1]
    assert recipe_of(*layers, size=size, pool=suggested).pool == suggested


def test_another_pooling_is_a_difference_with_its_flag():
    """The difference between two recipes holds both values and the flag to type."""
    (difference,) = recipe_of("block1_pool", pool="grid:2").differences(
        recipe_of("block1_pool", pool="avg+max")
    )
    assert (difference.field, difference.received, difference.expected) == (
        "pool",
        "grid:2",
        "avg+max",
    )
    assert difference.flag == "--pool avg+max"

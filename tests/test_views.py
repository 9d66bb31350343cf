"""Mirror images, crops, scales and bilinear pooling, against NumPy and Keras."""

import numpy as np
import pytest
from PIL import Image
from test_backbone import keras_activations, keras_vgg19, random_weights

import featx
from featx.errors import CodeRangeError, OptionError
from featx.extraction.batching import Batcher
from featx.images import read_image, scaled_size
from featx.network import Device, VGG19Backbone, activation_bytes
from featx.network import backbone as backbone_module
from featx.recipe import Recipe

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS = ("block1_conv2", "block2_pool")
CPU = Device("cpu", 0, "CPU", bfloat16=True, tf32=False)
WEIGHTS = random_weights("block2_pool")
POOLS = ["avg", "max", "avg+max", "grid:2", "bilinear"]


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def recipe_of(**given):
    return Recipe(**{"weights": "t", "layers": LAYERS, "size": (32, 48), **given})


def codes_of(images, **given):
    return VGG19Backbone(recipe_of(**given), WEIGHTS, CPU)(images)


def join(codes):
    return {layer: codes[layer].reshape(len(codes[layer]), -1) for layer in LAYERS}


# bilinear pooling


def products_of(maps):
    """Return the mean products of all pairs of channels in float64, (n, c, c)."""
    positions = maps.reshape(len(maps), -1, maps.shape[-1]).astype(np.float64)
    return np.einsum("npi,npj->nij", positions, positions) / positions.shape[1]


@pytest.mark.parametrize("size", [(32, 48), (33, 47)], ids=["even", "odd"])
def test_bilinear_equals_numpy(size):
    images = noise(2, *size, 3)
    maps, codes = codes_of(images, size=size), codes_of(images, size=size, pool="bilinear")
    for layer in LAYERS:
        products = products_of(maps[layer])
        c = products.shape[1]
        pairs = [(i, j) for i in range(c) for j in range(i, c)]
        by_hand = [[p[i, j] * (1 if i == j else 2**0.5) for i, j in pairs] for p in products]
        assert codes[layer].shape == (2, *recipe_of(size=size, pool="bilinear").code_shape(layer))
        np.testing.assert_allclose(
            codes[layer], np.sqrt(by_hand), rtol=1e-5, atol=1e-5 * codes[layer].max()
        )


def test_inner_products_of_bilinear_codes():
    """Before the square root they are squared inner products of the activations."""
    images = noise(2, 32, 48, 3)
    maps, codes = codes_of(images), codes_of(images, pool="bilinear")
    for layer in LAYERS:
        x, y = maps[layer].reshape(2, -1, maps[layer].shape[-1]).astype(np.float64)
        before = codes[layer].astype(np.float64) ** 2
        expected = np.linalg.norm(x @ y.T, "fro") ** 2 / len(x) ** 2
        np.testing.assert_allclose(before[0] @ before[1], expected, rtol=1e-5)
        one, other = products_of(maps[layer])
        # The codes have one of each two equal products, times the square root of 2.
        weight = np.array(
            [[1 if i == j else 2**-0.5 for j in range(len(one))] for i in range(len(one))]
        )
        after = np.sum(weight * np.sqrt(one * other))
        np.testing.assert_allclose(codes[layer][0] @ codes[layer][1], after, rtol=1e-5)


# mirror images


@pytest.mark.parametrize("pool", POOLS)
def test_flip_is_the_mean_of_two_extractions(pool):
    images = noise(3, 33, 47, 3)
    found = codes_of(images, size=(33, 47), pool=pool, flip=True)
    upright = codes_of(images, size=(33, 47), pool=pool)
    mirrored = codes_of(images[:, :, ::-1].copy(), size=(33, 47), pool=pool)
    for layer in LAYERS:
        other = mirrored[layer]
        if pool == "grid:2":  # cells are flipped back
            other = other[:, :, ::-1]
        expected = (upright[layer].astype(np.float64) + other) / 2
        np.testing.assert_allclose(found[layer], expected, rtol=1e-5, atol=1e-6)


def test_flip_flips_feature_maps_back():
    images = noise(2, 32, 48, 3)
    found, upright = codes_of(images, flip=True), codes_of(images)
    mirrored = codes_of(images[:, :, ::-1].copy())
    for layer in LAYERS:
        expected = (upright[layer] + mirrored[layer][:, :, ::-1]) / 2
        np.testing.assert_allclose(found[layer], expected, rtol=1e-5, atol=1e-6)


# crops


@pytest.mark.parametrize(("crops", "n_views"), [(5, 5), (10, 10)])
def test_crops_are_the_mean_of_the_codes_of_each(crops, n_views):
    recipe = recipe_of(size=(56, 42), pool="avg", crops=crops)
    assert (recipe.view_size, recipe.n_views) == ((64, 48), n_views)
    images = noise(2, 64, 48, 3)
    cut = [
        images[:, top : top + 56, left : left + 42]
        for top, left in [(0, 0), (0, 6), (8, 0), (8, 6), (4, 3)]
    ]
    if crops == 10:
        cut += [each[:, :, ::-1] for each in cut]
    each = [codes_of(part.copy(), size=(56, 42), pool="avg") for part in cut]
    found = codes_of(images, size=(56, 42), pool="avg", crops=crops)
    for layer in LAYERS:
        expected = np.mean([codes[layer] for codes in each], axis=0)
        np.testing.assert_allclose(found[layer], expected, rtol=1e-5, atol=1e-6)


def test_ten_crops_are_five_with_mirror_images():
    """Both settings give the same recipe."""
    assert recipe_of(pool="avg", crops=10) == recipe_of(pool="avg", crops=5, flip=True)


# scales


@pytest.mark.parametrize(
    ("shape", "scale", "expected"),
    [
        ((375, 500), 256, (256, 352)),  # 341 without rounding
        ((500, 375), 256, (352, 256)),
        ((100, 100), 64, (64, 64)),
        ((100, 110), 64, (64, 64)),  # 70
        ((1, 90), 32, (32, 128)),  # 4 to 1 at most
    ],
)
def test_a_scaled_image_keeps_its_aspect_to_a_multiple_of_32(shape, scale, expected):
    assert scaled_size(shape, scale) == expected


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """Three image files, and Keras's feature maps of each file, scale and layer."""
    import keras

    folder = tmp_path_factory.mktemp("scaled")
    files, maps = [], []
    for i, shape in enumerate([(70, 90), (90, 70), (70, 90)]):
        files.append(folder / f"{i}.png")
        Image.fromarray(noise(*shape, 3, seed=i)).save(files[-1])
        image = Image.open(files[-1])
        maps.append([])
        for scale in (32, 64):
            height, width = scaled_size(image.size[::-1], scale)
            pixels = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
            prepared = keras.applications.vgg19.preprocess_input(pixels[None].astype("f4"))
            network = keras_vgg19(WEIGHTS, (height, width))
            maps[-1].append(keras_activations(network, LAYERS, prepared))
    return files, maps


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("join", ["mean", "stack"])
def test_scales_are_keras_on_the_whole_resized_images(scaled, pool, join):
    """The expected codes are those of Keras's VGG19 for each resized image, pooled by NumPy."""
    from pooling import plainly_pooled

    files, maps = scaled
    recipe = recipe_of(pool=pool, scales=(64, 32), scales_join=join)
    assert recipe.scales == (32, 64)
    decoded = [read_image(f, (1, 1), "crop", scales=recipe.scales) for f in files]
    shapes = [[view.shape[:2] for view in image.views] for image in decoded]
    assert shapes == [[(32, 32), (64, 96)], [(32, 32), (96, 64)], [(32, 32), (64, 96)]]
    found = Batcher(VGG19Backbone(recipe, WEIGHTS, CPU), 2)([image.views for image in decoded])
    for k, layer in enumerate(LAYERS):
        per_image = [[plainly_pooled(each[k], pool)[0] for each in scales] for scales in maps]
        expected = [
            np.mean(codes, axis=0) if join == "mean" else np.concatenate(codes, axis=-1)
            for codes in per_image
        ]
        assert found[layer].shape == (3, *recipe.code_shape(layer))
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found[layer], expected, rtol=1e-4, atol=1e-5 * largest)


def test_interior_positions_are_those_of_an_aligned_crop():
    """A position is 4 pixels: away from the border, a shifted crop has the same activations."""
    whole = noise(1, 96, 96, 3)
    maps = codes_of(whole, size=(96, 96))["block2_pool"]
    crop = codes_of(whole[:, 16:80, 20:84].copy(), size=(64, 64))["block2_pool"]
    # The outermost 3 of 16 positions see the border of the crop.
    inner = crop[:, 4:12, 4:12]
    np.testing.assert_allclose(inner, maps[:, 8:16, 9:17], rtol=1e-4, atol=1e-4)
    assert np.abs(crop[:, 0] - maps[:, 4, 5:21]).max() > 1e-3


def test_scales_and_flips_in_every_step(tmp_path, make_image_folder):
    """Images of several shapes and a bad one: extract, VGG19Codes, fit, predict and resume."""
    folder = make_image_folder(tmp_path / "data")
    Image.fromarray(noise(90, 40, 3)).save(folder / "train/red/tall.png")
    (folder / "train/red/bad.png").write_bytes(b"no image")
    given = {
        "layer": ["block1_pool", "block2_pool"], "weights": "random:0", "pool": "avg",
        "scale": [32, 64], "scales_join": "stack", "flip": True,
    }  # fmt: skip
    made = featx.extract(folder, output=tmp_path / "codes.h5", **given)
    assert (made.n_done, made.n_failed) == (28, 1)
    store = featx.open_store(tmp_path / "codes.h5")
    assert store.recipe.code_shape("block1_pool") == (128,)
    X, _ = featx.read_arrays(tmp_path / "codes.h5")
    done = [folder / path for path in store.images.path[store.images.done]]
    again = featx.VGG19Codes(**given).fit_transform(done)
    np.testing.assert_allclose(X, again, rtol=1e-5, atol=1e-5)
    arrays = [np.asarray(Image.open(file)) for file in done]
    np.testing.assert_allclose(
        featx.VGG19Codes(**given).fit_transform(arrays), again, rtol=1e-5, atol=1e-5
    )
    featx.fit(tmp_path / "codes.h5", output=tmp_path / "model.skops")
    table = featx.predict(done[:2], model=tmp_path / "model.skops")
    scores = featx.load_model(tmp_path / "model.skops").predict_proba(X[:2])
    np.testing.assert_allclose(table.filter(like="p_").to_numpy(float), scores, atol=1e-4)
    again = featx.extract(folder, output=tmp_path / "codes.h5", **given)
    assert again.n_computed == 0


def test_float16_of_scales_is_checked(monkeypatch):
    """Scales are joined in float32 and then rounded; a code that is too large is an error."""
    images = noise(1, 32, 32, 3)
    recipe = recipe_of(pool="avg", scales=(32,), dtype="float16")
    made = VGG19Backbone(recipe, WEIGHTS, CPU)
    codes = Batcher(made, 1)([(images[0],)])
    assert {each.dtype for each in codes.values()} == {np.dtype(np.float16)}
    exact = Batcher(VGG19Backbone(recipe_of(pool="avg", scales=(32,)), WEIGHTS, CPU), 1)
    for layer, each in exact([(images[0],)]).items():
        np.testing.assert_array_equal(codes[layer], each.astype(np.float16))
    monkeypatch.setattr(backbone_module, "_BEYOND_FLOAT16", 1e-3)
    with pytest.raises(CodeRangeError):
        Batcher(made, 1)([(images[0],)])


def test_the_number_of_compiled_shapes_is_limited(monkeypatch):
    """The least recently used one is dropped, and compiled again when it is needed."""
    monkeypatch.setattr(backbone_module, "_MOST_SHAPES", 2)
    made = VGG19Backbone(recipe_of(pool="avg", scales=(32,)), WEIGHTS, CPU)
    first = made(noise(1, 32, 64, 3))
    for width in (96, 128):
        made(noise(1, 32, width, 3))
        assert len(made._runs) == 2
    assert (32, 64) not in made._runs
    for layer, codes in made(noise(1, 32, 64, 3)).items():
        np.testing.assert_array_equal(codes, first[layer])


# settings that are not allowed


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ({"scales": (256,)}, "--scale --pool none"),
        ({"crops": 5}, "--crops --pool none"),
        ({"crops": 5, "pool": "grid:2"}, "--crops --pool grid:2"),
        ({"crops": 7, "pool": "avg"}, "7 --crops 5 10"),
        ({"scales": (250,), "pool": "avg"}, "250 --scale"),
        ({"scales": (0,), "pool": "avg"}, "0 --scale"),
        ({"scales": (64,), "pool": "avg", "crops": 5}, "--crops --scale"),
        ({"scales": (64,), "pool": "avg", "layers": ("fc1",)}, "'fc1' 224"),
        ({"scales": (64, 32), "pool": "grid:9"}, "'block2_pool' 8x8"),
        ({"scales_join": "sum"}, "'sum' --scales-join mean stack"),
    ],
)
def test_wrong_recipes_are_refused(given, facts):
    """The error names the flags and the values."""
    with pytest.raises(OptionError) as caught:
        recipe_of(**given)
    for fact in facts.split():
        assert fact in str(caught.value)


def test_scale_and_size_exclude_each_other(tmp_path, make_image_folder):
    with pytest.raises(OptionError, match=r"--size.*--scale"):
        featx.extract(
            make_image_folder(tmp_path / "data"), layer="block1_pool", pool="avg", size=64,
            scale=32, output=tmp_path / "codes.h5",
        )  # fmt: skip


def test_differences_name_the_flags():
    one = recipe_of(pool="avg", scales=(32, 64), scales_join="stack")
    flags = [each.flag for each in recipe_of(pool="avg", size=(64, 64), flip=True).differences(one)]
    assert flags == ["no --flip", "--scale 32 --scale 64", "--scales-join stack"]
    back = [each.flag for each in one.differences(recipe_of(pool="avg", size=(64, 64), flip=True))]
    assert back == ["--flip", "no --scale", "--scales-join mean"]
    assert Recipe.from_json(one.to_json()) == one


def test_views_take_memory():
    plain = recipe_of(pool="avg")
    assert activation_bytes(recipe_of(pool="avg", flip=True)) == 2 * activation_bytes(plain)
    assert activation_bytes(recipe_of(pool="avg", crops=10)) == 10 * activation_bytes(plain)

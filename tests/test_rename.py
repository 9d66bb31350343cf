"""Networks whose layers have other names: renames that are typed, proven, proposed and kept."""

import hashlib
import itertools
import json
import re
import shlex
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

import featx
from featx.cli import options
from featx.errors import OptionError, UnknownLayerError, WeightsError
from featx.network.weights import find_weights, inspect_weights, read_weights
from featx.network.weights.layouts import Entry
from featx.network.weights.renaming import propose

# Keras 3.15 hands NumPy 2.4 arrays in a way that NumPy is about to retire.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CHANNELS = [(3, 64), (64, 64), (64, 128), (128, 128)]
NAMES = ["block1_conv1", "block1_conv2", "block2_conv1", "block2_conv2"]
# VGG19 by hand, so that the tests do not lean on the table they test.
WIDTHS = [64] * 2 + [128] * 2 + [256] * 4 + [512] * 8
ALL_NAMES = [
    f"block{block}_conv{conv}"
    for block, n in enumerate((2, 2, 4, 4, 4), 1)
    for conv in range(1, n + 1)
]
SHAPES = {
    name: ((3, 3, before, width), (width,))
    for name, before, width in zip(ALL_NAMES, [3, *WIDTHS], WIDTHS, strict=False)
}
PREFIXED = {f"myvgg_{name}": name for name in NAMES}
TINY = {"layer": "block2_pool", "pool": "avg", "size": 32}


@pytest.fixture(scope="module")
def keras():
    """Keras with whatever backend is set."""
    return pytest.importorskip("keras")


def network(keras, names, seed=0):
    """Build blocks 1 and 2 of VGG19 under other names, with normalisation between, and a head."""
    images = x = keras.Input((32, 32, 3))
    for number, (name, (_, width)) in enumerate(zip(names, CHANNELS, strict=True)):
        x = keras.layers.Conv2D(width, 3, padding="same", name=name)(x)
        x = keras.layers.BatchNormalization(name=f"normalise_{number}")(x)
        if number % 2:
            x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Dense(3, name="answer")(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(images, x)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.05, w.shape).astype("f4") for w in model.get_weights()])
    return model


def save(model, path):
    """Save a model as its file's ending says."""
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def write_filled(path, layers):
    """Write a file whose layer i holds the number i everywhere: a few kB, whatever its shapes."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for number, (name, shapes) in enumerate(layers.items()):
            group = file.create_group(name)
            group.attrs["weight_names"] = [b"kernel:0", b"bias:0"][: len(shapes)]
            for weight, shape in zip(("kernel:0", "bias:0"), shapes, strict=False):
                group.create_dataset(weight, shape, "f2", fillvalue=number)
    return path


def numbered(shapes):
    """Name shapes as Keras names convolutions."""
    return {f"conv2d_{number}": shape for number, shape in enumerate(shapes)}


def refusal(path, *layers, rename=None, error=WeightsError):
    """Return the words with which weights are refused."""
    with pytest.raises(error) as caught:
        find_weights(str(path), layers, rename=rename)
    return str(caught.value)


def typed(message):
    """Return the renames that a message asks to type, read as a shell and featx read them."""
    words = shlex.split(message[message.index("  --rename") :].replace("\\\n", ""))
    return options.renames([n for w, n in itertools.pairwise(words) if w == "--rename"])


def whose(path, layers, rename):
    """Return layer -> the number that fills its kernel."""
    weights = read_weights(find_weights(str(path), layers, rename=rename), layers)
    assert all(len(np.unique(kernel)) == 1 for kernel, _ in weights.values())
    return {name: int(kernel.flat[0]) for name, (kernel, _) in weights.items()}


# Typed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("names", [list(PREFIXED), ["conv2d_7", "conv2d_9", "a=b", "the last"]])
def test_keras_files_read_back_exactly(keras, tmp_path, ending, names):
    """In every format of Keras, renamed layers are what Keras itself holds, bit for bit."""
    model = network(keras, names)
    path = save(model, tmp_path / f"own{ending}")
    source = find_weights(str(path), ["block2_pool"], rename=dict(zip(names, NAMES, strict=True)))
    assert source.rename == tuple(sorted(zip(names, NAMES, strict=True)))
    weights = read_weights(source, ["block2_pool"])
    assert list(weights) == NAMES
    for old, new in zip(names, NAMES, strict=True):
        for ours, theirs in zip(weights[new], model.get_layer(old).get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_names_can_be_exchanged(tmp_path):
    """A layer that is renamed has its own name no more, so two can change places."""
    shapes = SHAPES["block3_conv2"]
    path = write_filled(
        tmp_path / "own.h5", {**SHAPES, "block3_conv2": shapes, "block3_conv3": shapes}
    )
    plain = whose(path, ["block3_pool"], None)
    swap = {"block3_conv2": "block3_conv3", "block3_conv3": "block3_conv2"}
    swapped = whose(path, ["block3_pool"], swap)
    assert (plain["block3_conv2"], plain["block3_conv3"]) == (5, 6)
    assert swapped == {**plain, "block3_conv2": 6, "block3_conv3": 5}
    del swap["block3_conv3"]
    assert (
        refusal(path, "block3_pool", rename=swap)
        .splitlines()[0]
        .endswith(": 7 of 8 layers with weights match.")
    )


def test_a_rename_wins_over_the_files_own_name(tmp_path):
    """What the user types counts, whatever else claims the name, by a number's way too."""
    layers = {**SHAPES, "mine": SHAPES["block1_conv2"], "block1_conv2_1": SHAPES["block1_conv2"]}
    path = write_filled(tmp_path / "own.h5", layers)
    assert refusal(path, "block1_pool").startswith(f"{path} holds block1_conv2 2 times: ")
    assert whose(path, ["block1_pool"], {"mine": "block1_conv2"})["block1_conv2"] == 16


def test_of_two_networks_one_can_be_named(keras, tmp_path):
    """Where two layers have one name, their places tell them apart."""
    images = keras.Input((32, 32, 3))
    both = [network(keras, NAMES, seed) for seed in (1, 2)]
    path = save(keras.Model(images, [both[0](images), both[1](images)]), tmp_path / "two.keras")
    assert "2 times" in refusal(path, "block1_conv1")
    second = "layers/functional_1/layers/block1_conv1"
    assert refusal(path, "block1_conv1", rename={"block1_conv1": "block1_conv1"}) == (
        f"--rename block1_conv1=block1_conv1: {path} has 2 layers of the name block1_conv1. Use "
        f"one of them with its place: layers/functional/layers/block1_conv1 and {second}"
    )
    source = find_weights(str(path), ["block1_conv1"], rename={second: "block1_conv1"})
    kernel, _ = read_weights(source, ["block1_conv1"])["block1_conv1"]
    np.testing.assert_array_equal(kernel, both[1].get_layer("block1_conv1").get_weights()[0])
    assert second in [group.name for group in inspect_weights(path).groups]


def test_shapes_are_still_proven(tmp_path):
    """A rename to a layer of other shapes is refused, and what would fit is said."""
    path = write_filled(tmp_path / "own.h5", {"a": SHAPES["block2_conv1"], **SHAPES})
    assert refusal(path, "block1_pool", rename={"a": "block1_conv2"}) == (
        f"{path} does not fit VGG19 up to block1_pool: 1 of 2 layers with weights match.\n"
        "  VGG19         in the file\n"
        "  block1_conv1  block1_conv1  fits by name\n"
        "  block1_conv2  block1_conv2  would fit by order and shapes\n"
        "The match is complete, and the only one in this order.\n"
        "Compare it with your network, then add these flags in place of those given:\n"
        "  --rename block1_conv2=block1_conv2\n"
        f"Look inside: featx info {path}"
    )
    layers = {name: shapes for name, shapes in SHAPES.items() if name != "block1_conv2"}
    path = write_filled(tmp_path / "less.h5", {"a": SHAPES["block2_conv1"], **layers})
    assert refusal(path, "block1_pool", rename={"a": "block1_conv2"}).split("\n")[1] == (
        "  block1_conv2: found (3, 3, 64, 128) + (128,) in 'a', expected (3, 3, 64, 64) + (64,)"
    )


def test_with_a_rename_nothing_is_told_by_order(tmp_path):
    """16 convolutions without a name are no proof any more once the user says which is which."""
    path = write_filled(tmp_path / "own.h5", numbered(SHAPES.values()))
    assert find_weights(str(path), ["block1_pool"]).rename == ()
    message = refusal(path, "block1_pool", rename={"conv2d_0": "block1_conv1"})
    assert message.splitlines()[2:4] == [
        "  block1_conv1  conv2d_0     fits by --rename",
        "  block1_conv2  conv2d_1     would fit by order and shapes",
    ]


def test_dense_layers_that_do_not_follow(tmp_path):
    """Where order tells the convolutions but not fc1, the flags are for all of them."""
    dense = {"dense": ((25088, 4096), (4096,)), "dense_1": ((4096, 4096), (4096,))}
    layers = {**numbered(SHAPES.values()), "normalise": ((512,),), **dense}
    path = write_filled(tmp_path / "own.h5", layers)
    message = refusal(path, "fc2")
    assert "\n  block5_conv4  conv2d_15    fits by order and shapes\n" in message
    rename = typed(message.rpartition("\n")[0])
    assert rename == dict(
        zip([*numbered(SHAPES.values()), *dense], [*ALL_NAMES, "fc1", "fc2"], strict=True)
    )
    assert find_weights(str(path), ["fc2"], rename=rename).path == path
    assert (
        refusal(path, "block1_pool", rename={"dense": "fc1"})
        .splitlines()[0]
        .endswith(": 0 of 2 layers with weights match.")
    )


@pytest.mark.parametrize(
    ("spec", "rename", "error", "words"),
    [
        (
            "own.h5",
            {"conv2d_10x": "block1_conv1"},
            WeightsError,
            "--rename conv2d_10x=block1_conv1: own.h5 has no layer 'conv2d_10x'. Did you mean "
            "'conv2d_10'?\nThe file holds: conv2d_0, conv2d_1, conv2d_2, conv2d_3, conv2d_4, "
            "conv2d_5, conv2d_6, conv2d_7, conv2d_8, conv2d_9, and 6 more.\n"
            "Look inside: featx info own.h5",
        ),
        (
            "own.h5",
            {"conv2d_0": "block1_con1"},
            UnknownLayerError,
            "No layer 'block1_con1' in VGG19. Did you mean 'block1_conv1'? All names: featx layers",
        ),
        (
            "own.h5",
            {"conv2d_0": "block1_pool"},
            OptionError,
            "--rename conv2d_0=block1_pool: block1_pool has no weights. Expected OLD=NEW with a "
            "layer that has some, such as block1_conv1; all names: featx layers",
        ),
        (
            "own.h5",
            {"conv2d_1": "block1_conv1", "conv2d_0": "block1_conv1"},
            OptionError,
            "Two layers of a file cannot both be block1_conv1: --rename conv2d_0=block1_conv1 and "
            "--rename conv2d_1=block1_conv1. Leave one of them out.",
        ),
        *(
            (
                spec,
                {"a": "block1_conv1"},
                OptionError,
                f"--rename a=block1_conv1: the layers of {spec} have VGG19's names already. "
                "Renames are for a file of your own: --weights FILE",
            )
            for spec in ("bundled", "imagenet", "random:0")
        ),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, monkeypatch, spec, rename, error, words):
    """A rename that cannot be is refused with the words to type instead."""
    monkeypatch.chdir(tmp_path)
    write_filled(tmp_path / "own.h5", numbered(SHAPES.values()))
    assert refusal(spec, "block1_pool", rename=rename, error=error) == words


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["conv2d_1"], "No such rename: conv2d_1. Expected --rename OLD=NEW"),
        (["=block1_conv1"], "No such rename: =block1_conv1. "),
        (["conv2d_1="], "No such rename: conv2d_1=. "),
        (
            ["a=block1_conv1", "a=block1_conv2"],
            "One layer cannot be two: --rename a=block1_conv1 and --rename a=block1_conv2. ",
        ),
    ],
)
def test_a_flag_that_is_no_rename(texts, words):
    """A flag without both names, or of one layer twice, is refused."""
    with pytest.raises(OptionError, match=f"^{re.escape(words)}"):
        options.renames(texts)


# Proposed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".h5", ".weights.h5", ".keras"])
def test_the_error_holds_what_to_type(keras, tmp_path, ending):
    """The table has every layer that is needed; its flags, pasted, make the file fit."""
    path = save(network(keras, list(PREFIXED)), tmp_path / f"own{ending}")
    message = refusal(path, "block2_pool")
    assert message == (
        f"{path} does not fit VGG19 up to block2_pool: 0 of 4 layers with weights match.\n"
        "  VGG19         in the file\n"
        "  block1_conv1  myvgg_block1_conv1  would fit by order and shapes\n"
        "  block1_conv2  myvgg_block1_conv2  would fit by order and shapes\n"
        "  block2_conv1  myvgg_block2_conv1  would fit by order and shapes\n"
        "  block2_conv2  myvgg_block2_conv2  would fit by order and shapes\n"
        "The match is complete, and the only one in this order.\n"
        "Compare it with your network, then add these flags:\n"
        "  --rename myvgg_block1_conv1=block1_conv1 \\\n"
        "  --rename myvgg_block1_conv2=block1_conv2 \\\n"
        "  --rename myvgg_block2_conv1=block2_conv1 \\\n"
        "  --rename myvgg_block2_conv2=block2_conv2\n"
        f"Look inside: featx info {path}"
    )
    assert typed(message.rpartition("\n")[0]) == PREFIXED
    assert find_weights(str(path), ["block2_pool"], rename=PREFIXED).path == path


def test_a_name_with_blanks_can_be_pasted(tmp_path):
    """Names that a shell would take apart are quoted."""
    path = write_filled(tmp_path / "own.h5", {"my $first=1": SHAPES["block1_conv1"]})
    message = refusal(path, "block1_conv1").rpartition("\n")[0]
    assert message.endswith("\n  --rename 'my $first=1=block1_conv1'")
    assert typed(message) == {"my $first=1": "block1_conv1"}


def test_one_strange_name_among_others(tmp_path):
    """Only what is missing is proposed, and what has its name stays where it is."""
    layers = {("mine" if name == "block4_conv3" else name): s for name, s in SHAPES.items()}
    path = write_filled(tmp_path / "own.h5", layers)
    lines = refusal(path, "block4_pool").splitlines()
    assert lines[0].endswith(": 11 of 12 layers with weights match.")
    assert lines[11:13] == [
        "  block4_conv2  block4_conv2  fits by name",
        "  block4_conv3  mine          would fit by order and shapes",
    ]
    assert lines[-2] == "  --rename mine=block4_conv3"
    assert sum("--rename" in line for line in lines) == 1


def test_what_has_its_name_keeps_its_place(tmp_path):
    """Of strange layers that would fit, those on the right side of a known one are taken."""
    layers = dict.fromkeys(["a", "b", "block3_conv3", "c"], SHAPES["block3_conv3"])
    path = write_filled(tmp_path / "own.h5", layers)
    assert {p.new: (p.old, p.other) for p in inspect_weights(path).proposals} == {
        "block3_conv2": ("a", "b"),
        "block3_conv4": ("c", None),
    }


def test_a_kernel_alone_is_no_candidate(tmp_path):
    """A layer without its bias would not fit, so it is not proposed."""
    kernel, bias = SHAPES["block1_conv1"]
    path = write_filled(tmp_path / "own.h5", {"a": (kernel,), "b": (kernel, bias), "c": (kernel,)})
    (proposal,) = inspect_weights(path).proposals
    assert (proposal.old, proposal.new, proposal.other) == ("b", "block1_conv1", None)


def test_more_than_one_way_is_said(tmp_path):
    """Where a further layer of the same shape is there, both are named."""
    shapes = [*SHAPES.values()]
    path = write_filled(tmp_path / "own.h5", numbered([*shapes[:2], *shapes[1:]]))
    lines = refusal(path, "block2_pool").splitlines()
    assert lines[2:7] == [
        "  block1_conv1  conv2d_0     would fit by order and shapes",
        "  block1_conv2  conv2d_1     would fit by order and shapes, and so would conv2d_2",
        "  block2_conv1  conv2d_3     would fit by order and shapes",
        "  block2_conv2  conv2d_4     would fit by order and shapes",
        "More than one way is possible: see block1_conv2.",
    ]


def test_the_end_of_a_block_is_not_anything(tmp_path):
    """Later layers of the same shape leave the way alone where all of them are there."""
    path = write_filled(tmp_path / "own.h5", {"bn": ((64,), (64,)), **numbered(SHAPES.values())})
    with h5py.File(path, "r+") as file:  # one name, so that order alone is not enough
        file.move("conv2d_15", "block5_conv4")
        names = file.attrs["layer_names"]
        names[-1] = b"block5_conv4"
        file.attrs["layer_names"] = names
    message = refusal(path, "block4_pool")
    assert "The match is complete, and the only one in this order." in message
    numbers = whose(path, ["block4_pool"], typed(message.rpartition("\n")[0]))
    assert list(numbers.values()) == list(range(1, 13))


def test_what_nothing_is_left_for_is_said(tmp_path):
    """A VGG16 under other names is seen through, and serves as far as it can."""
    shapes = [shape for name, shape in SHAPES.items() if not name.endswith("conv4")]
    path = write_filled(tmp_path / "own.h5", numbered(shapes))
    message = refusal(path, "block4_pool")
    assert "  block3_conv4  -            not in the file\n" in message
    assert (
        "Probably it is a VGG16, which has no block3_conv4. Use --weights imagenet.\n"
        "Renaming alone does not make it fit: nothing is left for block3_conv4.\n"
        "With renames it would serve layers up to block3_conv3: --layer block3_conv3\n"
    ) in message
    rename = typed(message.rpartition("\n")[0])
    assert list(rename.values()) == ALL_NAMES[:7]
    assert "so would" not in message
    assert find_weights(str(path), ["block3_conv3"], rename=rename).path == path


def test_another_network_gets_no_flags(tmp_path):
    """Of a network that begins otherwise single layers fit by chance: nothing is to be typed."""
    layers = {"first": ((7, 7, 3, 64), (64,)), "second": SHAPES["block1_conv2"]}
    path = write_filled(tmp_path / "own.h5", layers)
    assert refusal(path, "block1_pool") == (
        f"{path} does not fit VGG19 up to block1_pool: 0 of 2 layers with weights match.\n"
        "  VGG19         in the file\n"
        "  block1_conv1  -            not in the file\n"
        "  block1_conv2  second       would fit by order and shapes\n"
        "The file holds: first, second.\n"
        "No layer has a name of VGG19, nor do all 16 convolutions follow in order by shape.\n"
        "Renaming alone does not make it fit: nothing is left for block1_conv1.\n"
        f"Look inside: featx info {path}"
    )


def test_info_on_another_network_gives_no_flags(tmp_path, run):
    """Chance fits are shown by info too, and nothing is to be typed."""
    layers = {"first": ((7, 7, 3, 64), (64,)), "second": SHAPES["block1_conv2"]}
    _, out, _ = run("info", write_filled(tmp_path / "own.h5", layers))
    assert re.search(r"^second .* block1_conv2$", out, re.MULTILINE)
    assert "nothing would fit: block1_conv1, block2_conv1, " in out
    assert "--rename" not in out


def test_info_says_where_more_would_fit(tmp_path, run):
    """Info names both layers that one could be, and how far the flags serve."""
    layers = numbered([SHAPES["block1_conv1"], SHAPES["block1_conv2"], SHAPES["block1_conv2"]])
    _, out, _ = run("info", write_filled(tmp_path / "own.h5", layers))
    assert "\nblock1_conv2: conv2d_2 would fit as well\n" in out
    assert out.endswith(
        "up to block1_pool:\n  --rename conv2d_0=block1_conv1 \\\n  --rename "
        "conv2d_1=block1_conv2\n"
    )


def embeddings(entries, layers):
    """Every way to pair all layers with entries of their shapes, in the order of both."""
    return [
        chosen
        for chosen in itertools.combinations(entries, len(layers))
        if all(e.shapes == SHAPES[n] for e, n in zip(chosen, layers, strict=True))
    ]


def test_the_walk_against_all_ways():
    """On small random files: as many as can be, and 'no other' only if there is one way."""
    rng = np.random.default_rng(0)
    counts = {0: 0, 1: 0, 2: 0}
    for _ in range(150):
        start = int(rng.integers(0, 5))
        layers = ALL_NAMES[start : start + int(rng.integers(1, 5))]
        kinds = [*layers, "block1_conv1"]
        drawn = rng.choice(kinds, int(rng.integers(1, 8))).tolist()
        if rng.random() < 0.7:  # so that complete ones are not rare
            drawn[1:1] = layers
        entries = [
            Entry(f"e{i}", "", (f"e{i}",), SHAPES[name], "float32") for i, name in enumerate(drawn)
        ]
        ways = embeddings(entries, layers)
        counts[min(len(ways), 2)] += 1
        found = propose(entries, layers, {})
        some = [s for n in range(1, 5) for s in itertools.combinations(layers, n)]
        assert len(found) == max(len(s) for s in [(), *some] if not s or embeddings(entries, s))
        if ways:
            assert tuple(found[n].old for n in layers) in [tuple(e.name for e in w) for w in ways]
            assert (not any(p.other for p in found.values())) == (len(ways) == 1)
    assert min(counts.values()) > 10


# Known by ------------------------------------------------------------------------------------


def test_the_identity_is_of_file_and_renames(tmp_path):
    """Which numbers lie where is part of what the weights are; the order of typing is not."""
    path = write_filled(tmp_path / "own.h5", dict.fromkeys("ab", SHAPES["block1_conv1"]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first = find_weights(str(path), ["block1_conv1"], rename={"a": "block1_conv1"})
    text = f'["{digest}", [["a", "block1_conv1"]]]'
    assert first.identity == hashlib.sha256(text.encode()).hexdigest()
    second = find_weights(str(path), ["block1_conv1"], rename={"b": "block1_conv1"})
    assert len({digest, first.identity, second.identity}) == 3
    named = write_filled(tmp_path / "named.h5", SHAPES)
    plain = find_weights(str(named), ["block1_conv1"])
    assert plain.identity == hashlib.sha256(named.read_bytes()).hexdigest()

    whole = write_filled(tmp_path / "all.h5", numbered(SHAPES.values()))
    pairs = list(zip(numbered(SHAPES.values()), SHAPES, strict=True))
    there = find_weights(str(whole), ["block1_pool"], rename=dict(pairs))
    back = find_weights(str(whole), ["block1_pool"], rename=dict(pairs[::-1]))
    assert there == back
    assert find_weights(str(whole), ["block1_pool"], rename={}).identity != there.identity


# From the command line to a prediction -------------------------------------------------------


@pytest.fixture(scope="module")
def made(keras, tmp_path_factory, make_image_folder):
    """A folder with one network under two sets of names, images, codes of both, and a bundle."""
    folder = tmp_path_factory.mktemp("made")
    make_image_folder(folder / "data")
    right, own = folder / "right.h5", folder / "own.h5"
    save(network(keras, NAMES), right)
    save(network(keras, list(PREFIXED)), own)
    featx.extract(folder / "data", weights=str(right), output=folder / "right_codes.h5", **TINY)
    featx.extract(
        folder / "data", weights=str(own), rename=PREFIXED, output=folder / "codes.h5", **TINY
    )
    featx.fit(folder / "codes.h5", clf="ridge", output=folder / "model.skops")
    return folder


def test_codes_are_those_of_the_right_names(made):
    """Under its own names, with renames, a network gives the codes that it gives under VGG19's."""
    own, right = (featx.open_store(made / name) for name in ("codes.h5", "right_codes.h5"))
    mine, theirs = own.codes("block2_pool"), right.codes("block2_pool")
    assert np.std(theirs) > 0
    np.testing.assert_array_equal(mine, theirs)
    assert own.recipe.weights != right.recipe.weights
    assert own.provenance["rename"] == PREFIXED
    assert "rename" not in right.provenance


def test_prediction_needs_no_renames(made, tmp_path):
    """A bundle knows the renames of its codes, also where the weights file was moved to."""
    of_store = featx.predict(made / "codes.h5", model=made / "model.skops")
    of_images = featx.predict(made / "data", model=made / "model.skops")
    pd.testing.assert_frame_equal(of_images.filter(like="p_"), of_store.filter(like="p_"))
    moved = shutil.copy(made / "own.h5", tmp_path / "moved.h5")
    again = featx.predict(made / "data", model=made / "model.skops", weights=str(moved))
    pd.testing.assert_frame_equal(again, of_images)
    score = featx.evaluate(made / "data", model=made / "model.skops", split="val")
    assert score.evaluation.n_images == 9


@pytest.mark.parametrize(
    ("weights", "start"),
    [
        ("right.h5", "has no layer 'myvgg_block1_conv1'."),
        ("bundled", "the layers of bundled have VGG19's names already."),
    ],
)
def test_prediction_with_other_weights_is_refused(made, monkeypatch, weights, start):
    """Other weights have not the layers that were renamed; whose renames these are is said."""
    monkeypatch.chdir(made)
    with pytest.raises(WeightsError) as caught:
        featx.predict("data", model="model.skops", weights=weights)
    assert start in str(caught.value)
    assert str(caught.value).endswith(
        "\nThese renames are those of the classifier's codes. Use --weights with the file that "
        "extract had."
    )


def test_the_transformer_renames_too(made):
    """VGG19Codes gives the codes of the store."""
    codes = featx.VGG19Codes(weights=str(made / "own.h5"), rename=PREFIXED, **TINY)
    files = sorted((made / "data").glob("val/*/*.png"))
    store = featx.open_store(made / "codes.h5")
    rows = [list(store.images.path).index(str(f.relative_to(made / "data"))) for f in files]
    np.testing.assert_allclose(
        codes.fit_transform(files), store.codes("block2_pool")[rows], rtol=1e-5, atol=1e-6
    )
    assert codes.recipe_.weights == store.recipe.weights


def test_the_command_line(made, monkeypatch, run):
    """Refused with flags, accepted with them pasted, gone on with by them, and refused without."""
    monkeypatch.chdir(made)
    command = ["extract", "--layer", "block2_pool", "--pool", "avg", "--size", "32"]
    command += ["--weights", "own.h5", "-o", "line.h5"]
    code, out, err = run(*command)
    assert (code, out) == (1, "")
    pasted = [f"--rename={old}={new}" for old, new in typed(err.rpartition("\nLook")[0]).items()]
    code, out, err = run(*command, *pasted)
    assert code == 0
    assert re.search(r"weights own.h5 \(\w{12}\): all 4 layers found, .* are right, 4 renamed", err)
    code, out, _ = run(*command, *pasted[::-1])
    assert (code, out) == (0, "line.h5: codes of 27 images, nothing to do.\n")
    code, _, err = run("plan", *command[1:-1], "plan.h5", *pasted, "--quiet")
    assert code == 0
    digests = [featx.open_store(name).digests() for name in ("line.h5", "codes.h5")]
    assert digests[0] == digests[1]
    code, out, _ = run("predict", "data/val", "-o", "line.csv", "--overwrite")
    assert (code, out.splitlines()[0]) == (0, "line.csv: 9 predictions")


def test_info_has_the_table(made, monkeypatch, run):
    """Info says which layer is what by its name, what would fit, and what to type."""
    monkeypatch.chdir(made)
    code, out, _ = run("info", "own.h5")
    assert code == 0
    lines = [re.sub(r" {2,}", "  ", line) for line in out.splitlines()]
    assert lines[1] == "layer  shapes  numbers  in VGG19  would fit"
    assert "myvgg_block1_conv2  (3, 3, 64, 64) (64,)  float32  block1_conv2" in lines
    assert typed(out) == PREFIXED
    _, out, _ = run("info", "own.h5", "--json")
    proposals = json.loads(out)["proposals"]
    assert {p["old"]: p["new"] for p in proposals} == PREFIXED
    assert proposals[0]["flag"] == "--rename myvgg_block1_conv1=block1_conv1"
    assert proposals[0]["other"] is None
    _, out, _ = run("info", "right.h5")
    assert out.splitlines()[1].split()[-2:] == ["in", "VGG19"]
    assert "--rename" not in out

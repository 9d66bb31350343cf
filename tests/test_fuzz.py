"""Malicious and damaged files: reading them ends with a clear error and changes nothing."""

import io
import json
import os
import tempfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import skops.io
from campaigns import FAST, LONG, alone, checked, damage
from fuzzing import Worker
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featx.errors import ModelError
from featx.fitting import fit
from featx.images import list_images

HUGE = 10**12


@pytest.fixture(scope="module")
def seeds(tmp_path_factory, make_store):
    """Return the bytes of a small valid file of each kind, by name."""
    folder = tmp_path_factory.mktemp("seeds")
    rng = np.random.default_rng(0)
    codes = rng.random((12, 64)).astype(np.float32)
    codes[np.arange(12), np.arange(12) % 2] += 2
    store = make_store(
        folder / "codes.h5",
        {"block1_conv1": codes},
        ["cat", "dog"] * 6,
        ["train"] * 8 + ["val"] * 4,
        provenance={"weights": "random:0"},
    )
    model = folder / "model.skops"
    fit(store, clf="logistic", C=[1], baselines=False, output=model)
    return {
        "store": store.read_bytes(),
        "model": model.read_bytes(),
        "legacy": legacy_weights(folder / "legacy.h5").read_bytes(),
        "keras3": keras3_weights(folder / "some.weights.h5").read_bytes(),
        "tuned": tuned_network(folder / "tuned.keras").read_bytes(),
    }


KERNEL, BIAS = np.full((3, 3, 3, 64), 0.5, np.float32), np.zeros(64, np.float32)


def legacy_weights(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"block1_conv1"])
        group = file.create_group("block1_conv1")
        names = [b"block1_conv1/kernel:0", b"block1_conv1/bias:0"]
        group.attrs["weight_names"] = np.array(names)
        group["block1_conv1/kernel:0"] = KERNEL
        group["block1_conv1/bias:0"] = BIAS
    return path


def keras3_weights(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        add_layer(file, "conv2d", "block1_conv1", KERNEL, BIAS)
        add_layer(file, "dense", "head_logits", np.ones((64, 2), "f4"), np.zeros(2, "f4"))
    return path


def add_layer(file: h5py.File, kind: str, name: str, *arrays: np.ndarray) -> None:
    group = file.create_group(f"layers/{kind}/vars")
    group.attrs["name"] = name
    for k, array in enumerate(arrays):
        group[str(k)] = array


FACTS = {
    "format": "featx-tuned",
    "format_version": 1,
    "recipe": {
        "weights": "",
        "layers": ["block1_conv1"],
        "pool": "avg",
        "size": [32, 32],
        "scales": [],
    },
    "classes": ["cat", "dog"],
    "normalise": "l2",
    "n_kernels": 1,
    "fitted_on": [],
    "summary": {},
}
CONFIG = {"class_name": "Functional", "config": {"layers": []}}


def tuned_network(path: Path, facts=FACTS, config=CONFIG, weights: bytes | None = None) -> Path:
    if weights is None:
        weights = keras3_weights(path.with_suffix(".part")).read_bytes()
        path.with_suffix(".part").unlink()
    text = {"config.json": json.dumps(config), "featx.json": json.dumps(facts)}
    return zipped(path, {**text, "model.weights.h5": weights})


def zipped(path: Path, members: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def read(worker: Worker, kind: str, name: str, content: bytes) -> dict:
    """Read bytes as a file of a kind, and with featx info; no other files may appear."""
    with alone(name) as folder:
        path = folder / name
        path.write_bytes(content)
        found = checked(worker(kind, path))
        checked(worker("info", path))
        assert path.read_bytes() == content
    return found


KINDS = {
    "store": ("store", "codes.h5"),
    "legacy": ("weights", "old.h5"),
    "keras3": ("weights", "new.weights.h5"),
    "tuned": ("tuned", "tuned.keras"),
    "model": ("model", "model.skops"),
}


@pytest.mark.parametrize("seed", KINDS)
def test_a_valid_file_is_read(seed, seeds, worker):
    """The files without damage are valid."""
    found = read(worker, *KINDS[seed], seeds[seed])
    assert found["error"] is None, found["message"]
    if seed == "store":
        assert found["shape"] == [12, 64]
        assert found["labels"] == ["cat", "dog"] * 6
    if seed in {"legacy", "keras3"}:
        assert found["sum"] == KERNEL.size / 2
    if seed in {"tuned", "model"}:
        assert found["classes"] == ["cat", "dog"]


# random damage


@pytest.mark.parametrize("seed", KINDS)
def test_damage_is_an_error(seed, seeds, worker):
    """Damage may go unnoticed in values, but it never ends the process."""

    @FAST
    @given(damage(seeds[seed]))
    def campaign(content):
        read(worker, *KINDS[seed], content)

    campaign()


@pytest.mark.slow
@pytest.mark.parametrize("seed", KINDS)
def test_much_damage_is_an_error(seed, seeds, worker):
    """The same with more examples."""

    @LONG
    @given(damage(seeds[seed]))
    def campaign(content):
        read(worker, *KINDS[seed], content)

    campaign()


@pytest.mark.parametrize("kind", ["store", "weights", "tuned", "model"])
def test_noise_is_an_error(kind, worker):
    """Random bytes after the first bytes of each kind of file are an error."""
    heads = [b"", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"]

    @settings(FAST, max_examples=10)
    @given(st.sampled_from(heads), st.binary(max_size=600))
    def campaign(head, noise):
        assert read(worker, kind, "file.keras", head + noise)["error"] is not None

    campaign()


# malicious stores


def replaced(name: str, **dataset):
    """Return a change of a store: another dataset instead of one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **dataset)

    return change


def claims(name: str, shape: tuple[int, ...], dtype="f4", chunks=None):
    """Return a change: a dataset that claims a shape and holds nothing."""

    def change(file: h5py.File) -> None:
        del file[name]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_layout(h5py.h5d.CHUNKED if chunks else h5py.h5d.CONTIGUOUS)
        if chunks:
            plan.set_chunk(chunks)
        kind, space = h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, name.encode(), kind, space, plan)

    return change


def linked(name: str, link):
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def said(name: str, value):
    return lambda file: file.attrs.__setitem__(name, value)


def recipe(**fields):
    def change(file: h5py.File) -> None:
        file.attrs["recipe"] = json.dumps({**json.loads(file.attrs["recipe"]), **fields})

    return change


def numbers(name: str, value):
    def change(file: h5py.File) -> None:
        file[name][0] = value

    return change


def huge_in_all(file: h5py.File) -> None:
    """Let every dataset claim 10**12 images."""
    for name in ("path", "split", "group"):
        claims(f"images/{name}", (HUGE,), h5py.string_dtype())(file)
    for name, dtype in (("label", "i4"), ("status", "u1"), ("phash", "u8"), ("sha256", "S64")):
        claims(f"images/{name}", (HUGE,), dtype)(file)
    claims("images/reason", (HUGE,), "S256")(file)
    claims("images/thumbnail", (HUGE, 32, 32, 3), "u1", (1, 32, 32, 3))(file)
    claims("codes/block1_conv1", (HUGE, 64))(file)


def virtual(file: h5py.File) -> None:
    del file["codes/block1_conv1"]
    layout = h5py.VirtualLayout((12, 64), "f4")
    layout[...] = h5py.VirtualSource("pipe", "codes", (12, 64))
    file.create_virtual_dataset("codes/block1_conv1", layout)


def circle(file: h5py.File) -> None:
    file["codes/again"] = file["/"]


PASSWD = [("/etc/passwd", 0, 12 * 64 * 4)]
TEXT = h5py.string_dtype()
HOSTILE_STORES = {
    "giant codes": claims("codes/block1_conv1", (12, HUGE)),
    "giant images": huge_in_all,
    "giant paths": claims("images/path", (HUGE,), TEXT),
    "giant classes": claims("classes", (HUGE,), TEXT),
    "giant thumbnails": claims("images/thumbnail", (HUGE, 32, 32, 3), "u1", (1, 32, 32, 3)),
    "giant chunks": replaced(
        "images/status", shape=(12,), maxshape=(None,), chunks=(4_000_000_000,), dtype="u1"
    ),
    "codes in passwd": replaced("codes/block1_conv1", shape=(12, 64), dtype="f4", external=PASSWD),
    "hashes in passwd": replaced(
        "images/sha256", shape=(12,), dtype="S64", external=[("/etc/passwd", 0, 768)]
    ),
    "codes in a pipe": replaced(
        "codes/block1_conv1", shape=(12, 64), dtype="f4", external=[("pipe", 0, 3072)]
    ),
    "virtual codes": virtual,
    "link to a pipe": linked("codes/block1_conv1", h5py.ExternalLink("pipe", "/codes")),
    "group of a pipe": linked("images", h5py.ExternalLink("pipe", "/images")),
    "link to a store": linked("codes", h5py.ExternalLink("other.h5", "/codes")),
    "soft link": linked("images/sha256", h5py.SoftLink("/images/reason")),
    "soft circle": linked("images", h5py.SoftLink("/images")),
    "codes that are a group": lambda file: (
        file.pop("codes/block1_conv1"),
        file.create_group("codes/block1_conv1"),
    ),
    "images that are numbers": replaced("images", data=np.zeros(3)),
    "labels before the first": numbers("images/label", -2),
    "labels after the last": numbers("images/label", 2),
    "labels of truth": replaced("images/label", data=np.ones(12, bool)),
    "labels of fractions": replaced("images/label", data=np.zeros(12)),
    "labels in two columns": replaced("images/label", data=np.zeros((12, 2), "i4")),
    "fewer labels": replaced("images/label", data=np.zeros(11, "i4")),
    "fewer splits": replaced("images/split", data=[b""] * 11, dtype=TEXT),
    "fewer hashes": replaced("images/phash", data=np.zeros(11, "u8")),
    "no shape": replaced("images/status", data=h5py.Empty("u1")),
    "one number": replaced("images/path", data=b"a", dtype=TEXT),
    "no such status": numbers("images/status", 7),
    "numbers for paths": replaced("images/path", data=np.zeros(12)),
    "numbers for hashes": replaced("images/sha256", data=np.zeros(12)),
    "fewer thumbnails": replaced("images/thumbnail", data=np.zeros((2, 32, 32, 3), "u1")),
    "thumbnails of fractions": replaced("images/thumbnail", data=np.zeros((12, 32, 32, 3))),
    "signed thumbnails": replaced("images/thumbnail", data=np.zeros((12, 32, 32, 3), "i1")),
    "no thumbnails": lambda file: file["images"].pop("thumbnail"),
    "no complete": lambda file: file.pop("complete"),
    "complete of nothing": replaced("complete", data=np.zeros(0, "u1")),
    "other codes": replaced("codes/block1_conv1", data=np.zeros((12, 64), "f8")),
    "codes the other way": replaced("codes/block1_conv1", data=np.zeros((12, 64), ">f4")),
    "version 0": said("format_version", 0),
    "version 2": said("format_version", 2),
    "infinite version": said("format_version", np.inf),
    "version in words": said("format_version", "one"),
    "versions": said("format_version", [1, 1]),
    "formats": said("format", ["featx-codes"] * 2),
    "recipe of numbers": said("recipe", np.arange(3)),
    "empty recipe": said("recipe", h5py.Empty("f4")),
    "recipe that is none": said("recipe", "{"),
    "deep recipe": said("recipe", "[" * 60_000),
    "long number": said("recipe", "1" * 60_000),
    "provenance of numbers": said("provenance", 5),
    "provenance that is a list": said("provenance", "[1]"),
    "deep provenance": said("provenance", '{"a":' * 12_000),
    "size NaN": recipe(size=[float("nan"), 32]),
    "size in fractions": recipe(size=[32.5, 32.5]),
    "size in words": recipe(size=["32", "32"]),
    "size of truth": recipe(size=[True, True]),
    "three sizes": recipe(size=[32, 32, 32]),
    "endless scale": recipe(scales=[float("inf")]),
    "scale in words": recipe(scales="64"),
    "crops in a list": recipe(crops=[]),
    "flip in words": recipe(flip="yes"),
    "weights of numbers": recipe(weights=5),
    "layers in a word": recipe(layers="block1_conv1"),
    "no layers": recipe(layers=[]),
    "pool of numbers": recipe(pool=3),
    "grid": recipe(pool="grid:99999"),
    "dtype of objects": recipe(dtype="object"),
}
#: Changes that are unusual and harmless.
ODD_STORES = {
    "circle": circle,
    "paths out of the tree": numbers("images/path", "../../etc/passwd"),
    "paths from the root": numbers("images/path", "/etc/passwd"),
    "provenance of nonsense": said("provenance", '{"root": NaN, "max_pixels": "many"}'),
}


def changed_store(path: Path, content: bytes, change) -> None:
    """Write a changed store, and next to it a pipe, which blocks forever if it is opened."""
    path.write_bytes(content)
    (path.parent / "other.h5").write_bytes(content)
    os.mkfifo(path.parent / "pipe")
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize("name", [*HOSTILE_STORES, *ODD_STORES])
def test_malicious_stores_are_refused(name, seeds, worker):
    """Links, false sizes and wrong values in a store are errors."""
    change = {**HOSTILE_STORES, **ODD_STORES}[name]
    with alone("codes.h5", "other.h5", "pipe") as folder:
        path = folder / "codes.h5"
        changed_store(path, seeds["store"], change)
        found = checked(worker("store", path))
        checked(worker("info", path))
    if name in ODD_STORES:
        assert found["error"] is None, found["message"]
    else:
        assert found["error"] == "StoreError", found
        assert str(path) in found["message"]


def test_external_data_is_never_read(tmp_path, seeds, worker):
    """Data in another file is not read as the data of the store."""
    path = tmp_path / "codes.h5"
    secret = tmp_path / "secret"
    secret.write_bytes(np.full(12 * 64, 7, np.float32).tobytes())
    path.write_bytes(seeds["store"])
    with h5py.File(path, "r+") as file:
        replaced(
            "codes/block1_conv1",
            shape=(12, 64),
            dtype="f4",
            external=[(str(secret), 0, 12 * 64 * 4)],
        )(file)
    with h5py.File(path) as file:  # h5py reads it
        assert file["codes/block1_conv1"][0, 0] == 7
    message = checked(worker("store", path))["message"]
    assert all(fact in message for fact in (str(path), "codes/block1_conv1", "another file"))


def test_a_compressed_copy_of_a_store_is_read(tmp_path, seeds, worker):
    """A compressed dataset, which is smaller than its shape, is valid."""
    path = tmp_path / "codes.h5"
    path.write_bytes(seeds["store"])
    with h5py.File(path, "r+") as file:
        for name in ("codes/block1_conv1", "images/thumbnail", "images/status", "images/path"):
            values, dtype = file[name][...], file[name].dtype
            del file[name]
            file.create_dataset(name, data=values, dtype=dtype, chunks=True, compression="gzip")
    assert worker("store", path)["labels"] == ["cat", "dog"] * 6


# weights


def aim(path: Path, name: str, change) -> None:
    """Replace an object of a file."""
    with h5py.File(path, "r+") as file:
        del file[name]
        change(file)


def giant_bias(file: h5py.File) -> None:
    file.create_dataset("layers/dense/vars/1", shape=(HUGE,), dtype="f4", chunks=(1000,))


def linked_bias(file: h5py.File) -> None:
    file["layers/dense/vars/1"] = h5py.ExternalLink("pipe", "/bias")


def passwd_bias(file: h5py.File) -> None:
    file.create_dataset("layers/dense/vars/1", (2,), "f4", external=[("/etc/passwd", 0, 8)])


@pytest.mark.parametrize("change", [giant_bias, linked_bias, passwd_bias])
def test_a_head_must_be_in_its_own_file(change, worker):
    """The arrays of a head are checked before they are read."""
    with alone("tuned.keras", "pipe", "some.weights.h5") as folder:
        os.mkfifo(folder / "pipe")
        weights = keras3_weights(folder / "some.weights.h5")
        aim(weights, "layers/dense/vars/1", change)
        tuned_network(folder / "tuned.keras", weights=weights.read_bytes())
        found = checked(worker("tuned", folder / "tuned.keras"))
        assert found["error"] in {"ModelError", "WeightsError"}, found
        checked(worker("info", folder / "tuned.keras"))
        checked(worker("weights", weights))


@pytest.mark.parametrize(
    "change",
    [
        {"n_kernels": HUGE},
        {"n_kernels": 0},
        {"n_kernels": "1"},
        {"classes": "ab"},
        {"classes": ["a", 1]},
        {"classes": ["a", "b", "c"]},
        {"normalise": "centre"},
        {"normalise": ["l2"]},
        {"summary": []},
        {"fitted_on": [[]]},
        {"recipe": []},
        {"recipe": {**FACTS["recipe"], "layers": ["block1_conv1", "block1_conv2"]}},
        {"recipe": {**FACTS["recipe"], "size": [float("nan"), 1]}},
        {"format": [], "format_version": {}},
    ],
    ids=str,
)
def test_wrong_settings_of_a_network_are_refused(change, tmp_path, worker):
    """All settings that are stored with the weights of a fine-tuned network are checked."""
    path = tuned_network(tmp_path / "tuned.keras", {**FACTS, **change})
    assert checked(worker("tuned", path))["error"] == "ModelError"


def test_a_group_inside_itself_is_visited_once(tmp_path, worker):
    """A group inside itself is visited once, even if its number of links is wrong."""
    path = keras3_weights(tmp_path / "some.weights.h5")
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/up"] = file["layers"]
        header = h5py.h5o.get_info(file["layers"].id).addr
    content = bytearray(path.read_bytes())
    # Header of an object, version 1: version, reserved, messages (2 bytes), links (4 bytes).
    assert content[header] == 1
    assert content[header + 4 : header + 8] == bytes([2, 0, 0, 0])
    content[header + 4] = 1
    path.write_bytes(content)
    found = checked(worker("weights", path))
    assert found["error"] is None, found
    checked(worker("info", path))


def test_deep_groups_are_refused(tmp_path, worker):
    """Groups nested a thousand times are refused."""
    path = tmp_path / "deep.h5"
    with h5py.File(path, "w") as file:
        file.create_group("/".join(["a"] * 1000))
    found = checked(worker("weights", path))
    assert "100 deep" in found["message"]


@pytest.mark.parametrize("name", ["config.json", "featx.json", "model.weights.h5"])
def test_a_zip_bomb_is_not_unpacked(name, tmp_path, worker):
    """An archive that would unpack to a thousand times its size fills neither memory nor disk."""
    path = tuned_network(tmp_path / "tuned.keras")
    with zipfile.ZipFile(path) as archive:
        members = {each: archive.read(each) for each in archive.namelist() if each != name}
    zipped(path, members)
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        for _ in range(1100 if name == "model.weights.h5" else 100):
            member.write(bytes(1_000_000))
    found = checked(worker("tuned", path))
    assert found["error"] in {"ModelError", "WeightsError"}
    if name == "model.weights.h5":
        assert "1,100,000,000" in found["message"]
    if name != "featx.json":
        assert checked(worker("weights", path))["error"] == "WeightsError"


LAMBDA = {
    "class_name": "Lambda",
    "module": "os",
    "registered_name": "os.system",
    "config": {"name": "x", "function": "touch ran", "layers": [{"class_name": "os.system"}]},
}


@pytest.mark.parametrize("config", [LAMBDA, [LAMBDA], "touch ran", None, 5, {"config": LAMBDA}])
def test_a_config_is_never_run(config, worker, monkeypatch):
    """Functions in a config are not called, and members are not written to their paths."""
    with alone("tuned.keras") as folder:
        monkeypatch.chdir(folder)
        path = tuned_network(folder / "tuned.keras", config=config)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("../../slipped", "x")
            archive.writestr("/tmp/slipped-out-of-featx", "x")
        checked(worker("tuned", path))
        checked(worker("weights", path))
        checked(worker("info", path))
    assert not Path("/tmp/slipped-out-of-featx").exists()


# models


class Touch:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def schema_of(content: bytes) -> dict:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return json.loads(archive.read("schema.json"))


def nodes(schema: object):
    """Yield all objects of a schema."""
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


def with_schema(path: Path, content: bytes, schema: object) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    zipped(path, {**members, "schema.json": json.dumps(schema)})


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("builtins", "eval"), ("subprocess", "Popen"), ("fuzzing", "Worker")],
)
@pytest.mark.parametrize("loader", ["FunctionNode", "TypeNode", "ObjectNode", "MethodNode", None])
def test_a_schema_that_names_code_is_refused(module, name, loader, seeds, worker):
    """Nodes of a schema that are replaced by calls are refused."""
    kinds = sorted({kind_of(node) for node in nodes(schema_of(seeds["model"]))} - {None})
    assert ("builtins", "str", "TypeNode") in kinds
    with alone("model.skops") as folder:
        path = folder / "model.skops"
        # All nodes of a kind are replaced, since skops reuses the first one for the others.
        for kind in kinds[:: 1 if loader is None else 4]:
            schema = schema_of(seeds["model"])
            for node in [each for each in nodes(schema) if kind_of(each) == kind]:
                node |= {"__module__": module, "__class__": name}
                if loader is not None:
                    text = f"touch {folder}/ran"
                    node |= {"__loader__": loader, "content": node.get("content", text)}
            with_schema(path, seeds["model"], schema)
            assert checked(worker("model", path))["error"] == "ModelError", kind


def kind_of(node: dict) -> tuple[str, str, str] | None:
    """Return the type that a node builds, or None for JSON."""
    if "__class__" not in node or node.get("__loader__") == "JsonNode":
        return None
    return node["__module__"], node["__class__"], node["__loader__"]


def model_with(path: Path, content: bytes, **parts) -> Path:
    """Write a model that skops can load, with other parts."""
    whole = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    skops.io.dump({**whole, **parts}, path)
    return path


@pytest.mark.parametrize(
    "parts",
    [
        {"classifier": []},
        {"classifier": "pipeline"},
        {"provenance": "[]"},
        {"provenance": '{"codes": 5}'},
        {"provenance": "{"},
        {"summary": "5"},
        {"fitted_on": "5"},
        {"recipe": "[]"},
        {"recipe": 5},
        {"format_version": "2"},
        {"format_version": None},
    ],
    ids=str,
)
def test_wrong_parts_of_a_model_are_refused(parts, tmp_path, seeds, worker):
    """A file that skops can load may not be a model."""
    path = model_with(tmp_path / "model.skops", seeds["model"], **parts)
    found = checked(worker("model", path))
    assert found["error"] == "ModelError", found
    checked(worker("info", path))


def test_an_inconsistent_classifier_is_refused(tmp_path, seeds, worker):
    """Coefficients for another number of features are an error when it classifies."""
    whole = skops.io.loads(
        seeds["model"], trusted=skops.io.get_untrusted_types(data=seeds["model"])
    )
    estimator = whole["classifier"].named_steps["decisions"].estimator_
    estimator.coef_ = estimator.coef_[:, :5]
    skops.io.dump(whole, tmp_path / "model.skops")
    found = checked(worker("model", tmp_path / "model.skops"))
    assert found["error"] == "ModelError"


def test_a_zip_bomb_as_a_model_is_not_unpacked(tmp_path, seeds, worker):
    """A model that would unpack to a thousand times its size is refused."""
    path = tmp_path / "model.skops"
    path.write_bytes(seeds["model"])
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("more.npy", "w") as member,
    ):
        for _ in range(200):
            member.write(bytes(1_000_000))
    found = checked(worker("model", path))
    assert found["error"] == "ModelError"


@pytest.mark.parametrize("trust", [False, True])
def test_a_pickle_runs_only_if_it_is_trusted(trust, tmp_path):
    """A pickle runs its code only with trust=True."""
    import joblib

    from featx import load_model

    canary, path = tmp_path / "ran", tmp_path / "model.joblib"
    joblib.dump(Touch(canary), path)
    with pytest.raises(ModelError):
        load_model(path, trust=trust)
    assert canary.exists() is trust


# tables


CELLS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *("a.png", "../a.png", "../../../etc/passwd", "/etc/passwd", "/dev/zero", ".", "\0"),
            *("a.png\0", '=HYPERLINK("http://x")', "@SUM(1)", "train", '"', "a" * 5000, "\ud800"),
            *("pipe", "con", "a\nb", "\u202e", "a,b", " "),
        ]
    ),
)
TABLES = st.builds(
    lambda head, rows, encoding, mark: (
        mark.join(head) + "\n" + "\n".join(mark.join(row) for row in rows)
    ).encode(encoding, "surrogatepass" if "utf" in encoding else "replace"),
    st.lists(
        st.sampled_from(["path", "file_name", "label", "split", "group", "", "x"]),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=4),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    st.sampled_from([",", ",", ",", ";", "\t", "\0"]),
)


@FAST
@given(table=st.one_of(TABLES, st.binary(max_size=80)))
def test_malicious_tables_are_errors(table, seeds, worker):
    """With any table, extraction, listing and labels succeed or raise an error of featx."""
    names = ["codes.h5", "a.png", "metadata.csv", "labels.csv", "labels.tsv", "pipe"]
    with alone(*names) as folder:
        os.mkfifo(folder / "pipe")
        Image.new("RGB", (40, 40)).save(folder / "a.png")
        (folder / "codes.h5").write_bytes(seeds["store"])
        for name in ("metadata.csv", "labels.csv", "labels.tsv"):
            (folder / name).write_bytes(table)
        checked(worker("folder", folder))
        checked(worker("labels", folder / "codes.h5", folder / "labels.csv"))
        checked(worker("labels", folder / "codes.h5", folder / "labels.tsv"))
        with tempfile.TemporaryDirectory() as other:
            checked(worker("manifest", folder / "labels.csv", Path(other) / "new.h5"))


def test_a_table_that_is_a_pipe_is_refused(tmp_path, worker):
    """A pipe, which would block forever, is refused as a table."""
    os.mkfifo(tmp_path / "metadata.csv")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    found = checked(worker("folder", tmp_path))
    assert found["error"] == "ImagesError"
    assert "metadata.csv" in found["message"]


def test_weights_that_are_a_pipe_are_refused(tmp_path, worker):
    """A pipe, which would block forever, is refused as weights."""
    os.mkfifo(tmp_path / "weights.h5")
    found = checked(worker("weights", tmp_path / "weights.h5"))
    assert found["error"] == "WeightsError"
    assert str(tmp_path / "weights.h5") in found["message"]


def test_a_zero_byte_in_a_cell_is_refused(tmp_path, worker):
    """A zero byte, which HDF5 cannot store in a text, is refused with its line."""
    (tmp_path / "table.csv").write_bytes(b"path,label\na.png,c\0at\n")
    found = checked(worker("manifest", tmp_path / "table.csv", tmp_path / "codes.h5"))
    assert found["error"] == "ImagesError"
    assert "line 2" in found["message"]
    assert not (tmp_path / "codes.h5").exists()


def test_cells_are_not_changed(tmp_path):
    """Paths may leave the folder, and formulas are ordinary labels."""
    (tmp_path / "table.csv").write_text("path,label\n../a.png,=1+1\n/b.png,@x\n")
    records = list_images(manifest=tmp_path / "table.csv").records
    assert [(each.path, each.label) for each in records] == [("../a.png", "=1+1"), ("/b.png", "@x")]

"""`featx info --check`: files against the store, suspicious codes, and what a resume would do."""

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from running import job_in, run, stop_after

import featx
from featx.extraction import checking
from featx.images import FileDigest
from featx.store import open_store


@pytest.fixture
def folder(image_folder):
    """A folder with 27 images in data/, and their complete store."""
    run(job_in(image_folder.parent))
    return image_folder.parent


def a_new_image(path, seed=9):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def forecast(found):
    return found.resume.n_kept, found.resume.n_computed, found.resume.n_dropped


def test_a_sound_store(folder):
    """Nothing is missing, changed, unreadable or new, and a resume would keep everything."""
    before = (folder / "codes.h5").read_bytes()
    found = featx.check_store(folder / "codes.h5")
    assert found.is_sound
    assert (found.n_images, found.n_done, found.n_unchanged) == (27, 27, 27)
    assert found.root == str(folder / "data")
    lists = (found.missing, found.changed, found.unreadable, found.not_in_store, found.notes)
    assert not any(lists)
    assert forecast(found) == (27, 0, 0)
    assert found.resume.refusal == ""
    assert (folder / "codes.h5").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["codes.h5", "data"]


def test_each_kind_of_file_is_found(folder):
    """Missing, changed, unreadable and new files are listed by path; others are unchanged."""
    data = folder / "data"
    (data / "train/red/0.png").unlink()
    (data / "train/red/1.png").unlink()
    (data / "train/red/1.png").symlink_to("nowhere")
    a_new_image(data / "val/red/1.png")
    (data / "val/red/2.png").unlink()
    os.mkfifo(data / "val/red/2.png")
    a_new_image(data / "val/red/new.png", seed=1)
    found = featx.check_store(folder / "codes.h5")
    assert not found.is_sound
    assert found.missing == ("train/red/0.png", "train/red/1.png")
    assert found.changed == ("val/red/1.png",)
    assert [path for path, _ in found.unreadable] == ["val/red/2.png"]
    assert found.unreadable[0][1]
    assert found.not_in_store == ("val/red/new.png",)
    assert found.n_unchanged == 23
    assert forecast(found) == (25, 2, 1)
    assert "--prune" in found.resume.refusal


@pytest.mark.parametrize("kind", ["missing", "changed", "unreadable", "not_finite", "zeros"])
def test_any_finding_makes_a_store_unsound(folder, kind):
    """One file or one code is enough."""
    file = folder / "data/train/red/0.png"
    if kind in {"missing", "unreadable"}:
        file.unlink()
    if kind == "unreadable":
        file.mkdir()
    if kind == "changed":
        a_new_image(file)
    if kind in {"not_finite", "zeros"}:
        with h5py.File(folder / "codes.h5", "r+") as opened:
            opened["codes/block1_pool"][12] = 0 if kind == "zeros" else np.nan
    found = featx.check_store(folder / "codes.h5")
    assert not found.is_sound
    counts = {name: len(getattr(found, name)) for name in CHECKED}
    assert counts == dict.fromkeys(CHECKED, 0) | {kind: 1}


CHECKED = ("missing", "changed", "unreadable", "not_finite", "zeros")


@pytest.mark.parametrize("pool", ["avg", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_suspicious_codes_of_any_layer(folder, pool, dtype):
    """One NaN or infinity in any layer, or a layer with zeros only; other rows are right."""
    layers = ["block1_conv1", "block1_pool"]
    run(job_in(folder, layer=layers, pool=pool, dtype=dtype, overwrite=True))
    paths = open_store(folder / "codes.h5").images.path
    with h5py.File(folder / "codes.h5", "r+") as file:
        for layer in layers:
            codes = file["codes"][layer]
            last = (*(size - 1 for size in codes.shape[1:]),)
            row = layers.index(layer)
            codes[(row, *last)] = np.nan
            codes[(row + 5, *last)] = np.inf
            codes[row + 10] = 0
    found = featx.check_store(folder / "codes.h5")
    assert found.not_finite == tuple(paths[[0, 1, 5, 6]])
    assert found.zeros == tuple(paths[[10, 11]])


@pytest.mark.usefixtures("one_unsafe_batch")
def test_rows_that_are_not_done_are_not_suspicious(folder):
    """NaN of a failed row and bytes of a pending row are what the format says."""
    (folder / "data/train/blue/0.png").write_bytes(b"no image")
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, overwrite=True, batch_size=4), progress=stop_after(8))
    found = featx.check_store(folder / "codes.h5")
    assert (found.not_finite, found.zeros) == ((), ())
    assert found.n_done == found.resume.n_kept < 27
    assert found.resume.n_computed == 27 - found.n_done - 1
    assert found.is_sound


def test_the_forecast_is_what_the_same_command_does(folder):
    """With a manifest, a group and a further image, the numbers are those of the next run."""
    table = folder / "table.csv"
    table.write_text("name,label\n" + "".join(f"data/train/red/{i}.png,r\n" for i in range(6)))
    settings = {"images": None, "manifest": table, "path_column": "name", "group": "red/(.)"}
    run(job_in(folder, overwrite=True, **settings))
    a_new_image(folder / "data/train/red/3.png")
    with h5py.File(folder / "codes.h5", "r+") as file:  # an update in place keeps these
        file["summary"] = "of another program"
    before = featx.check_store(folder / "codes.h5")
    assert before.resume.refusal == ""
    assert before.not_in_store == ()  # the images of other classes are not in the table
    assert forecast(before) == (5, 1, 0)
    with h5py.File(folder / "codes.h5", "r+") as file:
        del file["summary"]
    with table.open("a") as file:
        file.write("data/val/red/0.png,r\ndata/val/red/1.png,r\n")
    found = featx.check_store(folder / "codes.h5")
    assert found.not_in_store == ("data/val/red/0.png", "data/val/red/1.png")
    job = job_in(folder, **settings)
    n_kept = job.remaining.n_kept + len(job.remaining.copied)
    assert forecast(found) == (n_kept, len(job.remaining.rows), 0) == (5, 3, 0)


def test_one_image_and_an_archive_are_listed_as_they_were(folder):
    """A store of one image does not miss its neighbours; members of an archive are compared."""
    run(job_in(folder, images=folder / "data/train/red/0.png", overwrite=True))
    found = featx.check_store(folder / "codes.h5")
    assert (found.n_unchanged, found.not_in_store) == (1, ())
    archive = shutil.make_archive(folder / "photos", "zip", folder / "data")
    run(job_in(folder, images=archive, overwrite=True))
    found = featx.check_store(folder / "codes.h5")
    assert (found.n_unchanged, forecast(found)) == (27, (27, 0, 0))


def test_a_table_in_memory_cannot_be_listed_again(folder):
    """The files are compared, and a note says what is not known."""
    table = {"path": [str(folder / "data/train/red/0.png")]}
    run(job_in(folder, images=None, manifest=table, overwrite=True))
    found = featx.check_store(folder / "codes.h5")
    assert (found.n_unchanged, found.resume, len(found.notes)) == (1, None, 1)
    assert "memory" in found.notes[0]


BOTH = {"images": "a", "manifest": "b"}


@pytest.mark.parametrize(
    "listing", [None, 5, [], {}, {"images": 5}, {"other": "x"}, {"group": "("}, BOTH]
)
def test_a_provenance_may_hold_anything(folder, listing):
    """The listing of a store may be missing, as in 0.1, or of another type."""
    with h5py.File(folder / "codes.h5", "r+") as file:
        facts = json.loads(file.attrs["provenance"])
        del facts["listing"]
        file.attrs["provenance"] = json.dumps(
            facts if listing is None else facts | {"listing": listing}
        )
    found = featx.check_store(folder / "codes.h5")
    assert found.n_unchanged == 27
    assert (found.resume is None) == bool(found.notes) == (listing == BOTH)
    assert found.resume is None or forecast(found) == (27, 0, 0)


def test_images_that_were_moved_are_found_below_a_root(folder):
    """Without the root they are missing, and a note says that nothing could be listed."""
    (folder / "data").rename(folder / "moved")
    found = featx.check_store(folder / "codes.h5")
    assert (len(found.missing), found.resume, len(found.notes)) == (27, None, 1)
    found = featx.check_store(folder / "codes.h5", folder / "moved")
    assert (found.n_unchanged, forecast(found)) == (27, (27, 0, 0))
    table = folder / "moved/table.csv"
    table.write_text("path\ntrain/red/0.png\n")
    run(job_in(folder, images=None, manifest=table, overwrite=True))
    (folder / "moved").rename(folder / "again")
    found = featx.check_store(folder / "codes.h5", folder / "again")
    assert (found.n_unchanged, len(found.not_in_store)) == (1, 26)


def test_a_store_of_somebody_else_fetches_nothing(tmp_path, make_store, monkeypatch):
    """URLs in a store are read only on request, wherever they are in it."""
    read = []
    monkeypatch.setattr(checking, "read_digest", lambda file: read.append(file) or FileDigest("x"))
    monkeypatch.setattr(checking, "list_images", lambda **given: pytest.fail(f"listed {given}"))
    url = "https://example.invalid/1.png"
    codes = {"block1_pool": np.ones((2, 64), np.float32)}
    path = make_store(
        tmp_path / "codes.h5",
        codes,
        ["a", "b"],
        paths=[url, "zip://1.png::https://example.invalid/a.zip"],
        provenance={"root": "https://example.invalid", "listing": {"images": "s3://bucket"}},
    )
    found = featx.check_store(path)
    assert (read, found.n_not_fetched) == ([], 2)
    assert found.is_sound
    assert any("--fetch" in note for note in found.notes)
    monkeypatch.setattr(checking, "check_file", lambda file: file)
    monkeypatch.setattr(checking, "list_images", lambda **given: checking.Listing(Path(), ()))
    assert len(featx.check_store(path, fetch=True).changed) == 2
    assert len(read) == 2


# the command line


def test_the_command(folder, request):
    """It prints numbers and names, or one JSON object; its exit code says whether all is sound."""
    command = request.getfixturevalue("run")
    store = folder / "codes.h5"
    code, out, err = command("info", "--check", store)
    assert (code, err) == (0, "")
    assert "unchanged: 27" in out
    (folder / "data/train/red/0.png").unlink()
    code, out, _ = command("info", "--check", store)
    assert code == 1
    assert "missing: 1 ('train/red/0.png')" in out
    assert "--prune" in out
    code, out, _ = command("info", "--check", store, "--json")
    assert code == 1
    facts = json.loads(out)
    assert facts["missing"] == ["train/red/0.png"]
    assert facts["resume"]["n_dropped"] == 1
    assert facts["is_sound"] is False
    (folder / "data").rename(folder / "moved")
    assert "unchanged: 26" in command("info", "--check", store, "--root", folder / "moved")[1]


@pytest.mark.parametrize("arguments", [["--root", "data"], ["--fetch"]])
def test_flags_of_the_check_need_it(folder, request, arguments):
    """Without --check they would be passed over."""
    code, _, err = request.getfixturevalue("run")("info", folder / "codes.h5", *arguments)
    assert code == 1
    assert "--check" in err


def test_a_model_cannot_be_checked(tmp_path, request):
    """--check needs a store, like --bad and --digest."""
    h5py.File(tmp_path / "weights.h5", "w").close()
    code, _, err = request.getfixturevalue("run")("info", tmp_path / "weights.h5", "--check")
    assert code == 1
    assert "--check" in err
    with pytest.raises(featx.errors.StoreError):
        featx.check_store(tmp_path / "weights.h5")

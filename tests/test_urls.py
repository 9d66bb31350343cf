"""Images in archives and on servers give the codes that the same images in a folder give."""

import dataclasses
import json
import pickle
import socket
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import h5py
import numpy as np
import pandas as pd
import pytest
from conftest import COLOURS
from running import TINY, job_in, stop_after
from running import run as run_job

import featx
from featx.cluster import Cluster
from featx.errors import ImageError, ImagesError, OptionError
from featx.extraction import run_extraction
from featx.extraction.prepare import prepare_extraction
from featx.images import Url, as_file, list_images, read_digest, read_image, urls
from featx.report import prepare_report
from featx.store import Status, open_store

fsspec = pytest.importorskip("fsspec", reason="no URLs: pip install 'featx[urls]'")


@pytest.fixture
def folder(image_folder):
    """A folder that holds data/ with 27 images and one bad one."""
    (image_folder / "train/red/bad.png").write_bytes(b"no image")
    return image_folder.parent


@pytest.fixture(scope="module")
def straight(make_image_folder, tmp_path_factory):
    """The digests of the store that the folder itself gives."""
    home = tmp_path_factory.mktemp("straight")
    (make_image_folder(home / "data") / "train/red/bad.png").write_bytes(b"no image")
    return digests(run_job(job_in(home)).path)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def zipped(folder, output, prefix=""):
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files_of(folder):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return output


def tarred(folder, output, mode):
    """Write a tar as `tar -C FOLDER .` does: names start with "./". The last file is first."""
    with tarfile.open(output, mode) as archive:
        for path in reversed(files_of(folder)):
            archive.add(path, f"./{path.relative_to(folder).as_posix()}")
    return output


ARCHIVES = {
    "zip": lambda folder, home: zipped(folder, home / "photos.zip"),
    "tar": lambda folder, home: tarred(folder, home / "photos.tar", "w"),
    "tar.gz": lambda folder, home: tarred(folder, home / "photos.tar.gz", "w:gz"),
    "tgz": lambda folder, home: tarred(folder, home / "photos.TGZ", "w:gz"),
    "tar.xz": lambda folder, home: tarred(folder, home / "photos.tar.xz", "w:xz"),
    "tar.bz2": lambda folder, home: tarred(folder, home / "photos.tar.bz2", "w:bz2"),
}


@pytest.fixture
def bucket(folder):
    """The images in fsspec's memory file system, which is listed and read like a bucket."""
    system = fsspec.filesystem("memory")
    system.put(str(folder / "data"), "/bucket/photos", recursive=True)
    yield system
    system.rm("/bucket", recursive=True)


class Server(ThreadingHTTPServer):
    """A server of a folder; the files in `cut` are sent by half."""

    daemon_threads = True

    def __init__(self, folder):
        self.folder, self.got, self.cut = folder, Counter(), set()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def stop(self):
        if self.thread.is_alive():
            self.shutdown()
            self.server_close()
            self.thread.join()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, request, address, server):
        super().__init__(request, address, server, directory=server.folder)

    def do_GET(self):
        self.server.got[self.path] += 1
        if self.path == "/forbidden.png":
            self.send_error(403)
        elif self.path in self.server.cut:
            data = (Path(self.server.folder) / self.path[1:]).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2])
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(folder):
    """A server of data/ on this machine."""
    server = Server(folder / "data")
    yield server
    server.stop()


def digests(path):
    return open_store(path).digests()


def manifest_of(paths, folder, name="table.csv"):
    rows = [(path, path.split("/")[-2]) for path in paths]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(folder / name, index=False)
    return folder / name


# archives


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_has_the_files_of_the_folder(folder, kind):
    """Classes, splits and bytes are those of the folder, in each kind of archive."""
    archived, plain = (
        [(r.path, r.label, r.split, read_digest(r.file)) for r in list_images(images).records]
        for images in (ARCHIVES[kind](folder / "data", folder), folder / "data")
    )
    assert archived == plain
    assert len(plain) == 28


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_is_a_folder(folder, straight, kind):
    """All codes are those of the folder, and the bad image is a row."""
    archive = ARCHIVES[kind](folder / "data", folder)
    made = run_job(job_in(folder, images=archive, batch_size=4))
    assert (made.n_done, made.n_failed) == (27, 1)
    assert digests(made.path) == straight
    assert open_store(made.path).provenance["root"].endswith(f"://::{archive}")


def test_a_folder_inside_an_archive(folder):
    """A URL may name a folder of an archive; paths are relative to it."""
    archive = zipped(folder / "data", folder / "photos.zip")
    listing = list_images(f"zip://val::{archive}")
    assert [(r.path, r.label, r.split) for r in listing.records] == [
        (f"{name}/{i}.png", name, None) for name in ("blue", "green", "red") for i in range(3)
    ]
    with pytest.raises(ImagesError, match="zip://va::"):
        list_images(f"zip://va::{archive}")


def test_a_folder_that_was_archived_with_its_name(folder):
    """The one folder that contains the others is not a class; a note reports it."""
    archive = zipped(folder / "data/train", folder / "wrapped.zip", "photos/")
    listing = list_images(archive)
    plain = list_images(folder / "data/train")
    assert [(r.path, r.label) for r in listing.records] == [
        (r.path, r.label) for r in plain.records
    ]
    assert "'photos'" in listing.notes[0]
    assert read_digest(listing.records[4].file) == read_digest(plain.records[4].file)
    # One class alone is one.
    alone = zipped(folder / "data/train/red", folder / "alone.zip", "red/")
    assert {r.label for r in list_images(alone).records} == {"red"}


def test_a_table_inside_an_archive(folder):
    """metadata.csv takes precedence, as in a folder; hidden files are skipped."""
    (folder / "data/metadata.csv").write_text("file_name,label,group\ntrain/red/0.png,rose,g1\n")
    archive = zipped(folder / "data", folder / "photos.zip")
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("__MACOSX/train/red/0.png", b"")
        opened.writestr("train/red/._0.png", b"")
    listing, plain = list_images(archive), list_images(folder / "data")
    facts = [(r.path, r.label, r.split, r.group) for r in listing.records]
    assert facts == [(r.path, r.label, r.split, r.group) for r in plain.records]
    assert ("train/red/0.png", "rose", "train", "g1") in facts
    assert listing.notes == plain.notes


def test_threads_and_forks_share_an_archive(folder):
    """Each thread reads its own image, and so does a fork."""
    archive = tarred(folder / "data", folder / "photos.tar", "w")
    files = [r.file for r in list_images(archive).records] * 20
    expected = [read_digest(r.file) for r in list_images(folder / "data").records] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_digest, files)) == expected
    assert pickle.loads(pickle.dumps(files[0])) == files[0]
    urls._forget()  # a fork calls it in the child
    assert read_digest(files[1]) == expected[1]


def test_a_damaged_member_is_a_row_with_a_reason(folder):
    """Damaged bytes, missing members and archives, and files that are not archives have reasons."""
    archive = zipped(folder / "data", folder / "photos.zip")
    data = bytearray(archive.read_bytes())
    at = data.index(b"train/blue/0.png") + len("train/blue/0.png")
    data[at + 20 : at + 40] = bytes(20)
    archive.write_bytes(data)
    (folder / "none.zip").write_bytes(b"PK no archive")
    paths = [
        "zip://train/blue/0.png::photos.zip",
        "zip://train/blue/9.png::photos.zip",
        "zip://train/blue/1.png::photos.zip",
        "zip://train/blue/1.png::none.zip",
        "zip://train/blue/1.png::missing.zip",
        "data/train/blue/1.png",
    ]
    job = job_in(folder, images=None, manifest=manifest_of(paths, folder))
    run_job(job)
    images = open_store(job.output).images
    assert list(images.path) == paths
    assert list(images.status) == [2, 2, 1, 2, 2, 1]
    assert images.reason[0]
    assert images.reason[1] == images.reason[4] == "not found"
    assert "not a zip file" in images.reason[3]
    assert images.sha256[2] == images.sha256[5]
    with pytest.raises(ImagesError, match=r"none\.zip.*not a zip file"):
        list_images(folder / "none.zip")


def test_limits_and_reduced_jpegs_hold(folder):
    """An image in an archive is decoded and limited like a file."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "data/large.jpg")
    archive = zipped(folder / "data", folder / "photos.zip")
    url = as_file(f"zip://large.jpg::{archive}")
    for jpeg in ("reduced", "full"):
        plain = read_image(folder / "data/large.jpg", (32, 32), "squash", jpeg=jpeg)
        there = read_image(url, (32, 32), "squash", jpeg=jpeg)
        np.testing.assert_array_equal(there.pixels, plain.pixels)
        assert there.sha256 == plain.sha256
    with pytest.raises(ImageError, match="too many pixels"):
        read_image(url, (32, 32), "squash", max_pixels=1000)


def test_images_are_added_to_an_archive(folder, straight):
    """The store is updated by the bytes of the images in the new archive."""
    kept = folder / "data/val/red/2.png"
    data = kept.read_bytes()
    kept.unlink()
    archive = zipped(folder / "data", folder / "photos.zip")
    run_job(job_in(folder, images=archive))
    kept.write_bytes(data)
    zipped(folder / "data", archive)
    job = job_in(folder, images=archive)
    assert [job.listing.records[row].path for row in job.remaining.rows] == [
        "train/red/bad.png",
        "val/red/2.png",
    ]
    run_job(job)
    assert digests(job.output) == straight
    assert job_in(folder, images=archive).remaining.is_empty


# buckets


def test_a_bucket_is_a_folder(folder, bucket, straight):
    """A bucket, listed and read through fsspec, gives the store of the folder."""
    made = run_job(job_in(folder, images="memory://bucket/photos"))
    assert digests(made.path) == straight
    assert open_store(made.path).provenance["root"] == "memory://bucket/photos"


@pytest.mark.usefixtures("one_unsafe_batch")
def test_a_stopped_run_resumes_and_finds_new_and_edited_images(folder, bucket, straight):
    """New and edited images are found by their bytes, as in a folder."""
    images = "memory://bucket/photos"
    with pytest.raises(KeyboardInterrupt):
        run_job(job_in(folder, images=images, batch_size=4), progress=stop_after(8))
    again = job_in(folder, images=images, batch_size=4)
    assert again.remaining.resumes
    assert again.remaining.rows == tuple(range(8, 28))
    run_job(again)
    assert digests(again.output) == straight
    new = (folder / "data/val/red/1.png").read_bytes()
    bucket.pipe("/bucket/photos/val/blue/0.png", new)
    edited = job_in(folder, images=images)
    assert (edited.remaining.n_edited, len(edited.remaining.rows)) == (1, 1)
    bucket.pipe("/bucket/photos/val/blue/7.png", (folder / "data/val/blue/0.png").read_bytes())
    added = job_in(folder, images=images)
    assert (
        len(added.remaining.copied) == 28 - 1 + 1
    )  # all but the bad one; the new one is an old one


def test_an_archive_in_a_bucket(folder, bucket, straight):
    """The archive may be in a bucket, and is read again for each listing."""
    archive = zipped(folder / "data/train", folder / "photos.zip")
    bucket.put(str(archive), "/bucket/photos.zip")
    assert len(list_images("memory://bucket/photos.zip").records) == 19
    bucket.put(str(zipped(folder / "data", archive)), "/bucket/photos.zip")
    made = run_job(job_in(folder, images="memory://bucket/photos.zip"))
    assert digests(made.path) == straight


def test_an_empty_bucket(bucket):
    with pytest.raises(ImagesError, match="memory://bucket/none"):
        list_images("memory://bucket/none")


# servers


def test_a_table_of_urls_and_paths(folder, server):
    """Each image is downloaded once; a failed one is a row with a reason."""
    (folder / "data/text.png").write_text("no image")
    server.cut.add("/train/red/1.png")
    paths = [
        f"{server.url}/train/red/0.png",
        "data/train/red/0.png",
        f"{server.url}/train/red/gone.png",
        f"{server.url}/train/red/1.png",
        f"{server.url}/forbidden.png",
        f"{server.url}/text.png",
        (folder / "data/val/red/1.png").as_posix(),
        f"file://{folder}/data/val/red/1.png",
        f"{server.url}/train/blue/2.png?size=large#here",
    ]
    job = job_in(folder, images=None, manifest=manifest_of(paths, folder))
    made = run_job(job)
    assert (made.n_done, made.n_failed) == (5, 4)
    images = open_store(job.output).images
    assert list(images.path[[0, 1, 2, 3, 4, 5, 6, 8]]) == [*paths[:7], paths[8]]
    assert images.sha256[0] == images.sha256[1]
    assert images.sha256[6] == images.sha256[7]
    assert images.reason[2] == "not found"
    assert "payload" in images.reason[3]
    assert "403" in images.reason[4]
    assert "not an image" in images.reason[5]
    codes = open_store(job.output).codes("block1_pool")
    np.testing.assert_array_equal(codes[0], codes[1])
    assert server.got["/train/red/0.png"] == 1
    assert set(server.got.values()) == {1}


@pytest.mark.usefixtures("one_unsafe_batch")
def test_images_are_downloaded_once_in_a_resumed_run(folder, server):
    """Finished images are checked first, and the others are downloaded when they are needed."""
    paths = [f"{server.url}/train/{name}/{i}.png" for name in ("red", "blue") for i in range(6)]
    settings = {"images": None, "manifest": manifest_of(paths, folder), "batch_size": 2}
    with pytest.raises(KeyboardInterrupt):
        run_job(job_in(folder, **settings), progress=stop_after(4))
    server.got.clear()
    job = job_in(folder, **settings)
    assert len(server.got) == 12 - len(job.remaining.rows)
    run_job(job)
    assert set(server.got.values()) == {1}
    assert len(server.got) == 12


def test_finished_images_survive_a_server_that_is_down(folder, server):
    """Finished images are kept, also when images are added; failed ones are tried again."""
    paths = [f"{server.url}/train/red/{i}.png" for i in range(3)]
    server.cut.add("/train/red/2.png")
    job = job_in(folder, images=None, manifest=manifest_of(paths, folder))
    run_job(job)
    before = open_store(job.output).codes("block1_pool")[:2].copy()
    server.cut.clear()
    again = job_in(folder, images=None, manifest=folder / "table.csv")
    assert again.remaining.rows == (2,)
    server.stop()
    assert job_in(folder, images=None, manifest=folder / "table.csv").remaining.rows == ()
    paths.append("data/val/red/0.png")
    more = job_in(folder, images=None, manifest=manifest_of(paths, folder))
    assert [copy.row for copy in more.remaining.copied] == [0, 1]
    assert more.remaining.rows == (2, 3)
    run_job(more)
    store = open_store(job.output)
    assert list(store.images.status) == [Status.DONE, Status.DONE, Status.FAILED, Status.DONE]
    assert "Cannot connect to host 127.0.0.1" in store.images.reason[2]
    np.testing.assert_array_equal(store.codes("block1_pool")[:2], before)


def test_no_server(folder, run):
    """The command fails, and each row has a reason."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    table = manifest_of([f"http://127.0.0.1:{port}/red/{i}.png" for i in range(3)], folder)
    code, _, err = run(
        "extract", "--manifest", table, "-o", folder / "codes.h5", "--layer", "block1_pool",
        "--pool", "avg", "--size", 32, "--weights", "random:0", "--quiet",
    )  # fmt: skip
    assert code == 1
    assert "3 images" in err
    assert all("Cannot connect" in r for r in open_store(folder / "codes.h5").images.reason)


def test_an_archive_on_a_server(folder, server):
    """fsspec's cache downloads an archive once, if the server does not send parts of files."""
    zipped(folder / "data/train", folder / "data/photos.zip")
    listing = list_images(f"simplecache::{server.url}/photos.zip")
    plain = list_images(folder / "data/train")
    assert [r.path for r in listing.records] == [r.path for r in plain.records]
    assert list(map(read_digest, [r.file for r in listing.records])) == [
        read_digest(r.file) for r in plain.records
    ]
    n_got = server.got["/photos.zip"]
    assert n_got <= 2  # of which one may be to learn its size
    read_digest(listing.records[-1].file)
    assert server.got["/photos.zip"] == n_got
    with pytest.raises(ImagesError, match=r"simplecache::http.*/photos\.zip"):
        list_images(f"{server.url}/photos.zip")
    with pytest.raises(ImagesError, match=r"/train.*--manifest"):
        list_images(f"{server.url}/train")


# passwords and signatures


SECRET = "wJalrXUtnFEMI"


def signed(url, secret, **parameters):
    """Give a URL a login and a signature, as servers accept them."""
    query = {**parameters, "X-Amz-Credential": secret, "X-Amz-Expires": "60", "token": secret}
    return f"{url.replace('://', f'://me:{secret}@')}?{urlencode(query)}"


def test_secrets_of_urls_are_neither_stored_nor_shown(folder, server, run, monkeypatch):
    """Other parameters keep images apart; the same images with new signatures are resumed."""
    monkeypatch.chdir(folder)
    names = ("red/0.png", "red/0.png", "red/gone.png", "blue/0.png")
    places = [(f"train/{name}", str(n)) for n, name in enumerate(names)]
    zipped(folder / "data/val", folder / "data/photos.zip")

    def table(secret):
        urls = [signed(f"{server.url}/{name}", secret, id=number) for name, number in places]
        archive = f"simplecache::{signed(f'{server.url}/photos.zip', secret)}"
        frame = pd.DataFrame({"path": [*urls, f"zip://red/0.png::{archive}"]})
        frame.to_csv("table.csv", index=False)
        return folder / "table.csv"

    settings = {"images": None, "manifest": table(SECRET), "batch_size": 2}
    made = run_job(job_in(folder, **settings))
    assert (made.n_done, made.n_failed) == (4, 1)
    assert SECRET.encode() not in made.path.read_bytes()
    paths = [f"{server.url}/{name}?id={number}" for name, number in places]
    images = open_store(made.path).images
    assert list(images.path) == [*paths, f"zip://red/0.png::simplecache::{server.url}/photos.zip"]
    table("other")
    again = job_in(folder, **settings)
    assert (again.remaining.rows, again.remaining.n_kept) == ((), 4)
    assert all(server.got.values())
    rows = [(signed(f"{server.url}/{name}", "third", id=n), int(n) % 2) for name, n in places]
    pd.DataFrame([*rows, (images.path[4], 0)], columns=["path", "label"]).to_csv("labels.csv")
    plain = {"clf": "centroid", "folds": 2, "baselines": False, "duplicates": "keep"}
    featx.fit(made.path, output="m.skops", labels="labels.csv", **plain)
    table(SECRET)
    urls = [signed(f"{server.url}/val/red/{name}", SECRET) for name in ("0.png", "gone.png")]
    code, out, err = run("predict", *urls, "-o", "a.csv", "--model", "m.skops")
    assert (code, SECRET in out + err) == (0, False)
    assert SECRET not in (folder / "a.csv").read_text()
    for name in ("m.skops", "a.csv"):
        assert SECRET.encode() not in (folder / name).read_bytes()
    everything = repr(job_in(folder, **settings).listing)
    assert SECRET not in everything


# reports


@pytest.mark.parametrize("kind", ["image", "member", "cached member", "root"])
def test_a_page_fetches_nothing_unless_it_is_asked_to(folder, server, monkeypatch, kind):
    """A store may be of a stranger, and its URLs too; --fetch reads them."""
    monkeypatch.chdir(folder)
    names = [f"{split}/{c}/{i}.png" for split in ("train", "val") for c in COLOURS for i in (0, 1)]
    zipped(folder / "data", folder / "data/photos.zip")
    archive = f"{server.url}/photos.zip"
    urls = {
        "image": lambda name: f"{server.url}/{name}",
        "member": lambda name: f"zip://{name}::simplecache::{archive}",
        "cached member": lambda name: f"zip://{name}::filecache::{archive}",
        "root": lambda name: name,
    }
    paths = [urls[kind](name) for name in names]
    pd.DataFrame({"path": paths, "label": [name.split("/")[1] for name in names]}).to_csv("t.csv")
    if kind == "root":
        (folder / "data/t.csv").write_bytes((folder / "t.csv").read_bytes())
    table = "data/t.csv" if kind == "root" else "t.csv"
    featx.extract(manifest=table, output="codes.h5", **{**TINY, "layer": ["block1_pool"]})
    featx.fit("codes.h5", output="m.skops", C=1.0, folds=2, baselines=False)
    if kind == "root":
        with h5py.File("codes.h5", "r+") as file:
            facts = json.loads(file.attrs["provenance"]) | {"root": server.url}
            file.attrs["provenance"] = json.dumps(facts)
    server.got.clear()
    job = prepare_report("m.skops", "page.html", heat_maps=2)
    assert (job.heat_maps, server.got) == (None, {})
    assert "--fetch" in job.contents.heat_maps.text
    job = prepare_report("m.skops", "page.html", heat_maps=2, fetch=True)
    assert job.heat_maps.images
    assert server.got or "member" in kind  # an archive may still be open


def test_a_page_downloads_no_weights(folder, monkeypatch, tmp_path):
    """A model may name weights that are not on this machine."""
    monkeypatch.chdir(folder)
    featx.extract("data", output="codes.h5", **{**TINY, "layer": ["block1_pool"]})
    model = featx.fit("codes.h5", C=1.0, folds=2, baselines=False).model
    named = model.provenance | {"extraction": {"weights": "imagenet"}}
    dataclasses.replace(model, provenance=named).save("m.skops")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path))
    job = prepare_report("m.skops", "page.html", codes="codes.h5")
    assert job.heat_maps is None
    assert "featx weights fetch imagenet" in job.contents.heat_maps.text


# predictions and evaluations


def test_predict_evaluate_and_transform(folder, server, run, monkeypatch):
    """Archives and URLs are images there, too; names in tables are URLs."""
    (folder / "data/train/red/bad.png").unlink()
    monkeypatch.chdir(folder)
    tiny = {**TINY, "layer": ["block1_pool"]}
    featx.extract(folder / "data/train", output="codes.h5", **tiny)
    featx.fit("codes.h5", output="model.skops", clf="centroid", folds=2, baselines=False)
    archive = zipped(folder / "data/val", folder / "val.zip")
    url = f"{server.url}/val/red/0.png"
    assert run("predict", "val.zip", url, "-o", "a.csv", "--quiet")[0] == 0
    expected = featx.predict([folder / "data/val", folder / "data/val/red/0.png"])
    found = pd.read_csv("a.csv")
    names = ["path", "file", "reason"]
    pd.testing.assert_frame_equal(
        found.drop(columns=names), expected.drop(columns=names), check_dtype=False
    )
    assert list(found.path[:9]) == list(expected.path[:9])
    assert list(found.file[[0, 9]]) == ["zip://blue/0.png::val.zip", url]
    plain = featx.evaluate(folder / "data/val").evaluation
    assert featx.evaluate(str(archive)).evaluation.accuracy == plain.accuracy
    code = featx.VGG19Codes("block1_pool", pool="avg", size=32, weights="random:0")
    np.testing.assert_array_equal(
        code.fit_transform([url, "zip://blue/0.png::val.zip"]),
        code.fit_transform(["data/val/red/0.png", "data/val/blue/0.png"]),
    )
    with pytest.raises(ImageError, match=r"gone.png cannot be read: not found"):
        code.transform([f"{server.url}/gone.png"])


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_reads_urls(folder, server, monkeypatch):
    """A lease names an archive by its whole path, and a URL by itself."""
    distributed = pytest.importorskip("distributed", reason="pip install 'featx[cluster]'")
    monkeypatch.chdir(folder)
    zipped(folder / "data", folder / "photos.zip")
    paths = [f"{server.url}/train/red/0.png", "zip://train/red/1.png::photos.zip"]
    settings = {**TINY, "batch_size": 2, "manifest": manifest_of(paths, Path())}
    featx.extract(output="one.h5", **settings)
    job = prepare_extraction(output="many.h5", **settings)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local) as client,
    ):
        made = run_extraction(job, cluster=Cluster(client, "threads"))
    assert made.n_done == 2
    assert digests(made.path) == digests("one.h5")


# what is missing, and names


def test_missing_packages_are_named(folder, monkeypatch):
    """The message has the command that installs them, before any image is read."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(OptionError, match=r"pip install 'featx\[urls\]' s3fs"):
        job_in(folder, images="s3://bucket/photos")
    table = manifest_of(["data/train/red/0.png", "gs://bucket/red/1.png"], folder)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(OptionError, match=r"pip install 'featx\[urls\]' gcsfs"):
        job_in(folder, images=None, manifest=table)
    with pytest.raises(OptionError, match="foo://"):
        list_images("foo://bucket")
    with pytest.raises(OptionError, match="zip://NAME::ARCHIVE"):
        list_images("zip://photos.zip")
    urls._check_scheme.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(OptionError, match=r"pip install 'featx\[urls\]' s3fs"):
        list_images("zip://::s3://bucket/photos.zip")
    with pytest.raises(OptionError, match=r"pip install 'featx\[urls\]'$"):
        featx.VGG19Codes().fit(["https://127.0.0.1/1.png"])
    # Archives on this machine need no package.
    archive = zipped(folder / "data", folder / "photos.zip")
    assert len(list_images(archive).records) == 28
    assert read_digest(as_file(f"zip://train/red/0.png::{archive}")).sha256


def test_names_of_urls(tmp_path):
    """Texts become paths or URLs, relative to a folder."""
    assert as_file("a/b.png", tmp_path) == tmp_path / "a/b.png"
    assert as_file("s3:/a", tmp_path) == tmp_path / "s3:/a"
    assert as_file("file:///a/b.png") == Path("/a/b.png")
    archived = as_file("zip://b.png::a.zip", tmp_path)
    assert archived == Url(f"zip://b.png::{tmp_path}/a.zip")
    assert as_file("zip://b.png::a.zip").absolute().text == f"zip://b.png::{Path.cwd()}/a.zip"
    assert as_file("tar://b::s3://c/a.tar", tmp_path) == Url("tar://b::s3://c/a.tar")
    assert Url("simplecache::s3://a/b") / "c.png" == Url("simplecache::s3://a/b/c.png")
    assert Url("tar://::s3://c/a.tar") / "d/e.png" == Url("tar://d/e.png::s3://c/a.tar")
    assert Url("https://a/b/c.png?d=e.jpg").inside.name == "c.png"
    assert Url("https://a").inside.name == ""
    assert Url("http://[::1").inside.name == ""  # no ValueError of urllib

"""No run loses finished codes: of images that cannot be read now, or that are not in its list."""

import errno
import os
import shutil
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from running import job_in, run, stop_after

from featx.errors import ExistsError, ImagesError
from featx.extraction import plan_extraction
from featx.store import Status, open_store
from featx.workflows import prepare_finetune, prepare_sweep

LAYERS = ["block1_conv1", "block1_pool"]


@pytest.fixture
def folder(image_folder):
    """A folder with 27 images in data/, table.csv that lists them, and their complete store."""
    paths = sorted(path.relative_to(image_folder) for path in image_folder.rglob("*.png"))
    rows = "".join(f"{path},{path.parts[1]}\n" for path in paths)
    (image_folder / "table.csv").write_text(f"path,label\n{rows}")
    run(listed(image_folder.parent))
    return image_folder.parent


def listed(folder, **settings):
    """Prepare the extraction of the images that table.csv lists."""
    return job_in(folder, images=None, manifest=folder / "data/table.csv", **settings)


def codes_by_path(path, layer="block1_pool"):
    """Return the codes of the rows that are done."""
    store = open_store(path)
    codes = store.codes(layer)
    return {store.images.path[row]: codes[row].copy() for row in store.images.done.nonzero()[0]}


def same(found, expected):
    """Return whether codes of the same paths are equal, bit by bit."""
    return found.keys() == expected.keys() and all(
        found[path].tobytes() == expected[path].tobytes() for path in expected
    )


def a_new_image(path, seed=9):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def missing(path, monkeypatch):
    path.unlink()


def dangling(path, monkeypatch):
    path.unlink()
    path.symlink_to(path.parent / "not mounted" / path.name)


def looping(path, monkeypatch):
    path.unlink()
    path.symlink_to(path.name)


def a_folder(path, monkeypatch):
    path.unlink()
    path.mkdir()


def a_pipe(path, monkeypatch):
    path.unlink()
    os.mkfifo(path)


def failing_with(code):
    def fail(path, monkeypatch):
        real = Path.open

        def open_file(self, *arguments, **options):
            if self == path:
                raise OSError(code, os.strerror(code), str(path))
            return real(self, *arguments, **options)

        monkeypatch.setattr(Path, "open", open_file)

    fail.__name__ = errno.errorcode[code]
    return fail


WAYS = [
    *(missing, dangling, looping, a_folder, a_pipe),
    *map(failing_with, (errno.EACCES, errno.EIO, errno.ESTALE, errno.ENXIO)),
]


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def unreadable(request, folder, monkeypatch):
    """Make three images of the store unreadable, each way by itself; return their paths."""
    paths = ["train/blue/1.png", "train/red/2.png", "val/green/0.png"]
    for path in paths:
        request.param(folder / "data" / path, monkeypatch)
    return paths


# images that cannot be read now


def test_images_that_cannot_be_read_keep_their_codes(folder, unreadable):
    """The same command computes nothing and says how many images it could not read."""
    before = (folder / "codes.h5").read_bytes()
    job = listed(folder)
    assert job.remaining.is_empty
    assert job.remaining.n_edited == 0
    assert [path for path, _ in job.remaining.unreadable] == unreadable
    assert all(reason for _, reason in job.remaining.unreadable)
    (note,) = run(job).notes
    assert "3 images" in note
    assert unreadable[0] in note
    assert (folder / "codes.h5").read_bytes() == before


def test_they_keep_their_codes_when_images_are_added(folder, unreadable):
    """A new store has their codes, found by their paths; only the new image is computed."""
    before = codes_by_path(folder / "codes.h5")
    a_new_image(folder / "data/new.png")
    table = folder / "data/table.csv"
    table.write_text(table.read_text() + "new.png,blue\n")
    job = listed(folder)
    assert len(job.remaining.rows) == 1
    assert len(job.remaining.copied) == 27
    assert len(job.remaining.unreadable) == 3
    run(job)
    after = codes_by_path(folder / "codes.h5")
    assert after.pop("new.png") is not None
    assert same(after, before)


def test_layers_are_not_added_to_them(folder, unreadable):
    """Adding a layer ends with their number before any work; the store stays as it was."""
    before = (folder / "codes.h5").read_bytes()
    with pytest.raises(ImagesError, match=r"block1_conv1 .* 3 images .*codes\.h5"):
        listed(folder, layer=LAYERS)
    assert (folder / "codes.h5").read_bytes() == before
    assert not (folder / "codes.h5.part").exists()


def test_half_of_a_folder_of_links_is_not_mounted(folder):
    """Links of a folder that lead nowhere are listed and keep their codes, as in a table."""
    (folder / "data/table.csv").unlink()
    shutil.move(folder / "data/val", folder / "drive")
    (folder / "data/val").mkdir()
    for path in sorted((folder / "drive").rglob("*.png")):
        link = folder / "data/val" / path.relative_to(folder / "drive")
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(path)
    run(job_in(folder, overwrite=True))
    before = (folder / "codes.h5").read_bytes()
    (folder / "drive").rename(folder / "unmounted")
    job = job_in(folder)
    assert job.remaining.is_empty
    assert len(job.remaining.unreadable) == 9
    run(job)
    assert (folder / "codes.h5").read_bytes() == before


def test_an_archive_that_is_away_keeps_its_codes(folder):
    """Members of a zip file that a table lists are not edited because the file is away."""
    shutil.make_archive(folder / "photos", "zip", folder / "data")
    table = folder / "table.csv"
    names = ["train/blue/0.png", "train/red/0.png"]
    table.write_text("path\n" + "".join(f"zip://{name}::photos.zip\n" for name in names))
    run(job_in(folder, images=None, manifest=table, overwrite=True))
    (folder / "photos.zip").rename(folder / "away.zip")
    assert job_in(folder, images=None, manifest=table).remaining.is_empty


def test_a_failed_image_that_cannot_be_read_keeps_its_reason(folder):
    """A row that failed is tried again only if its file can be read."""
    file = folder / "data/val/red/1.png"
    file.write_bytes(file.read_bytes()[:60])
    run(listed(folder))
    (reason,) = filter(None, open_store(folder / "codes.h5").images.reason)
    file.unlink()
    for limit in (10**6, 10**7):
        job = listed(folder, max_pixels=limit)
        assert job.remaining.is_empty
        assert job.remaining.unreadable == ()  # it has no code to keep
    assert reason in open_store(folder / "codes.h5").images.reason


def test_an_edited_image_is_still_computed_again(folder):
    """A file that was read, and whose bytes differ, is computed; the unreadable one is not."""
    a_new_image(folder / "data/val/red/1.png")
    (folder / "data/val/red/2.png").unlink()
    before = codes_by_path(folder / "codes.h5")
    job = listed(folder)
    assert (job.remaining.n_edited, len(job.remaining.unreadable)) == (1, 1)
    run(job)
    after = codes_by_path(folder / "codes.h5")
    assert not np.array_equal(after.pop("val/red/1.png"), before.pop("val/red/1.png"))
    assert same(after, before)


def test_an_unreadable_image_is_found_in_another_unicode_form(folder):
    """A path that another system writes in another form is that of the same row."""
    table, rows = folder / "data/table.csv", "path,label\ncafe\u0301.png,a\n"
    a_new_image(folder / "data/cafe\u0301.png")
    table.write_text(rows, encoding="utf-8")
    run(listed(folder, overwrite=True))
    (before,) = codes_by_path(folder / "codes.h5").values()
    (folder / "data/cafe\u0301.png").unlink()
    table.write_text(rows.replace("e\u0301", "\u00e9"), encoding="utf-8")
    job = listed(folder)
    assert (len(job.remaining.copied), job.remaining.n_dropped) == (1, 0)
    run(job)
    after = codes_by_path(folder / "codes.h5")
    assert np.array_equal(after["caf\u00e9.png"], before)


def test_a_row_without_a_digest_is_kept(folder):
    """A digest may be unknown; then nothing shows that the file was edited."""
    with h5py.File(folder / "codes.h5", "r+") as file:
        file["images/sha256"][4] = b""
    before = codes_by_path(folder / "codes.h5")
    assert listed(folder).remaining.is_empty
    (folder / "data/train/blue/5.png").unlink()  # another row may not be taken for it
    unlist(folder, "val/red/1.png")
    job = listed(folder, prune=True)
    assert (job.remaining.rows, len(job.remaining.copied)) == ((), 26)
    run(job)
    del before["val/red/1.png"]
    assert same(codes_by_path(folder / "codes.h5"), before)
    unlist(folder, "train/blue/5.png")
    run(listed(folder, layer=LAYERS, prune=True))
    del before["train/blue/5.png"]
    assert same(codes_by_path(folder / "codes.h5"), before)
    assert all(open_store(folder / "codes.h5").images.sha256)


def test_an_image_that_vanishes_while_a_layer_is_added(folder):
    """The run ends with the number; the store stays, and the next run adds the layer."""
    whole = (folder / "codes.h5").read_bytes()
    job = listed(folder, layer=LAYERS, batch_size=4)
    moved = [folder / "data" / path for path in ("train/red/2.png", "val/green/0.png")]
    for path in moved:
        path.rename(path.with_suffix(".away"))
    with pytest.raises(ImagesError, match=r"block1_conv1 .* 2 images .*codes\.h5"):
        run(job)
    assert (folder / "codes.h5").read_bytes() == whole
    with pytest.raises(ImagesError, match="2 images"):  # and the failed rows of the part are tried
        listed(folder, layer=LAYERS)
    assert listed(folder).remaining.is_empty
    for path in moved:
        path.with_suffix(".away").rename(path)
    job = listed(folder, layer=LAYERS)
    assert len(job.remaining.extended) == 2
    run(job)
    store = open_store(folder / "codes.h5")
    assert store.images.done.all()
    run(listed(folder, layer=LAYERS, output=folder / "one-run.h5"))
    assert store.digests() == open_store(folder / "one-run.h5").digests()


def test_a_layer_is_not_added_to_images_that_are_now_too_large(folder):
    """An image that is read but refused now does not lose its earlier codes either."""
    whole = (folder / "codes.h5").read_bytes()
    with pytest.raises(ImagesError, match="27 images"):
        run(listed(folder, layer=LAYERS, max_pixels=100))
    assert (folder / "codes.h5").read_bytes() == whole


@pytest.mark.usefixtures("one_unsafe_batch")
def test_an_interrupted_update_keeps_codes_too(folder):
    """Rows of an unfinished update whose files cannot be read now are kept as well."""
    table = folder / "data/table.csv"
    for i in range(4):
        a_new_image(folder / f"data/new{i}.png", seed=i)
    new = "".join(f"new{i}.png,a\n" for i in range(4))
    table.write_text(f"path,label\n{new}{table.read_text()[11:]}")
    with pytest.raises(KeyboardInterrupt):
        run(listed(folder, batch_size=2), progress=stop_after(29))
    before = codes_by_path(folder / "codes.h5.part")
    done = [path for path in before if path.startswith("new")]
    for path in (*done, "train/red/2.png"):
        (folder / "data" / path).unlink()
    job = listed(folder, batch_size=2)
    assert job.remaining.resumes
    assert len(job.remaining.unreadable) == len(done) + 1
    run(job)
    after = codes_by_path(folder / "codes.h5")
    assert after.keys() >= before.keys()
    assert same({path: after[path] for path in before}, before)


@pytest.mark.parametrize("seed", range(12))
def test_codes_survive_whatever_happens_to_files(folder, seed, monkeypatch):
    """After any mixture of losses, edits and additions, codes change only where bytes differ."""
    rng = np.random.default_rng(seed)
    before, table = codes_by_path(folder / "codes.h5"), folder / "data/table.csv"
    edited, rows = set(), table.read_text().splitlines()[1:]
    for row in list(rows):
        path = row.partition(",")[0]
        match rng.choice(["same", "lost", "edited", "unlisted"], p=[0.5, 0.3, 0.1, 0.1]):
            case "lost":
                WAYS[rng.integers(5)](folder / "data" / path, monkeypatch)
            case "edited":
                edited.add(path)
                a_new_image(folder / "data" / path, seed=int(rng.integers(10**6)))
            case "unlisted":
                rows.remove(row)
    if rng.integers(2):
        a_new_image(folder / "data/new.png")
        rows.append("new.png,blue")
    rng.shuffle(rows)
    table.write_text("path,label\n" + "".join(f"{row}\n" for row in rows))
    run(listed(folder, prune=True))
    after = codes_by_path(folder / "codes.h5")
    kept = {row.partition(",")[0] for row in rows} & before.keys() - edited
    assert same({path: after[path] for path in kept}, {path: before[path] for path in kept})
    for path in edited & {row.partition(",")[0] for row in rows}:
        assert not np.array_equal(after[path], before[path])


# images that are not in the list


def unlist(folder, *paths):
    table = folder / "data/table.csv"
    rows = table.read_text().splitlines(keepends=True)
    table.write_text("".join(row for row in rows if row.partition(",")[0] not in paths))


def test_a_run_that_would_remove_codes_is_refused(folder):
    """It is refused with their number and the flag, and so is its plan; the flag removes them."""
    paths = [f"train/red/{i}.png" for i in range(5)]
    unlist(folder, *paths)
    before = (folder / "codes.h5").read_bytes()
    with pytest.raises(ExistsError, match=r"codes\.h5 .* 5 images .*train/red/0.*--prune"):
        listed(folder)
    assert (folder / "codes.h5").read_bytes() == before
    job = listed(folder, prune=True)
    assert job.remaining.n_dropped == plan_extraction(job).n_dropped == 5
    run(job)
    assert len(open_store(folder / "codes.h5").images) == 22


def test_one_folder_of_many_is_refused(folder):
    """A folder with one image of the store does not replace the other 26."""
    (folder / "one/train/red").mkdir(parents=True)
    shutil.copy(folder / "data/train/red/0.png", folder / "one/train/red")
    with pytest.raises(ExistsError, match=r"26 images.*--prune"):
        job_in(folder, images=folder / "one")


def test_a_class_folder_that_is_not_mounted_is_refused(folder):
    """An empty folder where a class was is no reason to remove its codes."""
    run(job_in(folder, overwrite=True))
    shutil.rmtree(folder / "data/train/red")
    (folder / "data/train/red").mkdir()
    with pytest.raises(ExistsError, match=r"6 images.*--prune"):
        job_in(folder)


def test_a_folder_that_cannot_be_read_ends_the_run(folder, monkeypatch):
    """A class folder without permission is an error, not a shorter list, and not a loss."""
    run(job_in(folder, overwrite=True))
    before, real = (folder / "codes.h5").read_bytes(), os.scandir

    def scandir(path):
        if Path(path) == folder / "data/train/red":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for prune in (False, True):
        with pytest.raises(ImagesError, match="train/red"):
            job_in(folder, prune=prune)
    assert (folder / "codes.h5").read_bytes() == before


def test_a_job_is_shown_in_a_few_lines(folder):
    """The text of a job has its facts, not its images."""
    assert len(repr(listed(folder))) < 3000
    assert "train/red" not in repr(listed(folder))


def test_moved_images_and_failed_ones_need_no_flag(folder):
    """An image under a new name is kept by its bytes; a row that failed has no code to lose."""
    file = folder / "data/val/red/1.png"
    file.write_bytes(file.read_bytes()[:60])
    run(listed(folder))
    unlist(folder, "val/red/1.png")
    table = folder / "data/table.csv"
    (folder / "data/train/red/0.png").rename(folder / "data/moved.png")
    table.write_text(table.read_text().replace("train/red/0.png", "moved.png"))
    job = listed(folder)
    assert (job.remaining.n_dropped, len(job.remaining.copied)) == (1, 26)
    run(job)
    assert open_store(folder / "codes.h5").images.done.all()


def test_pruning_never_removes_everything(folder):
    """A list without any image of the store needs --overwrite, even with --prune."""
    (folder / "other").mkdir()
    a_new_image(folder / "other/1.png")
    with pytest.raises(ExistsError, match=r"27 .*--overwrite"):
        job_in(folder, images=folder / "other", prune=True)


@pytest.mark.usefixtures("one_unsafe_batch")
@pytest.mark.parametrize("layers", [["block1_pool"], LAYERS])
def test_an_interrupted_update_is_not_removed(folder, layers):
    """Codes of an unfinished update are not removed by a run with other images or layers."""
    for i in range(4):
        a_new_image(folder / f"data/new{i}.png", seed=i)
    table = folder / "data/table.csv"
    rows = table.read_text()
    new = "".join(f"new{i}.png,a\n" for i in range(4))
    table.write_text(f"path,label\n{new}{rows[11:]}")
    with pytest.raises(KeyboardInterrupt):
        run(listed(folder, layer=layers, batch_size=2), progress=stop_after(29))
    part = (folder / "codes.h5.part").read_bytes()
    table.write_text(rows + "new3.png,a\n")
    settings = {"layer": "block1_pool" if layers == LAYERS else layers}
    with pytest.raises(ExistsError, match=r"codes\.h5\.part.*--prune"):
        listed(folder, **settings)
    assert (folder / "codes.h5.part").read_bytes() == part
    run(listed(folder, **settings, prune=True))
    assert open_store(folder / "codes.h5").images.done.all()
    assert not (folder / "codes.h5.part").exists()


def test_data_of_other_programs_are_not_removed(folder):
    """A store with further members is resumed in place; an update that loses them is refused."""
    with h5py.File(folder / "codes.h5", "r+") as file:
        file["codes/umap"] = np.zeros((27, 2))
        file["summary"] = "by another program"
    a_new_image(folder / "data/val/red/1.png")
    run(listed(folder))
    assert open_store(folder / "codes.h5").complete
    unlist(folder)
    a_new_image(folder / "data/new.png")
    table = folder / "data/table.csv"
    table.write_text(table.read_text() + "new.png,blue\n")
    with pytest.raises(ExistsError, match=r"summary.*codes/umap.*--prune"):
        listed(folder)
    run(listed(folder, prune=True))
    assert len(open_store(folder / "codes.h5").images) == 28


def test_other_verbs_do_not_remove_codes_either(folder):
    """A sweep and a fine-tuning in their old folder are refused with other images, too."""
    for name, verb, settings in (
        ("sweep", prepare_sweep, {"pool": "avg", "size": 32, "weights": "random:0"}),
        ("tuned", prepare_finetune, {"layer": "block1_pool", "size": 32, "init": "random"}),
    ):
        prepare = partial(verb, folder / "data", output=folder / name, **settings)
        for job in extractions(prepare()):
            run(job)
        with lost(folder / "data/train/red/0.png"):
            assert len([note for note in prepare().notes if "1 image" in note]) == 1
        (folder / name / "split.csv").touch()
        (folder / "data/train/red/0.png").rename(folder / "away.png")
        with pytest.raises(ExistsError, match=r"1 image .*--prune"):
            prepare()
        assert [job.remaining.n_dropped for job in extractions(prepare(prune=True))] == [1]
        (folder / "away.png").rename(folder / "data/train/red/0.png")


@contextmanager
def lost(path):
    """Replace a file by a link that leads nowhere."""
    path.rename(path.with_suffix(".away"))
    path.symlink_to("nowhere")
    yield
    path.unlink()
    path.with_suffix(".away").rename(path)


def extractions(job):
    return [job.extraction] if hasattr(job, "cut") else list(job.extractions.values())


# the command line


def arguments(folder):
    return (
        *("--manifest", folder / "data/table.csv", "-o", folder / "codes.h5"),
        *("--layer", "block1_pool", "--pool", "avg", "--size", 32, "--weights", "random:0"),
    )


def test_the_commands_say_so(folder, request):
    """extract and plan refuse with exit code 1, print a note, and take --prune."""
    command = request.getfixturevalue("run")
    (folder / "data/train/red/0.png").unlink()
    for verb in ("extract", "plan"):
        code, _, err = command(verb, *arguments(folder))
        assert code == 0
        assert (
            len([line for line in err.splitlines() if "note:" in line and "1 image" in line]) == 1
        )
    code, _, err = command("extract", *arguments(folder), "--strict")
    assert code == 1
    assert "featx info --check" in err
    unlist(folder, "train/red/1.png", "train/red/2.png")
    for verb in ("extract", "plan"):
        code, out, err = command(verb, *arguments(folder))
        assert (code, out) == (1, "")
        assert "2 images" in err
        assert "--prune" in err
    assert '"n_dropped": 2' in command("plan", *arguments(folder), "--prune", "--json")[1]
    assert command("extract", *arguments(folder), "--prune")[0] == 0
    store = open_store(folder / "codes.h5")
    assert len(store.images) == 25
    assert (store.images.status == Status.DONE).all()

"""Going on with a store: what is kept, what is copied, what is refused."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from running import MeanColour, job_in, run, stop_after

from featx.errors import BusyError, ExistsError, RecipeMismatchError, StoreError
from featx.extraction import run_extraction
from featx.outputs import sole_writer
from featx.store import Status, create_store, open_store


@pytest.fixture
def folder(image_folder):
    """A folder that holds data/ with 27 images, and their complete store."""
    run(job_in(image_folder.parent))
    return image_folder.parent


def straight_digests(folder, **settings):
    """The digests of a store that is made in one run, elsewhere."""
    job = job_in(folder, output=folder / "straight.h5", overwrite=True, **settings)
    run(job)
    return open_store(folder / "straight.h5").digests()


def a_new_image(path, seed=9):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def names(folder):
    """What lies in the folder."""
    return sorted(path.name for path in folder.iterdir() if path.name != "straight.h5")


def gone_on(folder, **settings):
    """Run the same command again; return the job and how many images the network saw."""
    job = job_in(folder, **settings)
    backbones = []

    def load(recipe):
        backbones.append(Counting(recipe))
        return backbones[-1]

    run_extraction(job, load=load)
    return job, sum(b.n_images for b in backbones)


class Counting(MeanColour):
    """Counts the images that are not padding."""

    n_images = 0

    def __call__(self, images):
        self.n_images += int(images.any(axis=(1, 2, 3)).sum())
        return super().__call__(images)


def test_a_complete_store_has_nothing_to_do(folder):
    """The same command again computes nothing, writes nothing, and says what is there."""
    before = (folder / "codes.h5").stat()
    job, n_computed = gone_on(folder)
    assert job.remaining.is_empty
    assert n_computed == 0
    after = (folder / "codes.h5").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert run(job).n_done == 27


def test_an_edited_image_is_noticed(folder):
    """Only the image whose bytes changed is read again, in place."""
    a_new_image(folder / "data/val/red/1.png")
    job, n_computed = gone_on(folder)
    assert (job.remaining.n_edited, n_computed) == (1, 1)
    assert open_store(job.output).digests() == straight_digests(folder)
    assert names(folder) == ["codes.h5", "data"]


def test_an_image_that_was_mended_is_read(folder):
    """A failed image is read again when its file is another; its old reason goes."""
    file = folder / "data/val/red/1.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:60])
    run(job_in(folder))
    assert open_store(folder / "codes.h5").images.reason.any()
    assert gone_on(folder)[0].remaining.is_empty
    file.write_bytes(whole)
    assert gone_on(folder)[1] == 1
    assert open_store(folder / "codes.h5").digests() == straight_digests(folder)


def test_another_limit_tries_failed_images_again(folder):
    """Images refused for their size are read where the limit is raised."""
    job = job_in(folder, max_pixels=1000, overwrite=True)
    run(job)
    assert (open_store(job.output).images.status == Status.FAILED).all()
    assert gone_on(folder, max_pixels=1000)[1] == 0
    assert gone_on(folder)[1] == 27


def test_images_added_removed_and_renamed(folder):
    """Rows are copied by the bytes of their files; only what is new is computed."""
    data = folder / "data"
    a_new_image(data / "train/blue/00.png")
    (data / "train/red/3.png").unlink()
    (data / "val/green/0.png").rename(data / "train/green/moved.png")
    job, n_computed = gone_on(folder)
    assert n_computed == 1
    assert len(job.remaining.copied) == 26
    assert job.remaining.n_dropped == 1
    assert job.new_bytes == job.n_bytes  # a second copy, for a while
    store = open_store(job.output)
    assert store.complete
    assert store.digests() == straight_digests(folder)
    assert names(folder) == ["codes.h5", "data"]


def test_new_labels_cost_nothing(folder, tmp_path):
    """The same files under other labels, by a table, are all copied; no network is loaded."""
    table = folder / "table.csv"
    paths = [f"data/{path}" for path in open_store(folder / "codes.h5").images.path]
    table.write_text("path,label\n" + "".join(f"{p},{i % 2}\n" for i, p in enumerate(paths)))
    job, n_computed = gone_on(folder, images=None, manifest=table)
    assert n_computed == 0
    assert len(job.remaining.copied) == 27
    store = open_store(job.output)
    assert store.classes == ("0", "1")
    assert store.complete


def test_a_further_layer_is_added(folder):
    """The old layer is copied and the new one computed, alone; the order is a straight run's."""
    layers = ["block1_pool", "block1_conv1"]
    job = job_in(folder, layer=layers)
    seen = []

    def load(recipe):
        seen.append(recipe.layers)
        return MeanColour(recipe)

    a_new_image(folder / "data/train/blue/00.png")
    job = job_in(folder, layer=layers)
    run_extraction(job, load=load)
    assert sorted(seen) == [("block1_conv1",), ("block1_conv1", "block1_pool")]
    assert len(job.remaining.extended) == 27
    assert open_store(job.output).digests() == straight_digests(folder, layer=layers)


@pytest.mark.parametrize("layers", [["block1_pool"], ["block1_conv1", "block1_pool"]])
def test_an_update_that_was_stopped_goes_on(folder, layers):
    """Stopped anywhere, the same command ends with a straight run's store; none is copied twice."""
    data = folder / "data"
    for i in range(5):
        a_new_image(data / f"train/blue/0{i}.png", seed=i)
    digests = straight_digests(folder, layer=layers)
    before = open_store(folder / "codes.h5").digests()
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, layer=layers, batch_size=2), progress=stop_after(29))
    assert names(folder) == ["codes.h5", "codes.h5.part", "data"]
    assert open_store(folder / "codes.h5").digests() == before
    job, n_computed = gone_on(folder, layer=layers, batch_size=2)
    assert job.remaining.resumes
    assert job.remaining.n_kept == 29
    assert n_computed <= 3
    assert open_store(job.output).digests() == digests
    assert names(folder) == ["codes.h5", "data"]


def test_an_update_of_again_other_images_keeps_what_the_part_has(folder):
    """Images added once more while an update was stopped: its rows are copied too."""
    for i in range(5):
        a_new_image(folder / f"data/train/blue/0{i}.png", seed=i)
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, batch_size=2), progress=stop_after(29))
    a_new_image(folder / "data/train/blue/another.png", seed=77)
    job, n_computed = gone_on(folder, batch_size=2)
    assert not job.remaining.resumes
    assert n_computed <= 6 - 2
    assert open_store(job.output).digests() == straight_digests(folder)
    assert names(folder) == ["codes.h5", "data"]


def test_an_incomplete_store_takes_further_images(folder):
    """Images added while the first run was stopped: what it did is copied."""
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, overwrite=True, batch_size=4), progress=stop_after(12))
    a_new_image(folder / "data/train/blue/00.png")
    job, n_computed = gone_on(folder)
    assert n_computed == 28 - 12
    assert open_store(job.output).digests() == straight_digests(folder)


def test_a_part_without_its_store_is_gone_on_with(folder):
    """Who deletes the store during a stopped update loses only what the part lacks."""
    a_new_image(folder / "data/train/blue/00.png")
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, batch_size=4), progress=stop_after(27))
    (folder / "codes.h5").unlink()
    _, n_computed = gone_on(folder)
    assert n_computed <= 1
    assert open_store(folder / "codes.h5").digests() == straight_digests(folder)


def test_a_store_of_other_images_is_not_replaced(folder):
    """If not one image of the store is in the list, it is another data set."""
    shutil.rmtree(folder / "data")
    (folder / "data/a").mkdir(parents=True)
    a_new_image(folder / "data/a/1.png")
    message = (
        f"{folder}/codes.h5 holds 27 other images: none of them is in this list. "
        "Use another -o, or --overwrite to replace it."
    )
    with pytest.raises(ExistsError, match=f"^{re.escape(message)}$"):
        job_in(folder)
    run(job_in(folder, overwrite=True))
    assert len(open_store(folder / "codes.h5").images) == 1


@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_field_by_field(folder, complete):
    """Each setting that differs is named, with the flags that go on with the store."""
    if not complete:
        with pytest.raises(KeyboardInterrupt):
            run(job_in(folder, overwrite=True, batch_size=4), progress=stop_after(4))
    output = folder / "codes.h5"
    cases = [
        (
            {"pool": "max", "size": 64},
            "pool is max, expected avg; size is 64x64, expected 32x32. "
            "Go on with --pool avg --size 32x32, ",
        ),
        (
            {"precision": "bfloat16"},
            "precision is bfloat16, expected float32. Go on with --precision float32, ",
        ),
        ({"jpeg": "full"}, "jpeg is full, expected reduced. Go on with --jpeg reduced, "),
        (
            {"weights": "random:1"},
            "weights is random:1, expected random:0. Go on with --weights random:0, ",
        ),
        # fewer layers, or others: the flags are those that keep what is there
        (
            {"layer": "block1_conv1"},
            "layers is block1_conv1, expected block1_conv1+block1_pool. "
            "Go on with --layer block1_conv1 --layer block1_pool, ",
        ),
    ]
    for settings, words in cases:
        message = (
            f"{output} was made with other settings: {words}or use --overwrite, or another -o."
        )
        with pytest.raises(RecipeMismatchError, match=f"^{re.escape(message)}$"):
            job_in(folder, **settings)


def test_a_foreign_file_is_not_replaced(folder):
    """What is no store is kept unless --overwrite is given."""
    output = folder / "codes.h5"
    output.write_text("precious")
    message = (
        f"{output} exists, and cannot be gone on with. {output} cannot be read as a store: "
        "it is cut short, damaged, or no HDF5 file. Make it again: featx extract --overwrite. "
        "Or use another -o."
    )
    with pytest.raises(ExistsError, match=f"^{re.escape(message)}$"):
        job_in(folder)
    assert output.read_text() == "precious"


def test_two_runs_do_not_write_one_store(folder):
    """While one run has the output, another is refused; afterwards nothing is left of the lock."""
    a_new_image(folder / "data/val/red/1.png")
    job = job_in(folder)
    with sole_writer(job.output), pytest.raises(BusyError, match=re.escape(str(job.output))):
        run(job)
    run(job)
    assert names(folder) == ["codes.h5", "data"]


def test_a_store_that_changed_since_the_look_at_it_is_refused(folder):
    """A job knows what stood there; if that is another by now, it does not write."""
    a_new_image(folder / "data/val/red/1.png")
    job, again = job_in(folder), job_in(folder)
    run(job)
    message = (
        f"{job.output} was changed by another run meanwhile. "
        "Run the same command again: it goes on from there."
    )
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        run(again)


def test_a_file_that_was_replaced_under_the_run_is_said(folder):
    """Whoever moves another file to the output meanwhile does not get it marked complete."""
    job = job_in(folder, overwrite=True, batch_size=9)

    def replace(done, total):
        if done == 9:
            create_store(job.output, job.recipe, job.columns(), {})

    message = f"{job.output} was replaced by another run. Use one -o for each."
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        run(job, progress=replace)


def test_leftovers_of_a_killed_creation_are_removed(folder):
    """Space that a run reserved, and was killed before it gave it a name, is freed by the next."""
    (folder / ".codes.h5.123.tmp").write_bytes(b"x" * 1000)
    (folder / ".codes.h5.part.123.tmp").write_bytes(b"x" * 1000)
    (folder / ".other.h5.123.tmp").write_bytes(b"x")
    a_new_image(folder / "data/val/red/1.png")
    run(job_in(folder))
    assert names(folder) == [".other.h5.123.tmp", "codes.h5", "data"]


def test_overwrite_removes_an_update_that_was_stopped(folder):
    """--overwrite starts from nothing, and leaves nothing of before."""
    a_new_image(folder / "data/train/blue/00.png")
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, batch_size=4), progress=stop_after(27))
    _, n_computed = gone_on(folder, overwrite=True)
    assert n_computed == 28
    assert names(folder) == ["codes.h5", "data"]


def test_a_link_as_output_stays_one(folder):
    """An output that links to another disk: the update is made there."""
    (folder / "elsewhere").mkdir()
    (folder / "codes.h5").rename(folder / "elsewhere/real.h5")
    (folder / "codes.h5").symlink_to(folder / "elsewhere/real.h5")
    a_new_image(folder / "data/train/blue/00.png")
    gone_on(folder)
    assert (folder / "codes.h5").is_symlink()
    assert [p.name for p in (folder / "elsewhere").iterdir()] == ["real.h5"]
    assert len(open_store(folder / "codes.h5").images) == 28


def test_an_image_edited_during_an_extension_is_refused(folder):
    """Old codes of one picture are never joined with new ones of another."""
    job = job_in(folder, layer=["block1_conv1", "block1_pool"])
    a_new_image(folder / "data/val/red/1.png")
    message = "Images were edited while the run went on. Run the same command again."
    with pytest.raises(StoreError, match=f"^{re.escape(message)}$"):
        run(job)
    gone_on(folder, layer=["block1_conv1", "block1_pool"])
    layers = ["block1_conv1", "block1_pool"]
    assert open_store(job.output).digests() == straight_digests(folder, layer=layers)

"""Resuming a store: which rows are kept, copied or computed, and which outputs are refused."""

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
    """A folder with 27 images in data/, and their complete store."""
    run(job_in(image_folder.parent))
    return image_folder.parent


def digests_of_one_run(folder, **settings):
    """Return the digests of a store that one run makes elsewhere."""
    job = job_in(folder, output=folder / "one-run.h5", overwrite=True, **settings)
    run(job)
    return open_store(folder / "one-run.h5").digests()


def a_new_image(path, seed=9):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def names(folder):
    """Return the names of the files in the folder."""
    return sorted(path.name for path in folder.iterdir() if path.name != "one-run.h5")


def resume(folder, **settings):
    """Run the same command again; return the job and the number of computed images."""
    job = job_in(folder, **settings)
    backbones = []

    def load(recipe):
        backbones.append(Counting(recipe))
        return backbones[-1]

    run_extraction(job, load=load)
    return job, sum(b.n_images for b in backbones)


class Counting(MeanColour):
    """Count the images that are not padding."""

    n_images = 0

    def __call__(self, images):
        self.n_images += int(images.any(axis=(1, 2, 3)).sum())
        return super().__call__(images)


def test_a_complete_store_has_nothing_to_do(folder):
    """The same command again computes nothing and writes nothing."""
    before = (folder / "codes.h5").stat()
    job, n_computed = resume(folder)
    assert job.remaining.is_empty
    assert n_computed == 0
    after = (folder / "codes.h5").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert run(job).n_done == 27


def test_an_edited_image_is_noticed(folder):
    """Only the image whose bytes changed is computed again, in place."""
    a_new_image(folder / "data/val/red/1.png")
    job, n_computed = resume(folder)
    assert (job.remaining.n_edited, n_computed) == (1, 1)
    assert open_store(job.output).digests() == digests_of_one_run(folder)
    assert names(folder) == ["codes.h5", "data"]


def test_a_repaired_image_is_read(folder):
    """A failed image is read again after its file changes, and its old reason is removed."""
    file = folder / "data/val/red/1.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:60])
    run(job_in(folder))
    assert open_store(folder / "codes.h5").images.reason.any()
    assert resume(folder)[0].remaining.is_empty
    file.write_bytes(whole)
    assert resume(folder)[1] == 1
    assert open_store(folder / "codes.h5").digests() == digests_of_one_run(folder)


def test_another_pixel_limit_retries_failed_images(folder):
    """Images above the limit are read after it is raised."""
    job = job_in(folder, max_pixels=1000, overwrite=True)
    run(job)
    assert (open_store(job.output).images.status == Status.FAILED).all()
    assert resume(folder, max_pixels=1000)[1] == 0
    assert resume(folder)[1] == 27


def test_images_added_removed_and_renamed(folder):
    """Rows are copied by the bytes of their files; only new images are computed."""
    data = folder / "data"
    a_new_image(data / "train/blue/00.png")
    (data / "train/red/3.png").unlink()
    (data / "val/green/0.png").rename(data / "train/green/moved.png")
    job, n_computed = resume(folder, prune=True)
    assert n_computed == 1
    assert len(job.remaining.copied) == 26
    assert job.remaining.n_dropped == 1
    assert job.new_bytes == job.n_bytes  # the second copy exists until the run ends
    store = open_store(job.output)
    assert store.complete
    assert store.digests() == digests_of_one_run(folder)
    assert names(folder) == ["codes.h5", "data"]


def test_new_labels_cost_nothing(folder):
    """Files with other labels, from a manifest, are all copied; no network is loaded."""
    table = folder / "table.csv"
    paths = [f"data/{path}" for path in open_store(folder / "codes.h5").images.path]
    table.write_text("path,label\n" + "".join(f"{p},{i % 2}\n" for i, p in enumerate(paths)))
    job, n_computed = resume(folder, images=None, manifest=table)
    assert n_computed == 0
    assert len(job.remaining.copied) == 27
    store = open_store(job.output)
    assert store.classes == ("0", "1")
    assert store.complete


def test_a_layer_is_added(folder):
    """The old layer is copied and only the new one is computed; the order is that of one run."""
    layers = ["block1_pool", "block1_conv1"]
    seen = []

    def load(recipe):
        seen.append(recipe.layers)
        return MeanColour(recipe)

    a_new_image(folder / "data/train/blue/00.png")
    job = job_in(folder, layer=layers)
    run_extraction(job, load=load)
    assert sorted(seen) == [("block1_conv1",), ("block1_conv1", "block1_pool")]
    assert len(job.remaining.extended) == 27
    assert open_store(job.output).digests() == digests_of_one_run(folder, layer=layers)


@pytest.mark.usefixtures("one_unsafe_batch")
@pytest.mark.parametrize("layers", [["block1_pool"], ["block1_conv1", "block1_pool"]])
def test_an_interrupted_update_resumes(folder, layers):
    """The same command ends with the store of one run, and copies no row twice."""
    data = folder / "data"
    for i in range(5):
        a_new_image(data / f"train/blue/0{i}.png", seed=i)
    digests = digests_of_one_run(folder, layer=layers)
    before = open_store(folder / "codes.h5").digests()
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, layer=layers, batch_size=2), progress=stop_after(29))
    assert names(folder) == ["codes.h5", "codes.h5.part", "data"]
    assert open_store(folder / "codes.h5").digests() == before
    job, n_computed = resume(folder, layer=layers, batch_size=2)
    assert job.remaining.resumes
    assert job.remaining.n_kept == 29
    assert n_computed <= 3
    assert open_store(job.output).digests() == digests
    assert names(folder) == ["codes.h5", "data"]


@pytest.mark.usefixtures("one_unsafe_batch")
def test_an_interrupted_update_gets_more_images(folder):
    """Rows of the unfinished update are copied too."""
    for i in range(5):
        a_new_image(folder / f"data/train/blue/0{i}.png", seed=i)
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, batch_size=2), progress=stop_after(29))
    a_new_image(folder / "data/train/blue/another.png", seed=77)
    job, n_computed = resume(folder, batch_size=2)
    assert not job.remaining.resumes
    assert n_computed <= 6 - 2
    assert open_store(job.output).digests() == digests_of_one_run(folder)
    assert names(folder) == ["codes.h5", "data"]


@pytest.mark.usefixtures("one_unsafe_batch")
def test_an_incomplete_store_gets_more_images(folder):
    """Finished rows of the first run are copied."""
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, overwrite=True, batch_size=4), progress=stop_after(12))
    a_new_image(folder / "data/train/blue/00.png")
    job, n_computed = resume(folder)
    assert n_computed == 28 - 12
    assert open_store(job.output).digests() == digests_of_one_run(folder)


@pytest.mark.usefixtures("one_unsafe_batch")
def test_a_part_without_its_store_is_resumed(folder):
    """If the store is deleted during an update, only the missing rows are computed."""
    a_new_image(folder / "data/train/blue/00.png")
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, batch_size=4), progress=stop_after(27))
    (folder / "codes.h5").unlink()
    _, n_computed = resume(folder)
    assert n_computed <= 1
    assert open_store(folder / "codes.h5").digests() == digests_of_one_run(folder)


def test_a_store_of_other_images_is_not_replaced(folder):
    """A store is not replaced if none of its images is in the list."""
    shutil.rmtree(folder / "data")
    (folder / "data/a").mkdir(parents=True)
    a_new_image(folder / "data/a/1.png")
    with pytest.raises(ExistsError, match=rf"{folder}/codes\.h5.* 27 .*-o.*--overwrite"):
        job_in(folder)
    run(job_in(folder, overwrite=True))
    assert len(open_store(folder / "codes.h5").images) == 1


@pytest.mark.usefixtures("one_unsafe_batch")
@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_field_by_field(folder, complete):
    """Each setting that differs is named, with the flags that resume the store."""
    if not complete:
        with pytest.raises(KeyboardInterrupt):
            run(job_in(folder, overwrite=True, batch_size=4), progress=stop_after(4))
    cases = [
        ({"pool": "max", "size": 64}, "pool", "--pool avg --size 32x32"),
        ({"precision": "bfloat16"}, "precision", "--precision float32"),
        ({"jpeg": "full"}, "jpeg", "--jpeg reduced"),
        ({"weights": "random:1"}, "weights", "--weights random:0"),
        # With fewer layers or others, the flags keep the existing layers.
        ({"layer": "block1_conv1"}, "layers", "--layer block1_conv1 --layer block1_pool"),
    ]
    for settings, name, flags in cases:
        with pytest.raises(RecipeMismatchError) as caught:
            job_in(folder, **settings)
        for fact in (folder / "codes.h5", name, flags, "--overwrite", "-o"):
            assert str(fact) in str(caught.value)


def test_another_file_is_not_replaced(folder):
    """A file that is not a store is kept, unless --overwrite is given."""
    output = folder / "codes.h5"
    output.write_text("precious")
    with pytest.raises(ExistsError, match=rf"{output}.*--overwrite.*-o"):
        job_in(folder)
    assert output.read_text() == "precious"


def test_two_runs_do_not_write_one_store(folder):
    """A second run on the same output is refused, and the lock is removed afterwards."""
    a_new_image(folder / "data/val/red/1.png")
    job = job_in(folder)
    with sole_writer(job.output), pytest.raises(BusyError, match=f"{job.output}.*-o"):
        run(job)
    run(job)
    assert names(folder) == ["codes.h5", "data"]


def test_a_store_that_changed_since_the_job_was_prepared_is_refused(folder):
    """A job writes nothing if another run has changed its output."""
    a_new_image(folder / "data/val/red/1.png")
    job, again = job_in(folder), job_in(folder)
    run(job)
    with pytest.raises(StoreError, match=str(job.output)):
        run(again)


def test_a_file_that_was_replaced_during_the_run_is_an_error(folder):
    """Another file that is moved to the output during a run is not marked complete."""
    job = job_in(folder, overwrite=True, batch_size=9)

    def replace(done, total):
        if done == 9:
            create_store(job.output, job.recipe, job.columns(), {})

    with pytest.raises(StoreError, match=f"{job.output}.*-o"):
        run(job, progress=replace)
    assert not open_store(job.output).complete


def test_leftovers_of_killed_runs_are_removed(folder):
    """Also by a run that completes a store in place, and creates no file."""
    run(job_in(folder))
    a_new_image(folder / "data/val/red/1.png")
    for name in ("codes.h5", "codes.h5.part", "scores.csv"):
        (folder / f".{name}.featx-0123456789ab.tmp").touch()
    assert job_in(folder).remaining.resumes
    run(job_in(folder))
    assert names(folder) == ["codes.h5", "data"]


@pytest.mark.usefixtures("one_unsafe_batch")
def test_overwrite_removes_an_interrupted_update(folder):
    """--overwrite starts over and removes the unfinished update."""
    a_new_image(folder / "data/train/blue/00.png")
    with pytest.raises(KeyboardInterrupt):
        run(job_in(folder, batch_size=4), progress=stop_after(27))
    _, n_computed = resume(folder, overwrite=True)
    assert n_computed == 28
    assert names(folder) == ["codes.h5", "data"]


def test_an_output_that_is_a_link_stays_one(folder):
    """An update is built next to the file that the link leads to."""
    (folder / "elsewhere").mkdir()
    (folder / "codes.h5").rename(folder / "elsewhere/real.h5")
    (folder / "codes.h5").symlink_to(folder / "elsewhere/real.h5")
    a_new_image(folder / "data/train/blue/00.png")
    resume(folder)
    assert (folder / "codes.h5").is_symlink()
    assert [p.name for p in (folder / "elsewhere").iterdir()] == ["real.h5"]
    assert len(open_store(folder / "codes.h5").images) == 28


def test_an_image_edited_during_an_extension_is_refused(folder):
    """Old codes of one image are never joined with new codes of another."""
    job = job_in(folder, layer=["block1_conv1", "block1_pool"])
    a_new_image(folder / "data/val/red/1.png")
    with pytest.raises(StoreError, match="edited"):
        run(job)
    resume(folder, layer=["block1_conv1", "block1_pool"])
    layers = ["block1_conv1", "block1_pool"]
    assert open_store(job.output).digests() == digests_of_one_run(folder, layer=layers)

"""Fit, sweep and predict on a cluster give the same results as one process."""

import dataclasses
import json
from functools import partial

import numpy as np
import pandas as pd
import pytest

import featx
from featx.cluster import Cluster, Task, run_tasks
from featx.codes import products
from featx.codes.matrix import CodeMatrix
from featx.codes.products import gram_matrix, gram_on_cluster
from featx.errors import ClusterError, ImagesError, OptionError
from featx.extraction import executors, prepare_extraction, run_extractions
from featx.fitting import prepare_fit, run_fit
from featx.fitting.grid_search import SearchSpace
from featx.fitting.sgd import fit_streamed
from featx.workflows import (
    prepare_prediction,
    prepare_sweep,
    run_prediction,
    run_sweep,
)
from featx.workflows.predicting import classifying

pytest.importorskip("distributed", reason="no cluster: pip install 'featx[cluster]'")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TINY = {"layer": "block2_pool", "size": 32, "weights": "random:0"}


@pytest.fixture(scope="module")
def threads():
    """Return a cluster whose two workers are threads of this process."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as local,
        Client(local) as client,
    ):
        yield Cluster(client, "threads")


@pytest.fixture(scope="module")
def home(tmp_path_factory, make_image_folder):
    """Return a folder of 27 images and their codes."""
    home = tmp_path_factory.mktemp("home")
    make_image_folder(home / "data")
    featx.extract(home / "data", output=home / "codes.h5", **TINY)
    return home


@pytest.fixture
def mapped(tmp_path):
    """Return some rows of codes of two layers, wider than a block of columns."""
    rng = np.random.default_rng(0)
    layers = []
    for name, shape, dtype in (("a", (50, 5000), np.float32), ("b", (50, 300), np.float16)):
        made = np.memmap(tmp_path / name, dtype, "w+", offset=4096, shape=shape)
        made[...] = rng.standard_normal(shape)
        layers.append(np.memmap(tmp_path / name, dtype, "r", 4096, shape))
    return CodeMatrix(layers, rng.permutation(50)[:37])


# codes


def test_memory_mapped_codes_are_pickled_as_references(mapped):
    """Pickled codes refer to the file, with any rows and any offset."""
    import pickle

    packed = pickle.dumps(mapped)
    assert len(packed) < 3000
    found = pickle.loads(packed)
    assert isinstance(found.layers[0], np.memmap)
    assert np.array_equal(found.block(np.arange(37)), mapped.block(np.arange(37)))
    part = CodeMatrix([mapped.layers[0][7:]], np.arange(43))
    again = pickle.loads(pickle.dumps(part))
    assert np.array_equal(again.layers[0], mapped.layers[0][7:])
    in_memory = mapped.in_memory()
    assert np.array_equal(pickle.loads(pickle.dumps(in_memory)).layers[1], in_memory.layers[1])
    assert in_memory.files == ()


# the Gram matrix


@pytest.mark.parametrize(
    ("layer", "root", "rows"), [(0, False, 5), (0, True, 8), (1, False, 64), (1, True, 5)]
)
def test_gram_by_tiles_equals_gram_by_one_process(mapped, threads, monkeypatch, layer, root, rows):
    """The Gram matrix computed in tiles equals that of one process."""
    monkeypatch.setattr(products, "_FEWEST", rows)
    monkeypatch.setattr(products, "_MOST", rows)
    given = counted_tasks(monkeypatch)
    expected = gram_matrix(mapped, layer, root=root)
    found = gram_on_cluster(threads, mapped, layer, root=root)
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()
    assert np.array_equal(found, found.T)
    n_blocks = -(-37 // rows)
    assert len(given) == n_blocks * (n_blocks + 1) / 2


def counted_tasks(monkeypatch):
    """Return a list that gets an item for each task."""
    own, seen = products.run_tasks, []
    monkeypatch.setattr(
        products, "run_tasks",
        lambda cluster, tasks, **rest: own(cluster, (seen.append(t) or t for t in tasks), **rest),
    )  # fmt: skip
    return seen


def test_each_worker_gets_several_tiles():
    """There are several tiles for each worker, and none is too large."""
    for n_workers in (1, 2, 10, 100):
        blocks = products._blocks(20_000, n_workers)
        n_tiles = len(blocks) * (len(blocks) + 1) / 2
        assert n_tiles >= 0.8 * products._TILES_PER_WORKER * n_workers
        assert max(len(block) for block in blocks) <= products._MOST
        assert np.array_equal(np.concatenate(blocks), np.arange(20_000))
    assert len(products._blocks(100, 50)) == 1


@pytest.mark.parametrize("clf", ["logistic", "knn", "ridge"])
def test_a_fit_on_a_cluster_equals_a_fit_in_one_process(home, threads, monkeypatch, clf):
    """A classifier fitted on a cluster has the same predictions and scores."""
    monkeypatch.setattr(products, "_FEWEST", 8)
    jobs = [prepare_fit(home / "codes.h5", clf=clf, solver="gram", baselines=False) for _ in "12"]
    calls = counted_tasks(monkeypatch)
    here = run_fit(jobs[0])
    assert not calls
    there = run_fit(jobs[1], cluster=threads)
    assert len(calls) > 3
    codes = jobs[0].joined.matrix(np.arange(27)).block(np.arange(27))
    expected, found = (each.model.predict_proba(codes) for each in (here, there))
    assert np.allclose(found, expected, rtol=0, atol=1e-9)
    for each in (here, there):
        each.to_dict().update(seconds=0, gflops=0)
    same = json.loads(json.dumps(here.to_dict()), parse_float=lambda x: round(float(x), 6))
    assert json.loads(json.dumps(there.to_dict()), parse_float=lambda x: round(float(x), 6)) == same


# the streamed solver


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_streamed_solver_is_exact_on_a_cluster(mapped, threads, n_classes):
    """The streamed solver gives bit-identical probabilities on a cluster."""
    from featx.fitting.classifiers import CLASSIFIERS

    y = np.array([f"c{k % n_classes}" for k in range(37)])
    options = SearchSpace((CLASSIFIERS["logistic"],), penalties=(1.0, 100.0))
    given = (mapped, y, np.arange(37), options, "temperature")
    here, there = fit_streamed(*given), fit_streamed(*given, cluster=threads)
    block = mapped.block(np.arange(37))
    assert np.array_equal(there.pipeline.predict_proba(block), here.pipeline.predict_proba(block))
    assert (there.tried, there.n_epochs) == (here.tried, here.n_epochs)


# extraction of several stores, and the sweep


def test_several_stores_in_one_pass(home, threads, tmp_path, monkeypatch):
    """Several stores extracted in one pass on a cluster equal those of one process."""
    monkeypatch.setattr(executors, "_MIN_CHUNK", 8)
    outputs = {}
    for where, cluster in (("here", None), ("there", threads)):
        (tmp_path / where).mkdir()
        jobs = [
            prepare_extraction(
                home / "data", output=tmp_path / where / f"{pool}.h5", batch_size=4,
                **{**TINY, "layer": layers, "pool": pool},
            )
            for pool, layers in (("avg", ["block1_pool", "block2_pool"]), ("max", ["block1_pool"]))
        ]  # fmt: skip
        made = run_extractions(jobs, cluster=cluster)
        outputs[where] = [featx.open_store(each.path).digests() for each in made]
    assert outputs["there"] == outputs["here"]


@pytest.mark.slow
def test_a_sweep_on_a_cluster_equals_a_sweep_in_one_process(home, threads, tmp_path):
    """A sweep on a cluster has the same rows and the same final accuracy."""
    found = {}
    for where, cluster in (("here", None), ("there", threads)):
        job = prepare_sweep(
            home / "data", output=tmp_path / where, layer=["block1_pool", "block2_pool"],
            pool="none", size=32, weights="random:0", clf="centroid",
        )  # fmt: skip
        found[where] = run_sweep(job, cluster=cluster)
    rows = [
        [(row.layers, row.pool, row.accuracy, row.balanced_accuracy) for row in each.rows]
        for each in found.values()
    ]
    assert rows[0] == rows[1]
    assert found["there"].final.evaluation.accuracy == found["here"].final.evaluation.accuracy


# predictions


@pytest.fixture(scope="module")
def model(home):
    featx.fit(home / "codes.h5", output=home / "model.skops", baselines=False)
    featx.fit(home / "codes.h5", clf="knn", output=home / "knn.skops", baselines=False)
    return home


@pytest.mark.parametrize("name", ["model.skops", "knn.skops"])
def test_predictions_are_in_order(model, threads, tmp_path, monkeypatch, name):
    """Predictions have the order of the images, and a damaged image has no label."""
    import time

    monkeypatch.setattr(classifying, "_IMAGES_PER_TASK", 1)
    (tmp_path / "bad.png").write_bytes(b"no image")
    own = classifying._classified
    monkeypatch.setattr(
        classifying, "_classified",
        lambda *given: time.sleep(0.3 if given[4:] == (0,) else 0) or own(*given),
    )  # fmt: skip
    monkeypatch.setattr(classifying, "settle_batch_size", lambda *given: 3)
    inputs = [model / "data", tmp_path / "bad.png"]
    expected = featx.predict(inputs, model=model / name)
    job = prepare_prediction(inputs, model=model / name, output=tmp_path / "found.csv")
    seen = []
    job = dataclasses.replace(job, progress=lambda *each: seen.append(each))
    found = pd.concat(run_prediction(job, cluster=threads), ignore_index=True)
    assert seen == [(k, 28) for k in (*range(3, 28, 3), 28)]
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    assert found["label"].isna().sum() == 1
    written = pd.read_csv(tmp_path / "found.csv")
    assert written["path"].tolist() == expected["path"].tolist()


def test_only_damaged_images_are_an_error(model, threads, tmp_path):
    """If no image can be read, prediction on a cluster is an error."""
    (tmp_path / "bad.png").write_bytes(b"no image")
    job = prepare_prediction(tmp_path / "bad.png", model=model / "model.skops")
    with pytest.raises(ImagesError, match=r"bad\.png"):
        list(run_prediction(job, cluster=threads))


def test_stores_are_not_classified_on_a_cluster(model, threads):
    """A store as input is refused with a cluster."""
    job = prepare_prediction(model / "codes.h5", model=model / "model.skops")
    with pytest.raises(OptionError, match=r"codes\.h5.*--cluster"):
        list(run_prediction(job, cluster=threads))


# tasks


def _negative(number):
    return -number


def test_each_task_is_completed_once(threads):
    """Each task has one result, and no tasks have no results."""
    tasks = [Task(partial(_negative, k), f"Number {k}") for k in range(50)]
    found = list(run_tasks(threads, iter(tasks), advice=""))
    assert sorted(found) == [(k, -k) for k in range(50)]
    assert list(run_tasks(threads, [], advice="")) == []


def test_a_failed_task_is_named(threads):
    """The error of a failed task holds its name, the cause and the advice."""
    tasks = [Task(partial(_negative, "x"), "Number x")]
    with pytest.raises(ClusterError, match=r"Number x .*TypeError: .*K\.$"):
        list(run_tasks(threads, tasks, advice="K."))


def test_all_gpus_are_a_cluster_of_this_machine(monkeypatch):
    """With --device gpu:all and several GPUs, each GPU gets a worker."""
    from featx.cli.console import place
    from featx.cluster.connecting import _environments
    from featx.network import devices

    for n_gpus, expected in ((0, None), (1, None), (4, "gpus:4")):
        monkeypatch.setattr(devices, "count_gpus", lambda n=n_gpus: n)
        assert place("gpu:all", None) == ("gpu", expected)
    assert place("gpu:1", "local:2") == ("gpu:1", "local:2")
    with pytest.raises(OptionError, match="gpu:all"):
        place("gpu:all", "local:2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in _environments("gpus", 3)] == ["0", "1", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    assert [each["CUDA_VISIBLE_DEVICES"] for each in _environments("gpus", 2)] == ["2", "5"]


@pytest.mark.slow
def test_gpus_are_counted_in_another_process():
    """The machine of the tests has no GPU."""
    from featx.network.devices import count_gpus

    assert count_gpus() == 0  # where tests run


@pytest.mark.slow
def test_the_commands_on_two_workers(home, tmp_path, run):
    """The commands fit and predict give the same predictions with --cluster local:2."""
    code, _, err = run(
        "fit", home / "codes.h5", "--solver", "gram", "--cluster", "local:2", "-o",
        tmp_path / "there.skops",
    )  # fmt: skip
    assert code == 0, err
    assert "local:2: 2 workers" in err
    code, _, err = run("fit", home / "codes.h5", "--solver", "gram", "-o", tmp_path / "here.skops")
    assert code == 0, err
    tables = []
    for name, more in (("here", []), ("there", ["--cluster", "local:2"])):
        code, out, err = run(
            "predict", home / "data", "--model", tmp_path / f"{name}.skops", "-o",
            tmp_path / f"{name}.csv", *more,
        )  # fmt: skip
        assert code == 0, err
        assert "27 predictions" in out
        tables.append(pd.read_csv(tmp_path / f"{name}.csv"))
    pd.testing.assert_frame_equal(tables[1], tables[0], rtol=1e-8)

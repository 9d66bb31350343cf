"""A cluster leaves the store that one process leaves, whatever happens to its workers."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest

import featx
from featx.cluster import Cluster, connected, connecting
from featx.cluster import tasks as giving
from featx.errors import ClusterError, OptionError, StoreError
from featx.extraction import executors, prepare_extraction, run_extraction
from featx.store import Status, open_store

pytest.importorskip("distributed", reason="no cluster: pip install 'featx[cluster]'")

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TINY = {"layer": ["block1_pool", "block2_pool"], "pool": "avg", "size": 32, "weights": "random:0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_image_folder):
    """27 pictures and one bad one, and the store of one process."""
    home = tmp_path_factory.mktemp("home")
    make_image_folder(home / "data")
    (home / "data/train/red/bad.png").write_bytes(b"no image")
    featx.extract(home / "data", output=home / "straight.h5", batch_size=4, **TINY)
    return home


@pytest.fixture(scope="module")
def threads():
    """A cluster whose two workers are threads of this process."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0",
        ) as local,
        Client(local) as client,
    ):  # fmt: skip
        yield Cluster(client, "threads")


def job_of(folder, output, **changes):
    return prepare_extraction(
        folder / "data", output=output, **{"batch_size": 4, **TINY, **changes}
    )


def assert_same(path, folder):
    assert open_store(path).digests() == open_store(folder / "straight.h5").digests()


def test_the_store_is_that_of_one_process(folder, threads, tmp_path, monkeypatch):
    """Bad image included; chunks are whole batches, and progress comes once for each."""
    monkeypatch.setattr(executors, "_MIN_CHUNK", 8)
    seen = []
    made = run_extraction(
        job_of(folder, tmp_path / "codes.h5", progress=lambda *each: seen.append(each)),
        cluster=threads,
    )
    assert (made.n_done, made.n_failed, made.n_computed) == (27, 1, 28)
    assert_same(made.path, folder)
    done = [n for n, _ in seen]
    assert done == sorted(done)
    assert (done[-1], len(done), seen[0][1]) == (28, 4, 28)


def test_a_run_goes_on_and_layers_are_added(folder, threads, tmp_path, monkeypatch):
    """What an earlier run has is kept: rows in place, other layers copied by the worker."""
    featx.extract(
        folder / "data",
        output=tmp_path / "codes.h5",
        batch_size=4,
        **{**TINY, "layer": "block1_pool"},
    )
    run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert_same(tmp_path / "codes.h5", folder)
    with_one = folder / "straight.h5"
    (tmp_path / "again.h5").write_bytes(with_one.read_bytes())
    from featx.store import StoreWriter

    with StoreWriter(tmp_path / "again.h5") as writer:
        writer.mark_pending(np.arange(5, 20))
    job = job_of(folder, tmp_path / "again.h5")
    assert job.n_to_compute == 15
    run_extraction(job, cluster=threads)
    assert_same(tmp_path / "again.h5", folder)


def test_an_error_of_a_worker_is_this_run_s_error(folder, threads, tmp_path, monkeypatch):
    """In its words; what is done stays done."""
    own = executors.fill_rows

    def fails(part, *rest):
        if 20 in part.rows:
            message = "The disk of this worker is full."
            raise StoreError(message)
        return own(part, *rest)

    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(executors, "fill_rows", fails)
    with pytest.raises(ClusterError, match=r"^The disk of this worker is full\.$"):
        run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    status = open_store(tmp_path / "codes.h5").images.status
    assert (status != Status.PENDING).any()
    assert status[20] == Status.PENDING
    monkeypatch.setattr(executors, "fill_rows", own)
    run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert_same(tmp_path / "codes.h5", folder)


def test_a_slow_worker_does_not_hold_the_end_up(folder, threads, tmp_path, monkeypatch):
    """Its chunk is given to another as well, and the first to end counts."""
    own, first, ended = executors.fill_rows, [], threading.Event()

    def slow_at_first(part, *rest):
        if 24 in part.rows and not first:
            first.append(part.rows)
            ended.wait(60)
        return own(part, *rest)

    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(giving, "_SECONDS_BETWEEN_LOOKS", 0.05)
    monkeypatch.setattr(executors, "fill_rows", slow_at_first)
    began = time.monotonic()
    run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    ended.set()
    assert first
    assert time.monotonic() - began < 40
    assert_same(tmp_path / "codes.h5", folder)


def test_rows_that_did_not_arrive_are_an_error(folder, threads, tmp_path, monkeypatch):
    """As on a file system that loses what another machine wrote beside it."""
    own = executors.fill_rows

    def loses(part, *rest):
        writers = rest[4]
        yield from own(part, *rest)
        if 9 in part.rows:
            writers[0].mark_pending(np.array([9]))

    monkeypatch.setattr(executors, "fill_rows", loses)
    with pytest.raises(StoreError, match="1 of 28 rows"):
        run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    monkeypatch.setattr(executors, "fill_rows", own)
    run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert_same(tmp_path / "codes.h5", folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"error": "No such device: gpu."}, "No such device: gpu."),
        ({"weights": "0123456789abcdef"}, "0123456789ab"),
    ],
)
def test_workers_that_would_make_another_store_are_refused(
    folder, threads, tmp_path, monkeypatch, change, words
):
    own = executors._describe
    monkeypatch.setattr(executors, "_describe", lambda *given: own(*given) | change)
    with pytest.raises(OptionError, match=re.escape(words)):
        run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert not (tmp_path / "codes.h5").exists()


@pytest.mark.parametrize(
    ("found", "words"),
    [(("0.0", []), "has featx 0.0"), ((featx.__version__, ["codes.h5"]), "does not see codes.h5")],
)
def test_workers_of_another_featx_or_without_the_files_are_refused(
    folder, threads, tmp_path, monkeypatch, found, words
):
    monkeypatch.setattr(connecting, "_describe", lambda paths: found)
    with pytest.raises(OptionError, match=re.escape(words)):
        run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert not (tmp_path / "codes.h5").exists()
    assert not list(tmp_path.glob("*.seen")) + list(tmp_path.glob(".*.seen"))


@pytest.mark.parametrize(
    "name", ["", "local", "local:0", "local:-1", "local:two", "http://x", "tcp"]
)
def test_no_such_cluster(name):
    with (
        pytest.raises(OptionError, match=r"^No such cluster: .*Expected --cluster local:N"),
        connected(name),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch):
    monkeypatch.setattr(connecting, "_SECONDS_TO_CONNECT", 0.5)
    with (
        pytest.raises(OptionError, match=r"^No scheduler answers at tcp://127\.0\.0\.1:9"),
        connected("tcp://127.0.0.1:9"),
    ):
        pass


# processes


@pytest.mark.slow
def test_a_worker_that_is_killed_and_one_that_joins_late(folder, tmp_path, monkeypatch):
    """SIGKILL in mid-run, and a third worker: the store is that of one process."""
    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(giving, "_SECONDS_BETWEEN_LOOKS", 0.05)
    told = []
    with connected("local:2", told.append) as cluster:
        local = cluster.client.cluster
        pids = cluster.client.run(os.getpid)

        def after_each(done, total):
            if len(told) == 0:
                told.append("killed")
                os.kill(next(iter(pids.values())), signal.SIGKILL)
                local.scale(3)

        run_extraction(job_of(folder, tmp_path / "codes.h5", progress=after_each), cluster=cluster)
    assert_same(tmp_path / "codes.h5", folder)
    assert any(" before" in each for each in told)


@pytest.mark.slow
def test_a_cluster_that_loses_all_its_workers_is_said(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(giving, "_SECONDS_WITHOUT_WORKERS", 1)
    with connected("local:1") as cluster:
        local = cluster.client.cluster
        with pytest.raises(ClusterError, match=r"^local:1 has had no worker for 1 s\."):
            run_extraction(
                job_of(folder, tmp_path / "codes.h5", progress=lambda done, total: local.scale(0)),
                cluster=cluster,
            )
    assert (open_store(tmp_path / "codes.h5").images.status != Status.PENDING).any()


@pytest.mark.slow
def test_a_scheduler_that_is_lost_leaves_what_is_done(folder, tmp_path, monkeypatch):
    """It is said within seconds; Dask itself would try for half a minute to reach it."""
    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    lost = []
    with connected("local:1") as cluster:
        local = cluster.client.cluster

        def after_each(done, total):
            local.loop.add_callback(local.scheduler.close)
            lost.append(time.monotonic())
            time.sleep(1)

        with pytest.raises(ClusterError, match="scheduler is gone"):
            run_extraction(
                job_of(folder, tmp_path / "codes.h5", progress=after_each), cluster=cluster
            )
    assert time.monotonic() - lost[0] < 15
    assert (open_store(tmp_path / "codes.h5").images.status != Status.PENDING).any()
    featx.extract(folder / "data", output=tmp_path / "codes.h5", batch_size=4, **TINY)
    assert_same(tmp_path / "codes.h5", folder)


@pytest.mark.slow
def test_a_scheduler_that_is_killed_is_said_within_seconds(tmp_path):
    """Whether the client learns of it first, or a question that is on its way."""
    file = tmp_path / "scheduler.json"
    own = [f"--scheduler-file={file}", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "distributed.cli.dask_scheduler",
            *own,
            "--host=127.0.0.1",
            "--port=0",
        ],
        stderr=subprocess.DEVNULL,
    )
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", *own,
         "--host=127.0.0.1", "--nthreads=1", "--no-nanny"],
        stderr=subprocess.DEVNULL, cwd=tmp_path,
    )  # fmt: skip
    try:
        while not file.exists():
            time.sleep(0.1)
        with connected(f"file:{file}") as cluster:
            cluster.client.wait_for_workers(1, timeout=30)
            tasks = [giving.Task(partial(time.sleep, 0.1), f"Task {k}") for k in range(500)]
            done = giving.given_out(cluster, tasks, kept="Kept.")
            next(done)
            scheduler.kill()
            killed = time.monotonic()
            with pytest.raises(ClusterError, match=r"^The cluster's scheduler is gone.* Kept\.$"):
                list(done)
        assert time.monotonic() - killed < 10
    finally:
        for each in (scheduler, worker):
            each.kill()
            each.wait()


@pytest.mark.slow
def test_the_verb_on_two_workers(folder, tmp_path, run):
    code, out, err = run(
        "extract", folder / "data", "--layer", "block1_pool", "--layer", "block2_pool", "--pool",
        "avg", "--size", "32", "--weights", "random:0", "--batch-size", "4", "-o",
        tmp_path / "codes.h5", "--cluster", "local:2",
    )  # fmt: skip
    assert code == 0, err
    assert "cluster local:2: 2 workers, dashboard http://127.0.0.1:" in err
    assert "codes of 27 images" in out
    assert_same(tmp_path / "codes.h5", folder)

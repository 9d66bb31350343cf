"""Extraction on a cluster gives the same store as one process, even if workers die."""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import psutil
import pytest

import featx
from featx.cluster import Cluster, connect, connecting
from featx.cluster import tasks as cluster_tasks
from featx.errors import ClusterError, OptionError, StoreError
from featx.extraction import executors, prepare_extraction, run_extraction
from featx.store import Status, open_store

distributed = pytest.importorskip("distributed", reason="no cluster: pip install 'featx[cluster]'")
dask = pytest.importorskip("dask")
Security = distributed.Security

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TINY = {"layer": ["block1_pool", "block2_pool"], "pool": "avg", "size": 32, "weights": "random:0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_image_folder):
    """Return a folder of 27 images, one damaged image, and a store made by one process."""
    home = tmp_path_factory.mktemp("home")
    make_image_folder(home / "data")
    (home / "data/train/red/bad.png").write_bytes(b"no image")
    featx.extract(home / "data", output=home / "straight.h5", batch_size=4, **TINY)
    return home


@pytest.fixture(scope="module")
def threads():
    """Return a cluster whose two workers are threads of this process."""
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


def assert_close(path, folder):
    """Processes of another number of threads may use kernels that round in another way."""
    made, straight = open_store(path), open_store(folder / "straight.h5")
    found, expected = made.digests(), straight.digests()
    assert (found["recipe"], found["images"]) == (expected["recipe"], expected["images"])
    done = made.images.done
    for layer in made.recipe.layers:
        codes, others = made.codes(layer)[done], straight.codes(layer)[done]
        np.testing.assert_allclose(codes, others, rtol=1e-5, atol=1e-5)


def test_the_store_is_that_of_one_process(folder, threads, tmp_path, monkeypatch):
    """The store includes the damaged image, and progress is reported once for each chunk."""
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


def test_a_run_resumes_and_layers_are_added(folder, threads, tmp_path, monkeypatch):
    """Rows of an earlier run are kept, and other layers are copied by the worker."""
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


def test_a_run_that_only_copies_needs_no_worker(image_folder, threads, tmp_path):
    """An image with another name is copied, with a cluster as without one."""
    featx.extract(image_folder, output=tmp_path / "codes.h5", batch_size=4, **TINY)
    (image_folder / "val/red/0.png").rename(image_folder / "val/red/renamed.png")
    job = prepare_extraction(image_folder, output=tmp_path / "codes.h5", **TINY)
    assert (job.n_to_compute, len(job.remaining.copied)) == (0, 27)
    run_extraction(job, cluster=threads)
    assert open_store(tmp_path / "codes.h5").complete


def test_an_error_on_a_worker_is_raised(folder, threads, tmp_path, monkeypatch):
    """The message is that of the worker, and rows that are done are kept."""
    own = executors.fill_rows

    def fails(part, *rest):
        if 20 in part.rows:
            message = "The disk of this worker is full."
            raise StoreError(message)
        return own(part, *rest)

    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(executors, "fill_rows", fails)
    with pytest.raises(ClusterError, match="disk of this worker"):
        run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    status = open_store(tmp_path / "codes.h5").images.status
    assert (status != Status.PENDING).any()
    assert status[20] == Status.PENDING
    monkeypatch.setattr(executors, "fill_rows", own)
    run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert_same(tmp_path / "codes.h5", folder)


def test_a_slow_worker_does_not_delay_the_end(folder, threads, tmp_path, monkeypatch):
    """A slow chunk also runs on another worker, and the first result counts."""
    own, first, ended = executors.fill_rows, [], threading.Event()

    def slow_at_first(part, *rest):
        if 24 in part.rows and not first:
            first.append(part.rows)
            ended.wait(60)
        return own(part, *rest)

    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(cluster_tasks, "_SECONDS_BETWEEN_CHECKS", 0.05)
    monkeypatch.setattr(executors, "fill_rows", slow_at_first)
    began = time.monotonic()
    run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    ended.set()
    assert first
    assert time.monotonic() - began < 40
    assert_same(tmp_path / "codes.h5", folder)


def test_rows_that_did_not_arrive_are_an_error(folder, threads, tmp_path, monkeypatch):
    """Rows that workers wrote but that are missing in the file are an error."""
    own = executors.fill_rows

    def loses(part, *rest):
        writers = rest[1]
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
    ("change", "fact"),
    [
        (lambda found: "No such device: gpu.", "No such device: gpu"),
        (lambda found: dataclasses.replace(found, weights="0123456789abcdef"), "0123456789ab"),
    ],
)
def test_workers_that_would_make_another_store_are_refused(
    folder, threads, tmp_path, monkeypatch, change, fact
):
    """Workers without the device, or with other weights, are refused."""
    own = executors._describe
    monkeypatch.setattr(executors, "_describe", lambda *given: change(own(*given)))
    with pytest.raises(OptionError, match=fact):
        run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert not (tmp_path / "codes.h5").exists()


@pytest.mark.parametrize(
    ("found", "fact"),
    [(("0.0", []), r"featx 0\.0"), ((featx.__version__, ["codes.h5"]), r"codes\.h5")],
)
def test_workers_of_another_featx_or_without_the_files_are_refused(
    folder, threads, tmp_path, monkeypatch, found, fact
):
    """Workers with another version of featx, or without the files, are refused."""
    monkeypatch.setattr(connecting, "_describe", lambda paths: found)
    with pytest.raises(OptionError, match=fact):
        run_extraction(job_of(folder, tmp_path / "codes.h5"), cluster=threads)
    assert not (tmp_path / "codes.h5").exists()
    assert not list(tmp_path.glob("*.seen")) + list(tmp_path.glob(".*.seen"))


@pytest.mark.parametrize(
    "name", ["", "local", "local:0", "local:-1", "local:two", "http://x", "tcp"]
)
def test_unknown_clusters_are_refused(name):
    """A name of another form is refused with the flag."""
    with (
        pytest.raises(OptionError, match=f"{name!r} for --cluster"),
        connect(name),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_an_error(monkeypatch):
    """The error holds the address of the scheduler."""
    monkeypatch.setattr(connecting, "_SECONDS_TO_CONNECT", 0.5)
    with (
        pytest.raises(OptionError, match=r"tcp://127\.0\.0\.1:9: "),
        connect("tcp://127.0.0.1:9"),
    ):
        pass


def test_the_package_of_the_keys_is_named(monkeypatch):
    """Without it, no workers are started on this machine."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with (
        pytest.raises(OptionError, match=r"cryptography.*pip install 'featx\[cluster\]'"),
        connect("local:1"),
    ):
        pass


# Workers in other processes.


def listeners():
    """Return the addresses on which this process and its children wait for connections."""
    me = psutil.Process()
    return [
        each.laddr
        for process in (me, *me.children(recursive=True))
        for each in process.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["local:1", "gpus:1"])
def test_nobody_else_runs_code_on_the_workers_of_this_machine(name):
    """All of Dask's ports need the key of this run, and no port is open to other machines."""
    before = set(listeners())
    with connect(name) as cluster:
        cluster.client.wait_for_workers(1, timeout=60)
        nanny = cluster.client.run(lambda dask_worker: dask_worker.nanny)
        addresses = [cluster.client.scheduler.address, *cluster.workers, *nanny.values()]
        ports = {int(each.rpartition(":")[2]) for each in addresses}
        assert all(each.startswith("tls://127.0.0.1:") for each in addresses)
        found = set(listeners()) - before
        assert {each.ip for each in found} == {"127.0.0.1"}
        others = {each.port for each in found} - ports
        for port in ports:
            for security in (Security(), Security.temporary()):
                kind = "tls" if security.tls_client_cert else "tcp"
                with pytest.raises((OSError, TypeError)):
                    distributed.Client(
                        f"{kind}://127.0.0.1:{port}", security=security, timeout=2
                    ).close()
        for port in others:  # the pages of the dashboard
            with socket.create_connection(("127.0.0.1", port), timeout=10) as page:
                page.sendall(b"GET /nothing HTTP/1.0\r\n\r\n")
                assert page.recv(100).startswith(b"HTTP/1.")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["argument", "configuration"])
def test_a_scheduler_with_tls_takes_the_users_own_keys(tmp_path, monkeypatch, how):
    """The keys are an argument in Python, or those of Dask's configuration."""
    own = Security.temporary()
    for name in ("ca_file", "client_cert", "client_key"):
        text = getattr(own, f"tls_{name}")
        (tmp_path / name).write_text(text)
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, protocol="tls", security=own,
            dashboard_address="127.0.0.1:0", host="127.0.0.1",
        ) as local,
    ):  # fmt: skip
        address = local.scheduler_address
        assert address.startswith("tls://")
        missing = pytest.raises(
            OptionError, match=rf"{re.escape(address)} .*distributed\.comm\.tls"
        )
        with missing, connect(address):
            pass
        files = {"ca-file": "ca_file", "client.cert": "client_cert", "client.key": "client_key"}
        config = {f"distributed.comm.tls.{k}": str(tmp_path / v) for k, v in files.items()}
        security, given = (own, {}) if how == "argument" else (None, config)
        with dask.config.set(given), connect(address, security=security) as cluster:
            assert cluster.client.submit(sum, [1, 2]).result(timeout=30) == 3


@pytest.mark.slow
def test_a_worker_that_is_killed_and_one_that_joins_late(folder, tmp_path, monkeypatch):
    """If one worker is killed and another one joins, the store is the same."""
    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(cluster_tasks, "_SECONDS_BETWEEN_CHECKS", 0.05)
    changes = []
    with connect("local:2", changes.append) as cluster:
        local = cluster.client.cluster
        pids = cluster.client.run(os.getpid)

        def after_each(done, total):
            if len(changes) == 0:
                changes.append("killed")
                os.kill(next(iter(pids.values())), signal.SIGKILL)
                local.scale(3)

        run_extraction(job_of(folder, tmp_path / "codes.h5", progress=after_each), cluster=cluster)
    assert_close(tmp_path / "codes.h5", folder)
    assert len(changes) > 1


@pytest.mark.slow
def test_a_cluster_without_workers_is_an_error(folder, tmp_path, monkeypatch):
    """If all workers are lost, the run ends with an error and keeps its rows."""
    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    monkeypatch.setattr(cluster_tasks, "_SECONDS_WITHOUT_WORKERS", 1)
    with connect("local:1") as cluster:
        local = cluster.client.cluster
        with pytest.raises(ClusterError, match=r"local:1 .* 1 s"):
            run_extraction(
                job_of(folder, tmp_path / "codes.h5", progress=lambda done, total: local.scale(0)),
                cluster=cluster,
            )
    assert (open_store(tmp_path / "codes.h5").images.status != Status.PENDING).any()


@pytest.mark.slow
def test_a_lost_scheduler_keeps_finished_rows(folder, tmp_path, monkeypatch):
    """A lost scheduler is an error within seconds, and finished rows are kept."""
    monkeypatch.setattr(executors, "_MIN_CHUNK", 4)
    lost = []
    with connect("local:1") as cluster:
        local = cluster.client.cluster

        def after_each(done, total):
            local.loop.add_callback(local.scheduler.close)
            lost.append(time.monotonic())
            time.sleep(1)

        with pytest.raises(ClusterError, match="scheduler"):
            run_extraction(
                job_of(folder, tmp_path / "codes.h5", progress=after_each), cluster=cluster
            )
    assert time.monotonic() - lost[0] < 15
    assert (open_store(tmp_path / "codes.h5").images.status != Status.PENDING).any()
    featx.extract(folder / "data", output=tmp_path / "codes.h5", batch_size=4, **TINY)
    assert_close(tmp_path / "codes.h5", folder)


@pytest.mark.slow
def test_a_killed_scheduler_is_an_error_within_seconds(tmp_path):
    """A killed scheduler is noticed by the client or by a request."""
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
        with connect(f"file:{file}") as cluster:
            cluster.client.wait_for_workers(1, timeout=30)
            tasks = [cluster_tasks.Task(partial(time.sleep, 0.1), f"Task {k}") for k in range(500)]
            done = cluster_tasks.run_tasks(cluster, tasks, advice="Kept.")
            next(done)
            scheduler.kill()
            killed = time.monotonic()
            with pytest.raises(ClusterError, match=r"scheduler.* Kept\.$"):
                list(done)
        assert time.monotonic() - killed < 10
    finally:
        for each in (scheduler, worker):
            each.kill()
            each.wait()


@pytest.mark.slow
def test_the_command_on_two_workers(folder, tmp_path, run):
    """The command featx extract --cluster local:2 gives the same store."""
    code, out, err = run(
        "extract", folder / "data", "--layer", "block1_pool", "--layer", "block2_pool", "--pool",
        "avg", "--size", "32", "--weights", "random:0", "--batch-size", "4", "-o",
        tmp_path / "codes.h5", "--cluster", "local:2",
    )  # fmt: skip
    assert code == 0, err
    assert "local:2: 2 workers" in err
    assert "http://127.0.0.1:" in err
    assert "27 images" in out
    assert_close(tmp_path / "codes.h5", folder)

"""The page on scaling has the tables of its command, and a thousand simulated workers end."""

import sys
from pathlib import Path

import pytest

from featx.extraction.executors import images_per_chunk

HOME = Path(__file__).parents[1]

pytest.importorskip("distributed", reason="no cluster: pip install 'featx[cluster]'")


@pytest.fixture(scope="module")
def benchmarks():
    sys.path.insert(0, str(HOME / "benchmarks"))
    try:
        import scaling
        import scheduling
    finally:
        sys.path.pop(0)
    return scaling, scheduling


def test_the_page_has_the_tables_of_the_command(benchmarks):
    page = (HOME / "docs/scaling.md").read_text()
    for name, text in benchmarks[0].parts().items():
        assert text in page, f"docs/scaling.md lacks the output of benchmarks/scaling.py: {name}"


def test_the_terms_of_the_rate(benchmarks):
    """One case by hand: block2_pool at 224 in float16, 16 cores and 25 Gbit/s per machine."""
    found = benchmarks[0].limits(benchmarks[0].recipe_of("block2_pool", "none", "float16"), 2)
    code = 56 * 56 * 128 * 2
    flop = 2 * 9 * (224**2 * (3 * 64 + 64 * 64) + 112**2 * (64 * 128 + 128 * 128))
    assert found["GPU"] == pytest.approx(2 * 0.4 * 989e12 / flop)
    assert found["cores"] == pytest.approx(2 * 16 / (1 / 300 + code / 500e6))
    assert found["interpreter"] == pytest.approx(2 / 1e-4)
    assert found["writer"] == pytest.approx(2 * 500e6 / code)
    assert found["link"] == pytest.approx(2 * 3.125e9 / code)
    assert found["file system"] == pytest.approx(10e9 / (100e3 + code))


def run(scheduling, n_chunks, seconds=1.0, happens=lambda cluster: None, **how):
    cluster = scheduling.VirtualCluster(seconds, 0.001, 0.002)
    cluster.join(how.pop("workers", 20))
    happens(cluster)
    chunks = scheduling.chunks_of(n_chunks, rows=2)
    return cluster, cluster.run(chunks, **how)


def test_each_chunk_counts_once(benchmarks):
    """Workers die and join meanwhile."""

    def happens(cluster):
        for k, name in enumerate(list(cluster._workers)[:15]):
            cluster.at(1 + k / 10, lambda name=name: cluster.kill(name))
        cluster.at(6, lambda: cluster.join(30))

    cluster, found = run(benchmarks[1], 200, happens=happens)
    assert found["chunks"] == 200
    assert len(cluster.ncores()) == 35
    assert any(text.startswith("5 workers") for text in found["changes"])
    assert any(text.startswith("35 workers") for text in found["changes"])


def test_slow_chunks_are_submitted_twice(benchmarks):
    def happens(cluster):
        cluster.join(1, slow=50)

    once = run(benchmarks[1], 100, happens=happens, twice=False)[1]
    twice = run(benchmarks[1], 100, happens=happens)[1]
    assert once["chunks"] == twice["chunks"] == 100
    assert once["seconds"] > 25
    assert twice["seconds"] < 20


def test_the_number_of_requests_does_not_grow_with_the_workers(benchmarks):
    """Requests about all workers depend on the time, not on the number of chunks."""
    requests = []

    def happens(cluster):
        own = cluster.ncores
        cluster.ncores = lambda: requests.append(cluster.now) or own()

    found = run(benchmarks[1], 3000, happens=happens, workers=1000)[1]
    assert found["chunks"] == 3000
    assert len(requests) < 2 + 2 * found["seconds"]


def test_a_cluster_without_workers_is_an_error(benchmarks, monkeypatch):
    from featx.errors import ClusterError

    cluster = benchmarks[1].VirtualCluster(1.0, 0.001, 0.002)
    (name,) = cluster.join(1)
    cluster.at(1.5, lambda: cluster._workers.pop(name))
    with pytest.raises(ClusterError, match=r"virtual .* 60 s"):
        cluster.run(benchmarks[1].chunks_of(10, rows=2))
    assert cluster.now == pytest.approx(62, abs=1)


@pytest.mark.parametrize(
    ("n_images", "n_gpus", "expected"),
    [(10**6, 0, 32), (10**6, 1, 1024), (10**6, 200, 625), (1000, 4, 32), (10, 1, 32)],
)
def test_chunks_are_larger_on_gpus(n_images, n_gpus, expected):
    assert images_per_chunk(n_images, n_gpus) == expected

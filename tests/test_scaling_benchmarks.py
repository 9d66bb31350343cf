"""The page on scaling shows what its command prints, and leases survive a thousand workers."""

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


def test_the_page_shows_what_the_command_prints(benchmarks):
    page = (HOME / "docs/scaling.md").read_text()
    for name, text in benchmarks[0].parts().items():
        assert text in page, f"python benchmarks/scaling.py prints another table: {name}"


def test_the_rate_is_the_least_of_its_terms(benchmarks):
    """One case by hand: block2_pool at 224 in float16, a machine of 16 cores, 25 Gbit/s."""
    found = benchmarks[0].walls(benchmarks[0].recipe_of("block2_pool", "none", "float16"), 2)
    code = 56 * 56 * 128 * 2
    flop = 2 * 9 * (224**2 * (3 * 64 + 64 * 64) + 112**2 * (64 * 128 + 128 * 128))
    assert found["GPU"] == pytest.approx(2 * 0.4 * 989e12 / flop)
    assert found["cores"] == pytest.approx(2 * 16 / (1 / 300 + code / 500e6))
    assert found["link"] == pytest.approx(2 * 3.125e9 / code)
    assert found["file system"] == pytest.approx(10e9 / (100e3 + code))


def run(scheduling, n_leases, seconds=1.0, happens=lambda cluster: None, **how):
    cluster = scheduling.VirtualCluster(seconds, 0.001, 0.002)
    cluster.join(how.pop("workers", 20))
    happens(cluster)
    leases = scheduling.leases_of(n_leases, rows=2)
    return cluster, cluster.run(leases, **how)


def test_each_lease_counts_once_whoever_dies_or_joins(benchmarks):
    def happens(cluster):
        for k, name in enumerate(list(cluster._workers)[:15]):
            cluster.at(1 + k / 10, lambda name=name: cluster.kill(name))
        cluster.at(6, lambda: cluster.join(30))

    cluster, found = run(benchmarks[1], 200, happens=happens)
    assert found["leases"] == 200
    assert len(cluster.ncores()) == 35
    assert any(said.startswith("5 workers") for said in found["told"])
    assert any(said.startswith("35 workers") for said in found["told"])


def test_a_slow_lease_is_given_twice_and_the_end_comes_sooner(benchmarks):
    def happens(cluster):
        cluster.join(1, slow=50)

    once = run(benchmarks[1], 100, happens=happens, twice=False)[1]
    twice = run(benchmarks[1], 100, happens=happens)[1]
    assert once["leases"] == twice["leases"] == 100
    assert once["seconds"] > 25
    assert twice["seconds"] < 20


def test_a_lease_costs_no_more_looks_on_a_thousand_workers(benchmarks):
    """What asks the scheduler of everything is asked by the clock, not by the lease."""
    asked = []

    def happens(cluster):
        own = cluster.ncores
        cluster.ncores = lambda: asked.append(cluster.now) or own()

    found = run(benchmarks[1], 3000, happens=happens, workers=1000)[1]
    assert found["leases"] == 3000
    assert len(asked) < 2 + 2 * found["seconds"]


def test_no_lease_waits_for_another_when_there_are_no_workers(benchmarks, monkeypatch):
    from featx.errors import ClusterError

    cluster = benchmarks[1].VirtualCluster(1.0, 0.001, 0.002)
    (name,) = cluster.join(1)
    cluster.at(1.5, lambda: cluster._workers.pop(name))
    with pytest.raises(ClusterError, match=r"virtual .* 60 s"):
        cluster.run(benchmarks[1].leases_of(10, rows=2))
    assert cluster.now == pytest.approx(62, abs=1)


@pytest.mark.parametrize(
    ("n_images", "n_gpus", "expected"),
    [(10**6, 0, 32), (10**6, 1, 1024), (10**6, 200, 625), (1000, 4, 32), (10, 1, 32)],
)
def test_leases_are_larger_on_gpus(n_images, n_gpus, expected):
    assert images_per_chunk(n_images, n_gpus) == expected

"""Roads: which one is taken, what it costs, and refusals before any work."""

import pytest

from featx.errors import FitError, OptionError
from featx.fitting.solvers import choose_solver, price

NAMES = ("primal", "span", "streamed")
PLENTY = 10**13


def test_narrow_codes_stay_as_they_are():
    """A span of more rows than columns would be as wide, and has to be found first."""
    assert choose_solver(5000, 512, 10, free=PLENTY).name == "primal"
    assert choose_solver(512, 512, 10, free=PLENTY).name == "primal"


def test_wide_codes_are_seen_through_their_inner_products():
    assert choose_solver(2000, 401_408, 10, free=PLENTY).name == "span"
    assert choose_solver(20_000, 401_408, 10, free=PLENTY).name == "span"


def test_the_fastest_exact_road_is_taken():
    for n in (100, 1000, 10_000, 100_000):
        for d in (64, 4096, 100_352, 802_816):
            primal, span = (price(name, n, d, 5) for name in ("primal", "span"))
            chosen = choose_solver(n, d, 5, free=PLENTY)
            assert chosen == min(primal, span, key=lambda road: road.seconds)
            assert chosen.is_exact


def test_an_exact_road_that_fits_goes_before_a_faster_one_that_does_not():
    """Memory between the two roads decides."""
    primal, span = (price(name, 300, 20_000, 5) for name in ("primal", "span"))
    assert span.n_bytes < primal.n_bytes
    assert choose_solver(300, 20_000, 5, free=span.n_bytes).name == "span"
    assert choose_solver(300, 20_000, 5, free=primal.n_bytes).is_exact


def test_little_memory_leaves_the_streamed_road():
    """It is not exact, and says so; at the byte the exact road is taken."""
    span = price("span", 50_000, 401_408, 10)
    assert choose_solver(50_000, 401_408, 10, free=span.n_bytes).name == "span"
    chosen = choose_solver(50_000, 401_408, 10, free=span.n_bytes - 1)
    assert (chosen.name, chosen.is_exact) == ("streamed", False)
    assert choose_solver(50_000, 401_408, 10, free=0).name == "streamed"


@pytest.mark.parametrize("name", NAMES)
def test_a_road_that_is_wanted_is_taken_if_it_fits(name):
    road = price(name, 2000, 4096, 10)
    assert choose_solver(2000, 4096, 10, name, free=road.n_bytes) == road
    with pytest.raises(FitError) as caught:
        choose_solver(2000, 4096, 10, name, free=road.n_bytes - 1)
    needed = f"{road.n_bytes / 1e9:.1f}"
    assert str(caught.value) == (
        f"The road {name} needs {needed} GB of memory for 2,000 images of 4,096 numbers, {needed} "
        "GB may be used. Use --road auto, or fewer or narrower codes (--pool avg)."
    )


def test_the_message_has_the_numbers():
    """50 000 images on the span are six matrices of 50 000 x 50 000 doubles."""
    with pytest.raises(FitError) as caught:
        choose_solver(50_000, 401_408, 10, "span", free=8 * 10**9)
    assert str(caught.value) == (
        "The road span needs 120.4 GB of memory for 50,000 images of 401,408 numbers, 8.0 GB may "
        "be used. Use --road auto, or fewer or narrower codes (--pool avg)."
    )


def test_free_memory_is_asked_for(monkeypatch):
    """Six tenths of what is free may be used."""

    class Memory:
        available = 10**9

    monkeypatch.setattr("featx.fitting.solvers.psutil.virtual_memory", Memory)
    n_bytes = price("primal", 4000, 1000, 3).n_bytes
    assert n_bytes == 592_000_000
    assert choose_solver(4000, 1000, 3, "primal").n_bytes == n_bytes
    with pytest.raises(FitError, match=r"0\.6 GB may be used"):
        choose_solver(4300, 1000, 3, "primal")


def test_an_unknown_solver_is_refused():
    """The flag is named, with the value received."""
    with pytest.raises(OptionError, match=r"'highway'.*--solver"):
        choose_solver(10, 10, 2, "highway", free=PLENTY)


@pytest.mark.parametrize("name", NAMES)
def test_prices_grow_with_images_and_numbers(name):
    """Seconds always; bytes never fall, and grow with what is in memory."""
    sizes = (500, 5000, 50_000)
    for fixed in (800, 8000):
        by_n = [price(name, n, fixed, 5) for n in sizes]
        by_d = [price(name, fixed, d, 5) for d in sizes]
        for roads in (by_n, by_d):
            seconds = [road.seconds for road in roads]
            n_bytes = [road.n_bytes for road in roads]
            assert seconds == sorted(set(seconds))
            assert n_bytes == sorted(n_bytes)
        if name != "streamed":
            assert by_n[0].n_bytes < by_n[2].n_bytes
    assert price(name, 500, 800, 5).n_bytes > 4e8


def test_the_span_is_no_wider_than_the_images():
    """Bytes of the span depend on n alone where codes are wider, of descent on d alone."""
    assert price("span", 1000, 5000, 5).n_bytes == price("span", 1000, 500_000, 5).n_bytes
    assert price("span", 9000, 500, 5).n_bytes == price("primal", 9000, 500, 5).n_bytes
    assert price("streamed", 10, 5000, 5).n_bytes == price("streamed", 10**6, 5000, 5).n_bytes
    assert price("streamed", 10, 5000, 5).n_bytes < price("streamed", 10, 5000, 50).n_bytes

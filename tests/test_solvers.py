"""Solvers: the choice, the estimated cost, and the errors before any work."""

import re

import pytest

from featx.errors import FitError, OptionError
from featx.fitting.solvers import choose_solver, estimate_cost

NAMES = ("primal", "gram", "streamed")
PLENTY = 10**13


def test_narrow_codes_are_fitted_as_they_are():
    """With more images than features, Gram coordinates are not narrower than the codes."""
    assert choose_solver(5000, 512, 10, free=PLENTY).name == "primal"
    assert choose_solver(512, 512, 10, free=PLENTY).name == "primal"


def test_wide_codes_are_fitted_by_their_gram_matrix():
    assert choose_solver(2000, 401_408, 10, free=PLENTY).name == "gram"
    assert choose_solver(20_000, 401_408, 10, free=PLENTY).name == "gram"


def test_the_fastest_exact_solver_is_chosen():
    for n in (100, 1000, 10_000, 100_000):
        for d in (64, 4096, 100_352, 802_816):
            exact = [estimate_cost(name, n, d, 5) for name in ("primal", "gram")]
            chosen = choose_solver(n, d, 5, free=PLENTY)
            assert chosen == min(exact, key=lambda plan: plan.seconds)
            assert chosen.is_exact


def test_an_exact_solver_that_fits_in_memory_is_preferred_to_a_faster_one():
    primal, gram = (estimate_cost(name, 300, 20_000, 5) for name in ("primal", "gram"))
    assert gram.n_bytes < primal.n_bytes
    assert choose_solver(300, 20_000, 5, free=gram.n_bytes).name == "gram"
    assert choose_solver(300, 20_000, 5, free=primal.n_bytes).is_exact


def test_the_streamed_solver_is_chosen_if_no_exact_one_fits_in_memory():
    """One byte decides."""
    gram = estimate_cost("gram", 50_000, 401_408, 10)
    assert choose_solver(50_000, 401_408, 10, free=gram.n_bytes).name == "gram"
    chosen = choose_solver(50_000, 401_408, 10, free=gram.n_bytes - 1)
    assert (chosen.name, chosen.is_exact) == ("streamed", False)
    assert choose_solver(50_000, 401_408, 10, free=0).name == "streamed"


@pytest.mark.parametrize("name", NAMES)
def test_a_given_solver_is_used_if_it_fits_in_memory(name):
    plan = estimate_cost(name, 2000, 4096, 10)
    assert choose_solver(2000, 4096, 10, name, free=plan.n_bytes) == plan
    facts = f"--solver {name}.*{plan.n_bytes / 1e9:.1f} GB.*2,000.*4,096.*--pool avg"
    with pytest.raises(FitError, match=facts):
        choose_solver(2000, 4096, 10, name, free=plan.n_bytes - 1)


def test_the_message_has_the_numbers():
    """50,000 images with the solver gram are six matrices of 50,000 x 50,000 doubles."""
    with pytest.raises(FitError, match=re.compile(r"120\.4 GB.*50,000.*401,408.* 8\.0 GB")):
        choose_solver(50_000, 401_408, 10, "gram", free=8 * 10**9)


def test_six_tenths_of_the_available_memory_may_be_used(monkeypatch):
    class Memory:
        available = 10**9

    monkeypatch.setattr("featx.fitting.solvers.psutil.virtual_memory", Memory)
    n_bytes = estimate_cost("primal", 4000, 1000, 3).n_bytes
    assert n_bytes == 592_000_000
    assert choose_solver(4000, 1000, 3, "primal").n_bytes == n_bytes
    with pytest.raises(FitError, match=r"0\.6 GB may be used"):
        choose_solver(4300, 1000, 3, "primal")


def test_an_unknown_solver_is_refused():
    with pytest.raises(OptionError, match=r"'highway'.*--solver"):
        choose_solver(10, 10, 2, "highway", free=PLENTY)


@pytest.mark.parametrize("name", NAMES)
def test_costs_grow_with_images_and_features(name):
    """The time always grows; memory never shrinks."""
    sizes = (500, 5000, 50_000)
    for fixed in (800, 8000):
        by_images = [estimate_cost(name, n, fixed, 5) for n in sizes]
        by_features = [estimate_cost(name, fixed, d, 5) for d in sizes]
        for plans in (by_images, by_features):
            seconds = [plan.seconds for plan in plans]
            n_bytes = [plan.n_bytes for plan in plans]
            assert seconds == sorted(set(seconds))
            assert n_bytes == sorted(n_bytes)
        if name != "streamed":
            assert by_images[0].n_bytes < by_images[2].n_bytes
    assert estimate_cost(name, 500, 800, 5).n_bytes > 4e8


def test_memory_depends_on_the_narrower_side():
    """Memory of gram depends on the images alone if codes are wider, of streamed on features."""

    def n_bytes(*size):
        return estimate_cost(*size).n_bytes

    assert n_bytes("gram", 1000, 5000, 5) == n_bytes("gram", 1000, 500_000, 5)
    assert n_bytes("gram", 9000, 500, 5) == n_bytes("primal", 9000, 500, 5)
    assert n_bytes("streamed", 10, 5000, 5) == n_bytes("streamed", 10**6, 5000, 5)
    assert n_bytes("streamed", 10, 5000, 5) < n_bytes("streamed", 10, 5000, 50)

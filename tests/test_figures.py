"""Figures compared with their data, and as SVG inside a page."""

import itertools
import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import same_color, to_rgb
from matplotlib.patches import Rectangle

from featx import errors
from featx.finetuning.history import EpochRecord
from featx.metrics.evaluation import ReliabilityBin, score_predictions
from featx.metrics.intervals import Score, proportion
from featx.report import (
    as_svg,
    plot_confusion,
    plot_heatmap,
    plot_layers,
    plot_learning_curve,
    plot_reliability,
    plot_training,
)
from featx.report.axes import BLUE, VERMILLION, shown

HOSTILE = ("<script>alert(1)</script>", "$x_$", "\\frac{ & \x00\x1b[31m\ud800", "long name " * 30)
COUNTS = np.array([[5, 1, 0], [2, 8, 0], [0, 0, 0]])


def counts_of(k: int) -> np.ndarray:
    counts = np.random.default_rng(0).poisson(0.2, (k, k))
    counts[np.diag_indices(k)] = 20 + np.arange(k)
    return counts


def calibrated(n_repeats: int = 1) -> SimpleNamespace:
    """Three bins, the middle one empty."""
    bins = [
        ReliabilityBin(0.0, 1 / 3, 4, 0.3, 0.25, 0.05, 0.7),
        ReliabilityBin(1 / 3, 2 / 3, 0, 0.0, 0.0),
        ReliabilityBin(2 / 3, 1.0, 80, 0.9, 0.8, 0.7, 0.88),
    ]
    error = Score(0.0976)
    return SimpleNamespace(n_repeats=n_repeats, calibration_error=error, reliability=bins)


def share(n_correct: int, n: int) -> Score:
    """Return the accuracy of independent images."""
    return proportion(np.arange(n) < n_correct, np.arange(n))


def row(*layers: str, pool: str = "avg", size: int = 224, accuracy: float = 0.8):
    score = Score(accuracy, accuracy - 0.1, accuracy + 0.05)
    return SimpleNamespace(layers=layers, pool=pool, size=(size, size), accuracy=score)


def history() -> list[EpochRecord]:
    trained = [(1, 0.7, 0.75), (2, 0.8, 0.82), (3, 0.9, 0.79)]
    later = [EpochRecord(n, 1e-3, 0.5, own, 0.6, stop, 9.0, 30.0) for n, own, stop in trained]
    return [EpochRecord(0, 0.0, None, None, 1.0, 0.6, 3.0, 0.0), *later]


def all_figures():
    points = [SimpleNamespace(n_train=n, accuracy=share(8, 10)) for n in (10, 40)]
    image = np.zeros((32, 48, 3), np.uint8)
    return {
        "plot_confusion": plot_confusion(COUNTS, HOSTILE[:3]),
        "plot_reliability": plot_reliability(calibrated()),
        "plot_layers": plot_layers([row("block1_pool"), row("block1_pool", "fc1")]),
        "plot_learning_curve": plot_learning_curve(points),
        "plot_training": plot_training(history(), 2, dict.fromkeys(HOSTILE, share(8, 10))),
        "plot_heatmap": plot_heatmap(image, np.array([[1.0, -2.0]])),
    }


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def labels(axis) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def bars(ax) -> list[tuple[float, float, float]]:
    """Place, low and high of every error bar."""
    found = []
    for container in ax.containers:
        (lines,) = container.lines[2]
        # Matplotlib leaves a segment without points where the ends are NaN.
        ends = [segment for segment in lines.get_segments() if len(segment)]
        found += [(x, low, high) for (x, low), (_, high) in ends]
    return found


def elements(svg: str) -> list[ET.Element]:
    return list(ET.fromstring(svg).iter())


def ids(svg: str) -> set[str]:
    return {element.get("id") for element in elements(svg)} - {None}


def words(svg: str) -> list[str]:
    return [element.text for element in elements(svg) if element.tag.endswith("}text")]


# confusion


def test_cells_have_counts_and_colours_by_row():
    """The opacity of a cell is the square root of its fraction of the row."""
    ax = plot_confusion(COUNTS, ["ant", "bee", "cat"])
    ax.figure.draw_without_rendering()
    written = {tuple(text.get_position()): text.get_text() for text in ax.texts}
    assert written == {(j, i): str(COUNTS[i, j]) for i in range(3) for j in range(3)}
    cells = {patch.get_gid(): patch for patch in ax.patches}
    assert set(cells) == {"cell-0-0", "cell-0-1", "cell-1-0", "cell-1-1"}
    assert cells["cell-1-0"].get_bbox().extents == pytest.approx([-0.5, 0.5, 0.5, 1.5])
    assert cells["cell-1-0"].get_facecolor()[:3] == pytest.approx(to_rgb(BLUE), abs=1e-6)
    assert cells["cell-1-0"].get_facecolor()[3] == pytest.approx((2 / 10) ** 0.5, abs=0.005)
    assert cells["cell-0-0"].get_facecolor()[3] == pytest.approx((5 / 6) ** 0.5, abs=0.005)
    assert labels(ax.yaxis) == labels(ax.xaxis) == ["ant", "bee", "cat"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert ax.get_ylim() == (2.5, -0.5)  # the first class on top


def test_colours_by_count_and_white_on_dark_cells():
    """With normalise=False the largest count is the darkest cell, with white text."""
    ax = plot_confusion(COUNTS, normalise=False)
    cells = {patch.get_gid(): patch.get_facecolor()[3] for patch in ax.patches}
    assert cells["cell-1-1"] == 1
    assert cells["cell-0-0"] == pytest.approx((5 / 8) ** 0.5, abs=0.005)
    colours = {text.get_gid(): text.get_color() for text in ax.texts}
    assert colours["count-1-1"] == "white"
    assert colours["count-0-0"] == "black"
    assert labels(ax.xaxis) == ["0", "1", "2"]


def test_an_evaluation_has_its_labels():
    """Matrix and labels are those of the evaluation, unless other names are given."""
    y = np.array(["cat", "cat", "dog", "dog"])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    evaluation = score_predictions(y, probabilities, ["cat", "dog"], np.arange(4))
    ax = plot_confusion(evaluation)
    assert texts(ax) == ["2", "0", "1", "1"]
    assert labels(ax.xaxis) == ["cat", "dog"]
    assert labels(plot_confusion(evaluation, ["C", "D"]).xaxis) == ["C", "D"]


@pytest.mark.parametrize(("k", "smallest"), [(2, 10), (7, 9), (40, 5)])
@pytest.mark.parametrize("counts_of", [counts_of, lambda k: np.eye(k, dtype=int)])
def test_numbers_are_large_enough_and_fit(counts_of, k, smallest):
    """With 2, 7 and 40 classes, counts and names can be read and stay in their cells."""
    ax = plot_confusion(counts_of(k), [f"class {i}" for i in range(k)])
    ax.figure.draw_without_rendering()
    cell = ax.get_window_extent().width / k
    assert len(ax.texts) >= k
    for text in ax.texts:
        assert text.get_fontsize() >= smallest
        assert text.get_window_extent().width < cell
        assert text.get_window_extent().height < cell
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        box = label.get_window_extent()
        assert min(box.width, box.height) < 1.1 * cell
        assert label.get_fontsize() >= 5


def test_no_numbers_if_they_could_not_be_read():
    """Small axes, and many classes, have a colour bar instead."""
    figure = mpl.figure.Figure(figsize=(2, 2))
    small = plot_confusion(counts_of(40), ax=figure.subplots())
    assert texts(small) == []
    assert len(figure.axes) == 2
    assert len(small.get_yticks()) < 40
    many = plot_confusion(counts_of(100))
    assert texts(many) == []
    assert not many.patches
    (image,) = many.get_images()
    assert image.get_array().shape[:2] == (100, 100)
    counts = counts_of(100)
    expected = np.sqrt(counts[3] / counts[3].sum())
    np.testing.assert_allclose(image.get_array()[3, :, 3], expected, atol=0.005)


def test_zeros_are_left_out_of_large_matrices():
    """With 13 classes or more only other counts are written."""
    counts = counts_of(13)
    assert len(texts(plot_confusion(counts))) == np.count_nonzero(counts)
    assert len(texts(plot_confusion(counts[:12, :12]))) == 144


@pytest.mark.parametrize(
    ("counts", "classes", "message"),
    [
        ([[1, 2, 3], [1, 2, 3]], None, "(2, 3) of int64"),
        ([[0.5, 0.5], [0, 1]], None, "(2, 2) of float64"),
        (np.zeros((0, 0), int), None, "(0, 0) of int64"),
        ([[1, 2], [3, 4]], ["a"], "2 classes"),
    ],
)
def test_other_matrices_are_refused(counts, classes, message):
    """Counts are a square matrix of integers, with a name for each class."""
    with pytest.raises(errors.OptionError, match=re.escape(message)):
        plot_confusion(counts, classes)


# reliability


def test_bins_are_drawn_at_their_confidence():
    """Points are confidence and accuracy; bars above have the counts; empty bins have neither."""
    ax = plot_reliability(calibrated())
    assert np.allclose(bars(ax), [(0.3, 0.05, 0.7), (0.9, 0.7, 0.88)])
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xydata(), [(0.3, 0.25), (0.9, 0.8)])
    (strip,) = ax.child_axes
    drawn = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in strip.patches]
    assert np.allclose(drawn, [(0, 1 / 3, 4), (2 / 3, 1 / 3, 80)])
    assert texts(strip) == ["4", "80"]
    assert strip.get_ylabel() == "images"
    assert strip.get_xlim() == ax.get_xlim()
    (diagonal,) = [line for line in ax.get_lines() if line.get_gid() == "diagonal"]
    np.testing.assert_array_equal(diagonal.get_xydata(), [(0, 0), (1, 1)])
    assert re.search(r"\b9\.8\b", ax.get_title("left"))
    assert "interval" not in ax.get_title("left")


def test_counts_of_repeats_are_those_of_predictions():
    """With repeats, an image counts once for each of them."""
    ax = plot_reliability(calibrated(n_repeats=5))
    assert ax.child_axes[0].get_ylabel() == "predictions"


def test_scores_without_interval_have_no_bar():
    """A bin of one group has a point, and no bar of length 0."""
    alone = ReliabilityBin(2 / 3, 1.0, 3, 0.9, 0.8)
    facts = SimpleNamespace(n_repeats=1, calibration_error=Score(0.1), reliability=[alone])
    ax = plot_reliability(facts)
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xydata(), [(0.9, 0.8)])
    assert not bars(ax)


def test_empty_bins_are_refused():
    """There must be predictions."""
    nothing = SimpleNamespace(n_repeats=1, calibration_error=Score(0.0), reliability=[])
    with pytest.raises(errors.OptionError, match="bins with predictions"):
        plot_reliability(nothing)


# layers


def test_layers_are_in_the_order_of_the_network():
    """Single layers come first, then joined ones, whatever the order of the rows is."""
    rows = [
        row("fc1"),
        row("block5_pool", "block4_pool"),
        row("block3_pool", "block4_pool", "block5_pool"),
        row("block4_pool", "block5_pool", pool="max"),
        row("block3_conv1"),
        row("block2_pool"),
        row("block5_pool"),
        row("fc2", "block5_conv1", "fc1", "block2_conv1"),
    ]
    single = ["block2_pool", "block3_conv1", "block5_pool", "fc1"]
    joined = ["block4+5_pool", "block3+4+5_pool", "block2+5_conv1\n+ fc1\n+ fc2"]
    assert labels(plot_layers(rows).xaxis) == single + joined


def test_names_of_joined_layers_leave_room():
    """However many are joined, the axes have more than half of the figure's height."""
    single = [f"block{k}_pool" for k in range(1, 6)]
    ax = plot_layers([*map(row, single), *(row(*single[k:]) for k in range(4))])
    ax.figure.draw_without_rendering()
    assert ax.get_window_extent().height > 0.5 * ax.figure.bbox.height


def test_series_and_their_intervals():
    """A series for each pooling and size, side by side; bars at low and high; joined unlinked."""
    rows = [
        row("block5_pool", accuracy=0.7),
        row("block4_pool", accuracy=0.6),
        row("block4_pool", "block5_pool", accuracy=0.75),
        row("block4_pool", size=384, accuracy=0.65),
        row("block4_pool", pool="max", accuracy=0.5),
    ]
    ax = plot_layers(rows)
    found = [text.get_text() for text in ax.get_legend().get_texts()]
    assert found == ["avg, 224x224", "max, 224x224", "avg, 384x384"]
    drawn = {(round(x), round(low, 6), round(high, 6)) for x, low, high in bars(ax)}
    expected = {(0, 0.6), (1, 0.7), (2, 0.75), (0, 0.65), (0, 0.5)}
    assert drawn == {(x, round(a - 0.1, 6), round(a + 0.05, 6)) for x, a in expected}
    assert len({x for x, *_ in bars(ax) if round(x) == 0}) == 3
    lines = [container.lines[0] for container in ax.containers]
    linked = [line.get_ydata().tolist() for line in lines if line.get_linestyle() == "-"]
    assert linked == [[0.6, 0.7], [0.5]]
    loose = [line.get_ydata().tolist() for line in lines if line.get_linestyle() == "None"]
    assert [0.75] in loose
    looks = [(line.get_color(), line.get_marker(), line.get_fillstyle()) for line in ax.get_lines()]
    assert len({look for look in looks if look[1] not in {"None", "_", "|"}}) >= 3


def test_other_rows_are_refused():
    """No rows, and layers that VGG19 does not have."""
    with pytest.raises(errors.OptionError, match="rows"):
        plot_layers([])
    with pytest.raises(errors.UnknownLayerError, match="'block9_pool'"):
        plot_layers([row("block9_pool")])


# curves


def test_learning_curve_rises_by_images():
    """Points in the order of their images, with intervals, and ticks at their numbers."""
    scores = {1200: Score(0.9, 0.85, 0.93), 30: Score(0.5, 0.3, 0.7)}
    ax = plot_learning_curve([SimpleNamespace(n_train=n, accuracy=s) for n, s in scores.items()])
    np.testing.assert_allclose(bars(ax), [(30, 0.3, 0.7), (1200, 0.85, 0.93)])
    np.testing.assert_allclose(ax.containers[0].lines[0].get_xydata(), [(30, 0.5), (1200, 0.9)])
    assert labels(ax.xaxis) == ["30", "1,200"]
    with pytest.raises(errors.OptionError, match="points"):
        plot_learning_curve([])


def test_training_by_epoch():
    """Both curves, the best epoch, and a named line for each score."""
    scores = {"majority": share(2, 10), "probe": share(8, 10), "tuned": share(9, 10)}
    ax = plot_training(history(), 2, scores)
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}
    assert lines["training set"] == [[1, 0.7], [2, 0.8], [3, 0.9]]
    assert lines["early-stopping set"] == [[0, 0.6], [1, 0.75], [2, 0.82], [3, 0.79]]
    assert lines["best: epoch 2"] == [[2, 0.82]]
    across = [data[0][1] for data in lines.values() if [x for x, _ in data] == [0, 1]]
    assert across == [0.2, 0.8, 0.9]
    assert texts(ax) == [
        "majority 0.200 (0.045 to 0.567)",
        "probe 0.800 (0.433 to 0.955)",
        f"tuned 0.900 ({share(9, 10).ends()})",
    ]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["training set", "early-stopping set", "best: epoch 2"]


@pytest.mark.parametrize("height", [1.5, 6])
def test_the_legend_of_a_training_lies_on_nothing(height):
    """It is below the axes and their label, in axes of any height, and inside the figure."""
    own = plt.figure(figsize=(6, height), layout="constrained").subplots()
    for ax in (plot_training(history(), 2), plot_training(history(), 2, ax=own)):
        ax.figure.draw_without_rendering()
        legend = ax.get_legend().get_window_extent()
        assert legend.y1 <= ax.xaxis.label.get_window_extent().y0
        assert legend.y0 >= 0
        assert (legend.x0 >= 0, legend.x1 <= ax.figure.bbox.width) == (True, True)
    plt.close("all")


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_names_of_equal_scores_do_not_overlap(value):
    """Four equal scores have their names one above the other."""
    names = ("majority", "probe", "tuned", "fit_on_tuned")
    ax = plot_training(history(), 2, dict.fromkeys(names, Score(value, value, value)))
    ax.figure.draw_without_rendering()
    boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.y0)
    assert len(boxes) == 4
    for below, above in itertools.pairwise(boxes):
        assert below.y1 <= above.y0


def test_training_without_epochs_or_with_a_wrong_best_is_refused():
    """A best epoch is one of the history; epoch 0 alone can be drawn."""
    with pytest.raises(errors.OptionError, match=r"0 to 3.*9"):
        plot_training(history(), 9)
    with pytest.raises(errors.OptionError, match="epochs"):
        plot_training([])
    ax = plot_training(history()[:1], 0)
    assert [line.get_label() for line in ax.get_lines()] == ["early-stopping set", "best: epoch 0"]


# heat maps


def test_cells_of_a_heat_map_divide_the_whole_image():
    """Both layers have the extent of the image, and the colours are symmetric about 0."""
    image = np.full((60, 90, 3), 128, np.uint8)
    contributions = np.array([[1.0, 0.0, -3.0], [0.5, 0.0, 0.0]])
    ax = plot_heatmap(image, contributions)
    pixels, cells = ax.get_images()
    assert tuple(pixels.get_extent()) == tuple(cells.get_extent()) == (0, 90, 60, 0)
    assert pixels.origin == cells.origin == "upper"
    np.testing.assert_array_equal(cells.get_array(), contributions)
    assert cells.get_clim() == plot_heatmap(image, -contributions).get_images()[1].get_clim()
    assert cells.get_clim() == (-3, 3)
    assert cells.get_interpolation() == "nearest"
    colours = cells.to_rgba(contributions)
    assert colours[0, 1, 3] == 0  # transparent at 0
    assert colours[0, 2] == pytest.approx([*to_rgb(BLUE), 0.85], abs=1e-6)
    assert colours[0, 0] == pytest.approx([*to_rgb(VERMILLION), 0.85 / 3], abs=0.005)
    assert cells.colorbar.ax.get_ylabel() == "contribution to the decision score"
    assert "-1.5" in ax.get_title("left")
    assert plot_heatmap(image, contributions, smooth=True).get_images()[1].get_interpolation() == (
        "bilinear"
    )


def test_heat_maps_of_nothing():
    """Contributions that are all 0 leave the image as it is."""
    ax = plot_heatmap(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2)))
    cells = ax.get_images()[1]
    assert cells.get_clim() == (-1, 1)
    assert (cells.to_rgba(np.zeros((2, 2)))[..., 3] == 0).all()


@pytest.mark.parametrize(
    ("image", "contributions", "message"),
    [
        (
            np.zeros((8, 8), np.uint8),
            np.zeros((2, 2)),
            r"\(8, 8\) of uint8",
        ),
        (np.zeros((8, 8, 3)), np.zeros((2, 2)), "float64"),
        (
            np.zeros((8, 8, 3), np.uint8),
            np.zeros((2, 2, 5)),
            r"\(2, 2, 5\)",
        ),
        (
            np.zeros((8, 8, 3), np.uint8),
            np.full((2, 2), np.nan),
            "finite",
        ),
    ],
)
def test_heat_maps_of_other_things_are_refused(image, contributions, message):
    """An image is (h, w, 3) of uint8; contributions are finite numbers."""
    with pytest.raises(errors.OptionError, match=message):
        plot_heatmap(image, contributions)


# where they are drawn


def test_no_figure_is_left_in_pyplot_and_no_setting_is_changed():
    """The user's settings are neither used nor changed."""
    with mpl.rc_context({"text.color": "red", "font.size": 30, "svg.fonttype": "path"}):
        before, numbers = dict(mpl.rcParams), plt.get_fignums()
        figures = all_figures()
        for name, ax in figures.items():
            as_svg(ax, f"{name}-")
            assert ax._repr_png_()
        assert dict(mpl.rcParams) == before
        assert plt.get_fignums() == numbers
    for ax in figures.values():
        assert ax.title.get_color() == "black"
        assert ax.xaxis.label.get_fontsize() == 10


def test_a_notebook_shows_the_axes():
    """IPython calls this method to show them as an image."""
    png = plot_confusion([[1, 0], [0, 1]])._repr_png_()
    assert png.startswith(b"\x89PNG\r\n")


def test_own_axes_are_drawn_on_in_their_own_colours():
    """Text gets the text colour of the given axes."""
    with plt.style.context("dark_background"):
        figure = mpl.figure.Figure()
        ax = figure.subplots()
        assert plot_training(history(), 2, {"probe": share(8, 10)}, ax=ax) is ax
    assert ax.texts[0].get_color() == "white"
    assert same_color(ax.get_legend().get_texts()[0].get_color(), "white")
    image = np.zeros((8, 8, 3), np.uint8)
    for plot in (
        lambda ax: plot_confusion(COUNTS, ax=ax),
        lambda ax: plot_reliability(calibrated(), ax),
        lambda ax: plot_layers([row("fc1")], ax),
        lambda ax: plot_learning_curve([SimpleNamespace(n_train=3, accuracy=share(1, 2))], ax),
        lambda ax: plot_heatmap(image, np.ones((2, 2)), ax=ax),
    ):
        ax = mpl.figure.Figure().subplots()
        assert plot(ax) is ax


# SVG


def test_names_of_the_user_are_drawn_as_text():
    """Markup and formulas in class names are not interpreted."""
    svg = as_svg(plot_confusion(np.eye(4, dtype=int), HOSTILE), "c-")
    assert "<script" not in svg
    names = [shown(name) for name in HOSTILE]
    assert [word for word in words(svg) if word in names] == names * 2
    assert {"<script>alert(1)</script>", "$x_$", "\\frac{ & \ufffd\ufffd[31m\ufffd"} < set(names)
    assert max(map(len, names)) == 28
    across = as_svg(plot_training(history(), 2, dict.fromkeys(HOSTILE, share(8, 10))), "t-")
    assert {f"{name} 0.800 (0.433 to 0.955)" for name in names} < set(words(across))
    layers = as_svg(plot_layers([row("fc1", pool="$x_$")]), "l-")
    assert "$x_$, 224x224" in words(layers)


def test_names_are_not_typeset_by_latex():
    """The setting text.usetex would run LaTeX on names."""
    with mpl.rc_context({"text.usetex": True}):
        ax = mpl.figure.Figure().subplots()
        plot_confusion([[1, 0], [0, 1]], ["$x_$", "\\input{secret}"], ax=ax)
    for label in [*ax.get_xticklabels(), *ax.get_yticklabels()]:
        assert not label.get_usetex()


def test_svg_can_be_part_of_a_page():
    """One element without header, style sheet or font; black becomes the page's colour."""
    for name, ax in all_figures().items():
        svg = as_svg(ax, f"{name}-")
        assert svg.startswith("<svg ")
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        assert root.get("aria-label").startswith(" ".join(ax.get_title("left").split()))
        tags = {element.tag.partition("}")[2] for element in root.iter()}
        assert not tags & {"style", "metadata", "script"}
        assert "font-family" not in svg
        assert "#000000" not in svg
        assert "currentColor" in svg
        # The background is transparent.
        shapes = [element for element in root.iter() if not element.tag.endswith("}text")]
        assert not any("#ffffff" in shape.get("style", "") for shape in shapes)


def test_figures_of_one_page_have_different_ids():
    """Each id begins with the prefix, and every reference has a target."""
    found = {name: as_svg(ax, f"{name}-") for name, ax in all_figures().items()}
    again = as_svg(plot_confusion(COUNTS, HOSTILE[:3]), "again-")
    seen: set[str] = set()
    for name, svg in {**found, "again": again}.items():
        own = ids(svg)
        assert own
        assert all(each.startswith(f"{name}-") for each in own)
        assert not own & seen
        seen |= own
        references = re.findall(r'(?:url\(|href=")#([^")]+)', svg)
        assert references
        assert set(references) <= own
    assert {"plot_confusion-cell-0-1", "plot_confusion-count-0-1"} < ids(found["plot_confusion"])


def test_the_same_figure_has_the_same_bytes():
    """It does not depend on the time, random numbers or the user's settings."""
    first = {name: as_svg(ax, "a-") for name, ax in all_figures().items()}
    with mpl.rc_context({"svg.hashsalt": "other", "font.size": 20, "lines.linewidth": 9}):
        assert first == {name: as_svg(ax, "a-") for name, ax in all_figures().items()}
        assert first == {name: as_svg(ax.figure, "a-") for name, ax in all_figures().items()}


def test_names_in_any_script_need_no_font_here():
    """There is no warning, which would be an error here, about missing glyphs."""
    svg = as_svg(plot_confusion([[1, 0], [0, 1]], ["森林", "\u0e1b\u0e48\u0e32"]), "c-")
    assert "森林" in words(svg)


@pytest.mark.parametrize("prefix", ["", "1a", "a b", 'a"', "é-", "aé"])
def test_other_prefixes_are_refused(prefix):
    """They would break out of the attribute, or not be found by a selector."""
    with pytest.raises(errors.OptionError, match=re.escape(repr(prefix))):
        as_svg(plot_confusion([[1]]), prefix)


def test_axes_of_anyone_become_svg():
    """Axes that featx did not make, with characters that XML cannot contain."""
    ax = mpl.figure.Figure().subfigures().subplots()
    ax.add_patch(Rectangle((0, 0), 1, 1, hatch="/"))
    ax.set_title("a\x08b", parse_math=False)
    assert "a\ufffdb" in words(as_svg(ax, "x-"))

"""The diagram in the README is the output of its script, and agrees with VGG19."""

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

ROOT = Path(__file__).parents[1]
SVG = "{http://www.w3.org/2000/svg}"
#: Side and channels after each block, by the paper's table of configuration E.
BLOCKS = {"block1": (112, 64), "block2": (56, 128), "block3": (28, 256),
          "block4": (14, 512), "block5": (7, 512)}  # fmt: skip


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("picture", ROOT / "docs/picture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root():
    return ET.parse(ROOT / "docs/picture.svg").getroot()


def of_class(root, tag, name):
    return [e for e in root.iter(f"{SVG}{tag}") if name in e.get("class", "").split()]


def test_the_script_makes_the_committed_file_again(script, tmp_path, monkeypatch):
    """It has the same bytes; if it does not, run python docs/picture.py."""
    monkeypatch.setattr(script, "OUTPUT", tmp_path / "picture.svg")
    script.main()
    assert (tmp_path / "picture.svg").read_bytes() == (ROOT / "docs/picture.svg").read_bytes()


def test_boxes_have_one_scale(root):
    """Heights are proportional to the sides of the feature maps, and lengths to the channels."""
    boxes = []
    for polygon in of_class(root, "polygon", "front"):
        points = np.array([pair.split(",") for pair in polygon.get("points").split()], float)
        boxes.append(points.max(axis=0) - points.min(axis=0))
    sides, channels = np.array(list(BLOCKS.values())).T
    # drawn in this order: after the cut, then before it
    lengths, heights = np.array(boxes[3:] + boxes[:3]).T
    np.testing.assert_allclose(heights, sides * heights[0] / 112, atol=0.15)
    np.testing.assert_allclose(lengths, channels * lengths[-1] / 512, atol=0.15)


def test_words_agree_with_the_network_and_the_prediction(root, script):
    """It shows the shapes of the blocks, the size of the codes, and a probability with its bar."""
    texts = [text.text.replace("\N{MULTIPLICATION SIGN}", "x") for text in root.iter(f"{SVG}text")]
    for name, (side, channels) in BLOCKS.items():
        assert texts[texts.index(name) + 1] == f"{side}x{side}x{channels}"
    assert texts[texts.index("codes.h5") + 1] == f"600 x {56 * 56 * 128:,}"
    label, probability = texts[-2:]
    assert (label, probability) == script.PREDICTION
    (bar,) = of_class(root, "rect", "a")
    (whole,) = (e for e in of_class(root, "rect", "ground") if e.get("x") == bar.get("x"))
    fraction = float(bar.get("width")) / float(whole.get("width"))
    assert fraction == pytest.approx(float(probability), abs=0.001)


def test_the_line_is_fitted_to_the_dots(root):
    """Its ends lie where scikit-learn's regression on the two colours is 0, inside the frame."""
    dots = {name: of_class(root, "circle", name) for name in ("a", "b")}
    X = [[float(dot.get("cx")), float(dot.get("cy"))] for name in "ab" for dot in dots[name]]
    y = np.repeat([1.0, -1.0], [len(dots["a"]), len(dots["b"])])
    (line,) = of_class(root, "line", "line")
    ends = [[float(line.get(f"{axis}{k}")) for axis in "xy"] for k in (1, 2)]
    np.testing.assert_allclose(LinearRegression().fit(X, y).predict(ends), 0, atol=0.005)
    frame = of_class(root, "rect", "ground")[0]
    corner = np.array([float(frame.get("x")), float(frame.get("y"))])
    inside = np.array(X + ends) - corner
    assert inside.min() > 4.4  # a dot's radius
    assert inside.max() < float(frame.get("width")) - 4.4


def test_it_stands_alone_and_speaks(root):
    """The file is small, loads nothing else, has a text description, and has two colour modes."""
    text = (ROOT / "docs/picture.svg").read_text(encoding="utf-8")
    assert len(text.encode()) < 40_000
    assert not re.search(r"href|url\(|@import|@font-face|<script|<image", text)
    assert (root[0].tag, root[1].tag) == (f"{SVG}title", f"{SVG}desc")
    assert root.get("aria-labelledby").split() == [root[0].get("id"), root[1].get("id")]
    light, dark = text.split("@media (prefers-color-scheme: dark)")
    # what is drawn in black or on white in the light has a colour of its own in the dark
    for rule in (".page", ".ground", ".line", ".shape, .name"):
        assert re.search(rf"^{re.escape(rule)} {{", light, re.MULTILINE), rule
        assert re.search(rf"^  {re.escape(rule)} {{", dark, re.MULTILINE), rule

"""The diagram at the top of README.md: VGG19, cut; its codes in a file; a line through dots.

    python docs/picture.py        # writes docs/picture.svg, always with the same bytes

VGG19's table of layers, the number of images in data/ and the prediction below come in;
one SVG goes out. All boxes have one scale: heights and depths follow the sides of the
activations, lengths their channels. The dots are drawn at random, and the line is fitted
to them. A reader's dark mode changes the colours; a narrow page gets larger and fewer words.
"""

import math
import random
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from featx.images import list_images
from featx.layers import FC_SIZE, LAYERS, activation_shape

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "picture.svg"

#: Class and probability of data/val/flags/1f1e7-1f1f6-google.png, from the model that the first
#: command of the README fits: featx explain model.skops FILE.
PREDICTION = ("flags", "0.891")

#: The layer that the README's first command cuts after.
CUT = "block2_pool"
TIMES = "\N{MULTIPLICATION SIGN}"
#: Random seed of the dots.
SEED = 17
WIDTH, HEIGHT = 960, 424
#: Vertical centre of the parts that data pass through, and of the parts that are cut off.
AXIS, ASIDE = 220, 44
#: Vertical position of the first line of text below each, and the distance of the next line.
WORDS, WORDS_ASIDE, NEXT = 378, 88, 26
#: Units per position of a feature map: vertically; in depth, to the left and up; and units per
#: channel, to the right.
UPRIGHT, LEFT, UP, CHANNEL = 0.94, 0.46, 0.21, 0.2

# The background is white, or GitHub's black, so that it can be read where the page's mode
# and the reader's differ. Blue and orange are those of featx's figures.
STYLE = """
text { font-family: system-ui, sans-serif; text-anchor: middle }
.shape, .name { fill: #1f2328 }
.shape { font-size: 17px }
.name { font-weight: 600; font-size: 19px }
.verb { font-family: ui-monospace, monospace; font-size: 15px; fill: #0072b2 }
.fine { font-size: 15px }
.fine, .gone text { fill: #59636e }
.page { fill: #fff }
.ground { fill: #f6f8fa; stroke: #818b98; stroke-width: 1.2 }
.photo, .side, .front, .top { stroke: #fff; stroke-width: 1; stroke-linejoin: round }
.photo { fill: #fff; stroke: #818b98 }
.side { fill: #0072b2 }
.front { fill: #3d97cc }
.top { fill: #8cc6e8 }
.row { fill: none; stroke: #fff; stroke-width: 1.4 }
.gone .side, .gone .front, .gone .top { fill: #eaeef2; stroke: #afb8c1; stroke-dasharray: 3 2 }
.arrow { fill: none; stroke: #0072b2; stroke-width: 2.5 }
.head { fill: #0072b2 }
.cut { fill: none; stroke: #c2410c; stroke-width: 2.2; stroke-linecap: round }
.blade { fill: #c2410c }
.dashed { stroke-dasharray: 7 6 }
.drift { fill: none; stroke: #afb8c1; stroke-width: 1.6; stroke-dasharray: 2 5 }
.a { fill: #0072b2 }
.b { fill: #e8701a }
.line { stroke: #1f2328; stroke-width: 2.5; stroke-linecap: round }
@media (prefers-color-scheme: dark) {
  .shape, .name { fill: #f0f6fc }
  .verb { fill: #6bbcf0 }
  .fine, .gone text { fill: #9198a1 }
  .page { fill: #0d1117 }
  .ground { fill: #151b23; stroke: #656c76 }
  .side, .front, .top, .row { stroke: #0d1117 }
  .side { fill: #1f6f9f }
  .gone .side, .gone .front, .gone .top { fill: #1c222a; stroke: #59636e }
  .arrow { stroke: #6bbcf0 }
  .head { fill: #6bbcf0 }
  .cut { stroke: #ff9c52 }
  .blade { fill: #ff9c52 }
  .drift { stroke: #59636e }
  .a { fill: #58aee6 }
  .b { fill: #ff9c52 }
  .line { stroke: #f0f6fc }
}
@media (max-width: 600px) {
  .shape { font-size: 19px }
  .name { font-size: 24px }
  .verb, .fine { display: none }
}
"""


def main() -> None:
    """Write the SVG next to this file."""
    OUTPUT.write_text(picture(), encoding="utf-8", newline="\n")


def picture() -> str:
    """Return the SVG as text."""
    shapes = {layer.name: activation_shape(layer.name, FC_SIZE) for layer in LAYERS}
    pools = [layer.name for layer in LAYERS if layer.kind == "pool"]
    kept, gone = pools[: pools.index(CUT) + 1], pools[pools.index(CUT) + 1 :]
    n_images = len(list_images(ROOT / "data").records)
    size = f"{n_images:,} {TIMES} {math.prod(shapes[CUT]):,}"
    label, probability = PREDICTION

    svg = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": str(WIDTH),
            "height": str(HEIGHT),
            "viewBox": f"0 0 {WIDTH} {HEIGHT}",
            "role": "img",
            "aria-labelledby": "title desc",
        },
    )
    ET.SubElement(svg, "title", id="title").text = "featx: images to codes to a classifier"
    ET.SubElement(svg, "desc", id="desc").text = (
        f"An image of {times((*FC_SIZE, 3))} goes through VGG19, which is cut after {CUT}; "
        f"{', '.join(block(name) for name in gone)} are left out. The output, "
        f"{times(shapes[CUT])}, is one row of codes.h5, {size}. A linear classifier, "
        f"model.skops, is fitted to the rows, and predicts: {label}, {probability}."
    )
    ET.SubElement(svg, "style").text = STYLE
    add(svg, "rect", "page", width=WIDTH, height=HEIGHT, rx=12)

    words(svg, 178, 46, "VGG19", f"cut after {CUT}")
    draw_gone(svg, 408, {name: shapes[name] for name in gone})
    draw_image(svg, 78)
    for name, middle in zip(kept, (208, 335), strict=True):
        draw_box(svg, shapes[name], middle, AXIS)
        words(svg, middle, WORDS, block(name), times(shapes[name]))
    draw_cut(svg, 408)
    draw_arrow(svg, 421, 475, "extract")
    draw_drum(svg, 536, size)
    draw_arrow(svg, 597, 633, "fit")
    draw_dots(svg, 714, 144)
    draw_arrow(svg, 799, 853, "predict")
    draw_answer(svg, 902, label, probability)
    ET.indent(svg, " ")
    return ET.tostring(svg, encoding="unicode") + "\n"


def block(layer: str) -> str:
    """Return the block whose last layer is this pooling layer."""
    return layer.removesuffix("_pool")


def times(shape: tuple[int, ...]) -> str:
    """Return a shape as words."""
    return TIMES.join(map(str, shape))


def add(parent: ET.Element, tag: str, kind: str, **attributes: float | str) -> ET.Element:
    """Add an element of a class; numbers have one decimal, which is the same on any processor."""
    texts = {
        name: value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        for name, value in attributes.items()
    }
    return ET.SubElement(parent, tag, {"class": kind, **texts})


def polygon(parent: ET.Element, kind: str, *points: tuple[float, float]) -> None:
    """Add a polygon."""
    add(parent, "polygon", kind, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))


def words(parent: ET.Element, x: float, y: float, name: str, *rest: str) -> None:
    """Add lines of words around x, the first of them strong."""
    add(parent, "text", "name", x=x, y=y).text = name
    for number, line in enumerate(rest, start=1):
        add(parent, "text", "shape", x=x, y=y + NEXT * number).text = line


def draw_box(parent: ET.Element, shape: tuple[int, ...], middle: float, axis: float) -> None:
    """Draw an activation: its feature map faces left, its channels extend to the right."""
    side, _, channels = shape
    left, up, long = LEFT * side, UP * side, CHANNEL * channels
    near = middle + (left - long) / 2
    far = near + long
    top, bottom = axis + (up - UPRIGHT * side) / 2, axis + (up + UPRIGHT * side) / 2
    polygon(parent, "top", (near, top), (near - left, top - up), (far - left, top - up), (far, top))
    polygon(parent, "side", (near, top), (near - left, top - up), (near - left, bottom - up),
            (near, bottom))  # fmt: skip
    polygon(parent, "front", (near, top), (far, top), (far, bottom), (near, bottom))


def draw_image(parent: ET.Element, middle: float) -> None:
    """Draw an image in the plane of the maps that follow."""
    side = FC_SIZE[0]
    x, y = middle - LEFT * side / 2, AXIS - (UP + UPRIGHT) * side / 2
    plane = f"matrix({LEFT} {UP} 0 {UPRIGHT} {x:.1f} {y:.1f})"
    image = ET.SubElement(parent, "g", transform=plane)
    add(image, "rect", "photo", width=side, height=side)
    draw_flag(image)
    words(parent, middle, WORDS, "image", times((side, side, 3)))


def draw_flag(parent: ET.Element) -> None:
    """Draw Bonaire's flag, 1f1e7-1f1f6 of data/val/flags, whose prediction is shown."""
    star = "M78 85l4 6.5 7.5 0-4 6.5 4 6.5-7.5 0-4 6.5-4-6.5-7.5 0 4-6.5-4-6.5 7.5 0Z"
    whole = "M20 58C80 40 144 76 204 58V166C144 184 80 148 20 166Z"
    for path, fill in (
        (whole, "#fff"),
        ("M204 58V166C144 184 80 148 20 166Z", "#1653a5"),
        ("M20 58C45 50 71 52 97 56L20 103Z", "#f7d117"),
        (star, "#d7282f"),
    ):
        ET.SubElement(parent, "path", d=path, fill=fill)
    ET.SubElement(parent, "circle", {"cx": "78", "cy": "98", "r": "18", "fill": "none",
                                     "stroke": "#1f2328", "stroke-width": "3"})  # fmt: skip
    ET.SubElement(parent, "path", {"d": whole, "fill": "none", "stroke": "#818b98",
                                   "stroke-width": "1.5"})  # fmt: skip


def draw_gone(parent: ET.Element, x: float, shapes: dict[str, tuple[int, ...]]) -> None:
    """Draw the blocks after the cut at x, faded and moved aside."""
    gone = ET.SubElement(parent, "g", {"class": "gone"})
    drift = f"M{x + 8} 150C{x + 14} {ASIDE + 30} {x + 26} {ASIDE} 470 {ASIDE}H860"
    add(gone, "path", "drift", d=drift)
    for (name, shape), middle in zip(shapes.items(), (520, 690, 860), strict=True):
        draw_box(gone, shape, middle, ASIDE)
        words(gone, middle, WORDS_ASIDE, block(name), times(shape))


def draw_cut(parent: ET.Element, x: float) -> None:
    """Draw a dashed line down to the text, and scissors on it."""
    add(parent, "path", "cut dashed", d=f"M{x} 96V340")
    scissors = ET.SubElement(parent, "g", transform=f"translate({x} 50)")
    for mirrored in (1, -1):
        half = ET.SubElement(scissors, "g", transform=f"scale({mirrored} 1)")
        add(half, "ellipse", "cut", cx=-11, cy=-24, rx=7, ry=9.5, transform="rotate(24 -11 -24)")
        add(half, "path", "blade", d="M-8.5 -14.5L-6 -15.6L10 38Q5 30 3 22Z")


def draw_arrow(parent: ET.Element, x: float, to: float, verb: str) -> None:
    """Draw an arrow along the axis, with the featx verb for the step."""
    add(parent, "path", "arrow", d=f"M{x} {AXIS}H{to - 8}")
    polygon(parent, "head", (to, AXIS), (to - 12, AXIS - 7), (to - 12, AXIS + 7))
    add(parent, "text", "verb", x=(x + to) / 2, y=AXIS - 16).text = verb


def draw_drum(parent: ET.Element, middle: float, size: str) -> None:
    """Draw the file as a drum, with one row per image."""
    half, lid, top, bottom = 50, 15, AXIS - 54, AXIS + 56
    left, right = middle - half, middle + half
    add(parent, "path", "front",
        d=f"M{left} {top}V{bottom}A{half} {lid} 0 0 0 {right} {bottom}V{top}")  # fmt: skip
    for y in range(top + 22, bottom, 22):
        add(parent, "path", "row", d=f"M{left} {y}A{half} {lid} 0 0 0 {right} {y}")
    add(parent, "ellipse", "top", cx=middle, cy=top, rx=half, ry=lid)
    add(parent, "text", "fine", x=middle, y=bottom + 42).text = "one row per image"
    words(parent, middle, WORDS, "codes.h5", size)


def draw_dots(parent: ET.Element, middle: float, side: float) -> None:
    """Draw codes of two classes as dots, and the line between them, by least squares."""
    x, y = middle - side / 2, AXIS - side / 2
    add(parent, "rect", "ground", x=x, y=y, width=side, height=side, rx=6)
    draw = random.Random(SEED)
    dots = [
        (kind, *(place + 0.24 * (sum(draw.random() for _ in range(4)) - 2) for place in places))
        for kind, places in {"a": (0.34, 0.36), "b": (0.66, 0.64)}.items()
        for _ in range(18)
    ]
    design = np.array([(1.0, across, down) for _, across, down in dots])
    target = np.array([1.0 if kind == "a" else -1.0 for kind, _, _ in dots])
    constant, across, down = np.linalg.lstsq(design, target, rcond=None)[0]
    for kind, u, v in dots:
        add(parent, "circle", kind, cx=x + u * side, cy=y + v * side, r=4.4)
    # Where the decision score is 0, from edge to edge of the frame with a margin.
    u1, u2 = sorted(min(max(-(constant + down * v) / across, 0.06), 0.94) for v in (0.06, 0.94))
    v1, v2 = (-(constant + across * u) / down for u in (u1, u2))
    add(parent, "line", "line", x1=x + u1 * side, y1=y + v1 * side, x2=x + u2 * side,
        y2=y + v2 * side)  # fmt: skip
    words(parent, middle, WORDS, "model.skops", "linear")


def draw_answer(parent: ET.Element, middle: float, label: str, probability: str) -> None:
    """Draw the image again, and a bar as long as its label's probability."""
    half, wide, high = 38, 76, 14
    place = f"translate({middle - half} {AXIS - 62}) scale({wide / FC_SIZE[0]:.3f})"
    flag = ET.SubElement(parent, "g", transform=place)
    add(flag, "rect", "photo", width=FC_SIZE[1], height=FC_SIZE[0])
    draw_flag(flag)
    add(parent, "rect", "ground", x=middle - half, y=AXIS + 34, width=wide, height=high, rx=7)
    add(parent, "rect", "a", x=middle - half, y=AXIS + 34, width=wide * float(probability),
        height=high, rx=7)  # fmt: skip
    words(parent, middle, WORDS, label, probability)


if __name__ == "__main__":
    main()

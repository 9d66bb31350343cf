"""Decode every file of some folders with featx and with plain Pillow, and count the results.

    python benchmarks/public_suites.py Pillow/Tests/images image/tests image-tiff/tests

The folders are the test images of Pillow, image-rs, image-tiff and libvips, or any other ones;
none of them is part of featx. Each file is done, or has a reason. The exit status is 1 if a file
raised another error than ImageError. Files that Pillow loads and featx refuses are listed by
reason, since each of those reasons must be true.
"""

import argparse
import re
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

from PIL import Image

from featx.errors import ImageError
from featx.images import GreyRule, read_image

DONE, CRASHED = "done", "another error"


def by_pillow(path: Path) -> str:
    """Return the format of a file that plain Pillow loads, or ""."""
    try:
        with Image.open(path) as image:
            image.load()
            return str(image.format)
    except Exception:  # Pillow raises any exception
        return ""


def by_featx(path: Path, white: float | None) -> str:
    """Return DONE, the reason why a file is refused, or CRASHED with the error."""
    try:
        read_image(path, (224, 224), "squash", grey=GreyRule("tags", white))
    except ImageError as error:
        return str(error)
    except Exception as error:  # what this program looks for
        return f"{CRASHED}: {path}: {type(error).__name__}: {error}"
    return DONE


def kind_of(reason: str) -> str:
    """Return the beginning of a reason, without numbers, for counting."""
    if reason.startswith(CRASHED):
        return reason
    start = re.split(r"[:(]", re.sub(r"^(unsupported): (\w+).*", r"\1 \2", reason))[0]
    return re.sub(r"\d[\d,x]*", "N", start).strip()


def table(title: str, counts: Counter[str]) -> None:
    """Print counts as a table."""
    print(f"\n| {title} | files |\n| --- | --- |")
    for name, n in counts.most_common():
        print(f"| {name} | {n} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--white", type=float, help="Value of white; see featx extract --help.")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    files = sorted({each for one in options.folders for each in one.rglob("*") if each.is_file()})
    totals: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    neither: Counter[str] = Counter()
    slowest = (0.0, "")
    for path in files:
        format_ = by_pillow(path)
        started = time.perf_counter()
        result = by_featx(path, options.white)
        slowest = max(slowest, (time.perf_counter() - started, str(path)))
        totals[
            f"{'loaded' if format_ else 'refused'} by Pillow, "
            f"{DONE if result == DONE else 'refused'} by featx"
        ] += 1
        if result != DONE:
            counts, name = (refused, f"{format_}: ") if format_ else (neither, "")
            counts[name + kind_of(result)] += 1
    print(f"{len(files)} files, the slowest in {slowest[0]:.1f} s: {slowest[1]}")
    table("all files", totals)
    table("loaded by Pillow, refused by featx", refused)
    table("refused by both", neither)
    sys.exit(any(CRASHED in name for name in (*refused, *neither)))


if __name__ == "__main__":
    main()

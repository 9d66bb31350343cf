"""The HTML page: contents come in, the text of one file goes out.

Names of files and classes are untrusted: the template escapes everything except SVG and
style sheets made by featx, and the page's content security policy allows only its own script.
"""

import base64
import functools
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from featx.metrics import Score
from featx.report.axes import shown, signed
from featx.report.contents import Contents, as_text
from featx.report.embedded_images import COLUMNS
from featx.report.page_images import MAX_IMAGES_PER_CELL, MAX_THUMBNAILS
from featx.report.sections import safe, sections_of
from featx.text import counted

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render"]


def render(contents: Contents) -> str:
    """Return the HTML page that shows some contents."""
    script = files("featx.report").joinpath("page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment().get_template("page.html.jinja")
    return template.render(
        script=safe(script),
        script_digest=f"sha256-{digest}",
        version=version("featx"),
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}",
        columns=COLUMNS,
        counted=counted,
        max_images_per_cell=MAX_IMAGES_PER_CELL,
        max_thumbnails=MAX_THUMBNAILS,
        **sections_of(contents),
    )


@functools.cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("featx", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Callable[..., str]] = {
        "as_text": as_text,
        "percent": lambda value: f"{100 * value:.2f}%",
        "signed": signed,
        "interval": Score.ends,
    }
    made.filters.update(filters)
    return made


def _visible(value: Any) -> Any:
    """Remove invisible characters, such as those that change the direction of the text."""
    # Text that is marked as safe has its own type, and is not changed.
    return shown(value, len(value)) if type(value) is str else value

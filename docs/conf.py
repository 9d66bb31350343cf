"""Configuration of the site, for `sphinx-build -W --keep-going -b html docs docs/_build`.

Neither the build nor the pages need an internet connection. Warnings are errors, so a link to
a page, a heading or a name that does not exist ends the build.
"""

import os
import re
import shutil
from importlib.metadata import version as installed_version
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import typer.testing
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from featx.cli.app import app as command_line

HERE = Path(__file__).parent

# The project

project = "featx"
author = "The featx developers"
copyright = "the featx developers"  # noqa: A001  Sphinx's name for it
version = release = installed_version("featx")

# Sources

extensions = [
    "myst_nb",  # Markdown, and notebooks with their committed outputs
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "jupyter_execute"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
# A block that names no language is text, such as a transcript or a formula.
highlight_language = "none"
nb_execution_mode = "off"
# Output on stderr, such as progress bars, is not shown.
nb_output_stderr = "remove"

# Names in `single quotes` are links if they are Python names, and code otherwise. An explicit
# role, such as {func}, requires a name that a page documents.
default_role = "py:obj"
nitpicky = True
nitpick_ignore_regex = [("py:obj|py:class|py:exc", ".*")]
# The table of each page lists its names; the docstrings are below it.
autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the numpydoc sections have more detail
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {
    **{
        name: f"featx.{name}"
        for name in (
            *("Model", "Explanation", "Extraction", "ExtractionPlan", "Finetuned", "Fit"),
            *("Recipe", "Store", "Sweep"),
        )
    },
    "ModelEvaluation": "featx.workflows.ModelEvaluation",
    "Cluster": "featx.cluster.Cluster",
    "Difference": "featx.recipe.Difference",
    "Evaluation": "featx.metrics.Evaluation",
    "ImageTable": "featx.store.ImageTable",
    "Preset": "featx.extraction.Preset",
    "Score": "featx.metrics.Score",
}

# Appearance

html_theme = "pydata_sphinx_theme"
html_title = f"featx {version}"
html_static_path = ["_static"]
html_css_files = ["featx.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "featx"},
    "navbar_end": ["theme-switcher"],
    "navbar_align": "left",
    "show_prev_next": True,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "**": ["sidebar-nav-bs"]}
# Prompts and output are not copied with a command.
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True


class HelpDirective(Directive):
    """Show the output of `featx VERB --help`, taken from the program while the page is built."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return a block of text."""
        words = self.arguments[0].split()
        result = typer.testing.CliRunner(env={"COLUMNS": "88", "TERMINAL_WIDTH": "88"}).invoke(
            command_line, [*words, "--help"], prog_name="featx"
        )
        if result.exit_code:
            message = f"featx {' '.join(words)} --help ended with {result.exit_code}"
            raise self.error(message)
        block = nodes.literal_block(result.stdout, result.stdout.strip("\n"), language="text")
        return [block]


def copy_notebooks(app: Sphinx) -> None:
    """Copy the notebooks into docs/, where Sphinx looks for them."""
    target = HERE / "notebooks"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for path in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        shutil.copyfile(path, target / path.name)


def link_types_of_featx_alone(app: Sphinx) -> None:
    """Leave out numpydoc's own links, which need the indexes of Python's and NumPy's sites."""
    app.config.numpydoc_xref_aliases_complete = app.config.numpydoc_xref_aliases


#: Paths outside docs/ that pages link to, and the pages of the site with the same content.
PAGES = {
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
    "docs/": "",
    "notebooks/": "notebooks/",
}


def lead_home(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace links to files outside docs/ by links to their pages."""
    up = "../" * docname.count("/")
    for path, page in PAGES.items():
        source[0] = re.sub(rf"\]\((?:\.\./)+{re.escape(path)}", f"]({up}{page}", source[0])


def setup(app: Sphinx) -> None:
    """Register the directive and the functions above."""
    app.add_directive("featx-help", HelpDirective)
    app.connect("builder-inited", copy_notebooks)
    app.connect("builder-inited", link_types_of_featx_alone)
    app.connect("source-read", lead_home)

"""How the site of these pages is built: bash .ci/docs."""

import re

import locality_prior

project = "Locality Prior"
author = copyright = "The Locality Prior developers"
release = version = locality_prior.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["images"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "force"  # a cache knows a page's cells, and not the package that they call
nb_execution_in_temp = True  # a page may write files
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds for a cell, on a machine that is busy
nb_execution_show_tb = True
nb_merge_streams = True  # what a cell prints is one block

napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_typehints = "none"  # the signatures would name private aliases, and torch's types without a page to lead to
autodoc_member_order = "bysource"

# Names of other packages have no page here, and the site is built without a network.
# Two rooms that docstrings name have no page either: what is public of them stands elsewhere.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!locality_prior).*"),
    (r"py:mod", r"locality_prior\.(runs\.door|sparse)"),
]

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = project
# Code needs the room of the sidebar, and some pages have none beside them.
html_sidebars = {page: [] for page in ("index", "tutorials/*", "gallery", "contributing", "changelog")}
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
}


def plain_equations(app, what, name, obj, options, lines):
    """Equations in docstrings are plain text: |w|, w_ and * in them are no markup. Code and examples stay."""
    literal = example = False
    for k, line in enumerate(lines):
        literal = (literal and (not line or line.startswith(" "))) or (k > 0 and lines[k - 1].endswith("::"))
        example = bool(line) and (example or line.lstrip().startswith(">>>"))
        if not literal and not example:
            parts = re.split(r"(``.+?``|:\w+:`.+?`)", line)
            parts[::2] = [re.sub(r"[|*]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
            lines[k] = "".join(parts)


def inside(app, name, source):
    """A link to a page beside docs/ leads to that page of the site."""
    source[0] = re.sub(r"\]\(((?:\.\./)*)\.\./CONTRIBUTING\.md", r"](\1contributing.md", source[0])


def setup(app):
    app.connect("autodoc-process-docstring", plain_equations, priority=400)  # before napoleon adds markup
    app.connect("source-read", inside)

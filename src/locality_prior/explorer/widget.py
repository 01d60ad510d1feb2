"""The explorer in a notebook, and as a page of its own."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from typing import Any

import anywidget
import traitlets

from locality_prior._check import wrong
from locality_prior._files import StrPath, write_text
from locality_prior.explorer.element import page, source
from locality_prior.explorer.given import scene_of_activations, scene_of_runs
from locality_prior.explorer.scene import Scene, pack

#: The most characters of a page that is put into a notebook's file, beside the widget.
MOST_HTML = 32 << 20
#: The height of the explorer where a notebook holds it as a page, in pixels.
HEIGHT = 760


class Explorer(anywidget.AnyWidget):  # type: ignore[misc]  # it has no types
    """An interactive view of networks, made by :func:`locality_prior.explore`: a notebook shows it as a cell's value.

    A notebook's file holds the explorer as a page, too, so ``jupyter nbconvert`` gives a page in which it still works.
    A scene whose page would have more than 32 MiB is shown only while the notebook is open; :meth:`save` writes it.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> explorer = lp.explore(np.random.default_rng(0).random((40, 12)), lp.Grid(3, 4))
    >>> explorer.save("explorer.html")
    """

    _esm = source()
    description = traitlets.Dict().tag(sync=True)
    data = traitlets.Bytes().tag(sync=True)

    def __init__(self, scene: Scene) -> None:
        description, data = pack(scene)
        super().__init__(description=description, data=data)

    def __repr__(self) -> str:
        count = len(self.description["networks"])
        return f"Explorer of {count:,} network{'s' * (count != 1)}: show it in a notebook, or save it as a page"

    def open(self) -> None:
        """Connect with the notebook's page, if there is one."""
        if _attended():
            super().open()

    def page(self) -> str:
        """The explorer as a page that needs nothing else."""
        return page(self.description, self.data, self.description["title"])

    def save(self, path: StrPath) -> None:
        """Write the explorer as a page, ``path``, which needs no other file and no internet connection."""
        write_text(path, self.page())

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        shown, about = {"text/plain": repr(self)}, {}
        if self.comm is not None:
            shown, about = super()._repr_mimebundle_()
        text = self.page()
        if len(text) <= MOST_HTML:
            style = f"width: 100%; height: {HEIGHT}px; border: 0"
            shown["text/html"] = f'<iframe srcdoc="{html.escape(text)}" style="{style}"></iframe>'
        return shown, about


def _attended() -> bool:
    """Whether somebody may be looking: not where a notebook is executed by a program, such as nbconvert."""
    try:
        from IPython import get_ipython

        parent = get_ipython().kernel.get_parent()
    except (ImportError, AttributeError):
        return True
    return bool(parent.get("content", {}).get("allow_stdin", True))


def explore(shown: Any, sheet: Any = None, labels: Any = None) -> Explorer:
    """Look at sheets unit by unit: maps, tuning, correlations, wires and how maps grew, in a notebook or on a page.

    >>> import numpy as np
    >>> import locality_prior as lp
    >>> responses = np.random.default_rng(0).random((40, 12))
    >>> lp.explore(responses, lp.Grid(3, 4), labels=np.arange(40) % 4)
    Explorer of 1 network: show it in a notebook, or save it as a page

    Args:
        shown: the directory of a run, or of a study (of its finished runs, at most 100), or a list of directories. Or
            activations (items, units); or several, in a mapping of the sheets' names to them.
        sheet: where the units sit: a geometry, or its :class:`~locality_prior.plots.Places`. For several activations, a
            mapping of the same names; otherwise all share one sheet.
        labels: each item's class, a whole number or a name, for activations; None: one map, the mean over items.

    Raises:
        ValueError: sizes that do not fit, a geometry that cannot be drawn, or a directory that holds no finished run.
        Problem: a run whose files are damaged, or that has nothing to show.
    """
    paths = _paths(shown)
    if paths is None:
        if sheet is None:
            raise wrong("sheet", None, "where the units sit: a Geometry, such as Grid(32, 32), or Places")
        return Explorer(scene_of_activations(shown, sheet, labels))
    if sheet is not None or labels is not None:
        name, given = ("sheet", sheet) if sheet is not None else ("labels", labels)
        raise wrong(name, given, "None for directories, which say what they hold")
    return Explorer(scene_of_runs(paths))


def _paths(shown: Any) -> Sequence[StrPath] | None:
    """The directories that ``shown`` names; None where it is no directory and no list of them."""
    if isinstance(shown, (str, os.PathLike)):
        return [shown]
    listed = isinstance(shown, (list, tuple)) and shown and all(isinstance(one, (str, os.PathLike)) for one in shown)
    return list(shown) if listed else None

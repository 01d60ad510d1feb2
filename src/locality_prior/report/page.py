"""A page: its pictures, each kept as PNG and PDF too, and the template that it is made from."""

from __future__ import annotations

import base64
import importlib.resources
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator

from locality_prior._files import replacing, write_text

PAGE, FIGURES = "report.html", "figures"


@dataclass(frozen=True)
class Picture:
    """A figure, the file it goes to, the part of the page it belongs to, and what it says."""

    name: str
    section: str
    figure: Figure
    caption: str


def new_figure(width: float, height: float, columns: int = 1, rows: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of that size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def one_legend(figure: Figure, axes: Any) -> None:
    """One legend above the panels in place of each panel's own."""
    handles, labels = axes[0].get_legend_handles_labels()
    for ax in axes:
        ax.get_legend().remove()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def legend_beside(figure: Figure, ax: Any) -> None:
    """A legend to the right of the axes in place of the one within, and of the headroom that it had."""
    handles, labels = ax.get_legend_handles_labels()
    ax.get_legend().remove()
    ax.autoscale(axis="y")
    ax.yaxis.set_major_locator(AutoLocator())
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize="small")


def write_page(directory: Path, template: str, pictures: Iterable[Picture], **values: Any) -> Path:
    """Write ``figures/`` and ``report.html`` into ``directory``: ``template`` with the pictures and ``values``."""
    import jinja2

    (directory / FIGURES).mkdir(exist_ok=True)
    shown = []
    for picture in pictures:
        picture.figure.draw_without_rendering()
        picture.figure.set_layout_engine("none")  # laid out: once is enough for both files
        for suffix in (".png", ".pdf"):
            with replacing(directory / FIGURES / (picture.name + suffix)) as partial:
                picture.figure.savefig(partial, format=suffix[1:], dpi=200)
        data = base64.b64encode((directory / FIGURES / f"{picture.name}.png").read_bytes()).decode()
        width = round(picture.figure.get_figwidth() * 120)  # pixels of the page
        shown.append(
            {"name": picture.name, "section": picture.section, "caption": picture.caption, "data": data, "width": width}
        )

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    write_text(directory / PAGE, environment.get_template(template).render(figures=shown, **values))
    return directory / PAGE


def _template(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

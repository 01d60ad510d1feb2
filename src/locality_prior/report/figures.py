"""Any figure of a study's page again, for print: as wide as is asked for, as PNG and PDF."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from locality_prior._check import number, wrong
from locality_prior._files import replacing
from locality_prior.report import saving
from locality_prior.report.files import read
from locality_prior.report.page import pictures_of
from locality_prior.report.words import listed

#: Widths in millimetres.
NARROWEST, WIDEST = 60.0, 400.0
#: Pixels of a PNG to an inch.
DPI = 300


def names(directory: Path) -> list[str]:
    """The names of all figures of the page of a study, in its order."""
    return list(pictures_of(read(directory)))


def write(directory: Path, name: str, width: float | None, out: Path) -> list[Path]:
    """Write a figure of the page of a study as ``NAME.pdf`` and ``NAME.png``; their paths.

    Args:
        directory: of the study.
        name: one of :func:`names`.
        width: in millimetres. Text keeps its size, and panels and legends are laid out for the width. None: the figure
            as the page has it.
        out: the folder to write to; it is made if it is not there.

    Raises:
        ValueError: a directory, a name or a width that does not fit.
        Problem: a file of the study is damaged.
    """
    if width is not None and not NARROWEST <= number("width", width) <= WIDEST:
        why = "less leaves no room beside text of its usual size, and more fits no page"
        raise wrong("width", width, f"{NARROWEST:g} to {WIDEST:g} millimetres: {why}")
    pictures = pictures_of(read(directory))
    if name not in pictures:
        near = get_close_matches(name, pictures, cutoff=0.4) or list(pictures)[:3]
        raise wrong("name", name, f"a figure of the page, such as {listed(near)} (without a name, all are listed)")
    figure = pictures[name].figure if width is None else pictures[name].at(width)
    out.mkdir(parents=True, exist_ok=True)
    paths = out / f"{name}.pdf", out / f"{name}.png"
    with replacing(paths[0]) as pdf, replacing(paths[1]) as png:
        saving.save_both(figure, png, pdf, DPI)
    return list(paths)

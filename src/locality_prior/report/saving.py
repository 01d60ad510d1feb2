"""Figures as files: PNG with few colours, and PDF whose text is text."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

#: Colours beyond which a figure has no palette, but 66 steps of red, green and blue.
MANY = 1 << 14


def save(figure: Figure, path: Path, dpi: float) -> None:
    """Write a figure as the .png, .pdf or .svg file that its name says; ``dpi`` is that of a PNG."""
    # text stays text, which can be searched and edited: its fonts are TrueType
    with unseen_glyphs(), matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(path, dpi=dpi)
    if path.suffix.lower() == ".png":
        _fewer_colours(path)


def save_both(figure: Figure, png: Path, pdf: Path, dpi: float) -> None:
    """Write a figure as PNG and as PDF."""
    figure.set_dpi(dpi)  # letters are a little wider where they are rounded to fewer pixels
    with unseen_glyphs():
        figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out: once is enough for both files
    save(figure, png, dpi)
    save(figure, pdf, dpi)


def _fewer_colours(path: Path) -> None:
    """Give a PNG a palette of 256 colours, chosen so that no colour changes much: half the bytes or less. An image of
    very many colours gets no palette, but coarser steps of red, green and blue."""
    from PIL import Image  # comes with matplotlib

    with Image.open(path) as full:
        if full.mode == "P" or (full.mode == "RGBA" and full.getchannel("A").getextrema() != (255, 255)):
            return  # what is transparent, as a reader's style may ask for, stays so
        colours = full.convert("RGB")
        if colours.getcolors(MANY) is None:  # such as shaded surfaces, which a palette would show in steps
            reduced = colours.point(lambda value: value if value in (0, 255) else value & 0xFC | 2)
        else:
            reduced = colours.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


@contextlib.contextmanager
def unseen_glyphs() -> Iterator[None]:
    """No warning of a name in a script that matplotlib's font lacks: its letters are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield

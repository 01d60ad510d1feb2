"""A packed scene as HTML: a fragment that stands in any page, and a page of its own that loads nothing."""

from __future__ import annotations

import base64
import html
import importlib.resources
import json
import zlib
from typing import Any

#: The longest title that a page's head and the text without JavaScript show, in characters.
LONGEST = 200

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
  body {{ margin: 1rem auto; max-width: 62rem; padding: 0 1rem; background: light-dark(#fff, #1c1c1e); }}
</style>
</head>
<body>
{fragment}
</body>
</html>
"""

_FRAGMENT = """<div data-explorer="">
<script type="application/json">{description}</script>
<script type="application/octet-stream">{data}</script>
<noscript><p>{without}</p></noscript>
</div>
"""


def fragment(description: dict[str, Any], data: bytes, module: bool = True) -> str:
    """HTML that shows a packed scene wherever it stands in a page.

    Args:
        description, data: what ``pack`` returns.
        module: whether the explorer's code comes with it. A page needs it once, however many scenes it shows.
    """
    text = _FRAGMENT.format(
        description=json.dumps(description, allow_nan=False, separators=(",", ":")).replace("<", r"\u003c"),
        data=base64.b64encode(zlib.compress(data, 9)).decode(),
        without=html.escape(_without(description)),
    )
    return f'{text}<script type="module">\n{source()}</script>\n' if module else text


def page(description: dict[str, Any], data: bytes, title: str = "") -> str:
    """A whole page that shows a packed scene, light or dark as the reader has it."""
    title = title or description.get("title") or "Maps"
    return _PAGE.format(title=html.escape(_line(title)), fragment=fragment(description, data))


def source() -> str:
    """The explorer's code: an ES module."""
    return importlib.resources.files(__package__).joinpath("explorer.js").read_text(encoding="utf-8")


def _without(description: dict[str, Any]) -> str:
    """What a reader without JavaScript is told."""
    networks = len(description["networks"])
    what = _line(description.get("title") or "") or "Maps"
    number = f"{networks} network" if networks == 1 else f"{networks} networks"
    return f"{what}: the maps of {number}. Exploring them needs JavaScript."


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text[: 10 * LONGEST]).split())[:LONGEST]

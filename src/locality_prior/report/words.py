"""Names and numbers as a reader sees them."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable

#: What stands where a number is undefined.
NONE = "–"
#: The longest name shown, in characters.
LONGEST = 80


def plain(text: object, most: int = LONGEST) -> str:
    """``text`` on one line, without invisible characters; if it is longer than ``most``, its middle is left out."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(line) <= most:
        return line
    end = most // 4
    return f"{line[: most - end - 1].rstrip()}…{line[-end:].lstrip()}"


def drawn(text: str, width: int = 32, lines: int = 1) -> str:
    """``text`` as a label of a figure: on at most ``lines`` lines (or one more), and without mathematical markup."""
    text = plain(text, width * lines).lstrip("_") or "–"  # matplotlib hides a label that begins with "_"
    return textwrap.fill(text, width).replace("$", r"\$")


def told_apart(texts: Iterable[str], width: int = 24, lines: int = 2) -> list[str]:
    """Each text as :func:`drawn`, no two of them alike."""
    return _apart(texts, lambda text: drawn(text, width, lines), width * lines)


def named_apart(texts: Iterable[str]) -> list[str]:
    """Each text as :func:`plain`, no two of them alike."""
    return _apart(texts, plain, LONGEST)


def _apart(texts: Iterable[str], shown: Callable[[str], str], most: int) -> list[str]:
    labels: list[str] = []
    for text in texts:
        label, n = shown(text), 2
        while label in labels:
            label, n = shown(f"{plain(text, most - 6)} ({n})"), n + 1
        labels.append(label)
    return labels


def slug(text: str) -> str:
    """``text`` as part of a file name: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text[:200].lower()).strip("-")[:40]


def decimals(values: Iterable[float | None]) -> int:
    """Decimal places that show the largest of ``values`` with at least three significant digits."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    if not largest:
        return 2
    first = math.floor(math.log10(largest))
    return min(max(0, 3 - first if first >= 0 else 2 - first), 8)


def fixed(value: float | None, places: int, sign: bool = False) -> str:
    """A number with ``places`` decimals and a true minus sign; a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    if abs(value) >= 1e9:
        return format(value, "+.3e" if sign else ".3e").replace("-", "−")
    text = format(value, f"{'+' if sign else ''},.{places}f")
    if not float(text.replace(",", "")):
        text = text.lstrip("+-")  # 0 has no sign
    return text.replace("-", "−")


def p_value(p: float | None) -> str:
    """A p-value as text."""
    if p is None or not math.isfinite(p):
        return NONE
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def several(n: int, one: str, many: str | None = None) -> str:
    """ "1 network", "3 networks"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(names: Iterable[str], most: int = 6) -> str:
    """ "a, b and c"; beyond ``most`` names, "a, b and 7 more". Names with commas in them stand between semicolons."""
    all_names = list(names)
    comma = "; " if any("," in name for name in all_names) else ", "
    if len(all_names) > most:
        all_names = [*all_names[: most - 1], f"{len(all_names) - most + 1} more"]
    if comma == "; " or len(all_names) < 2:
        return comma.join([*all_names[:-1], f"and {all_names[-1]}"] if len(all_names) > 1 else all_names)
    return f"{comma.join(all_names[:-1])} and {all_names[-1]}"

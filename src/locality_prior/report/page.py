"""The page of a study: its sections, written whole or not at all."""

from __future__ import annotations

import base64
import importlib.resources
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from locality_prior._check import Problem, instance
from locality_prior._files import replacing, replacing_folder
from locality_prior.explorer.element import fragment
from locality_prior.report import exploring, frontiers, pictures, saving, tables
from locality_prior.report.files import Study, read
from locality_prior.report.layout import WIDE
from locality_prior.report.methods import Method, epoch_times, likeness, methods
from locality_prior.report.pictures import Picture
from locality_prior.report.words import listed, plain, several, slug
from locality_prior.studies.files import PAGE

#: Takes a figure of the page, and gives what the template shows of it.
Show = Callable[[Picture], dict[str, Any]]

FIGURES = "figures"
#: Answers, comparisons of a group, and networks without a result that are shown before the rest is folded.
ANSWERS, COMPARISONS, MISSING = 6, 10, 12
#: Rows of a folded table of a comparison of methods: of hundreds of networks there are thousands of comparisons.
FOLDED = 200
#: Bytes of the figures of single measures on a page that compares methods; the others are in figures/ alone.
OF_MEASURES = 2_000_000
#: Bytes of a page that its explorers' numbers may take, in all.
EXPLORED = 2_900_000
#: Pixels of the page, and of a PNG, to an inch of a figure.
PAGE_DPI, PNG_DPI = 100, 160


def write(directory: Path | str) -> Path:
    """Write ``report.html`` and ``figures/`` (PNG and PDF) into the directory of a study; the path of the page.

    Reads ``study.json`` and, of each run that it names, ``measures.npz``, ``metrics.csv`` and ``pruning.csv``. The
    page and all figures are made before the old ones are replaced.

    Raises:
        ValueError: ``directory`` holds no ``study.json``.
        Problem: a file is damaged, or the page cannot be written; the old page and figures are as they were.
    """
    instance("directory", directory, (str, Path), "a path")
    directory = Path(directory)
    study = read(directory)
    if (directory / PAGE).is_dir():
        raise Problem(f"{directory / PAGE} is a directory: move it away, so that the page can be written there.")
    try:
        # the figures take their place first, and the page last
        with replacing(directory / PAGE) as page, replacing_folder(directory / FIGURES) as figures:
            text = _template().render(_contents(study, _shown_in(figures)), explorers=_explorers(study))
            page.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        raise Problem(f"The page cannot be written into {directory}: {error.strerror or error}.") from error
    return directory / PAGE


def pictures_of(study: Study) -> dict[str, Picture]:
    """All figures of the page of a study, by name, in its order; none is drawn."""
    found: dict[str, Picture] = {}

    def show(picture: Picture) -> dict[str, Any]:
        found[picture.name] = picture
        return {"data": ""}

    _contents(study, show)
    return found


def _shown_in(figures: Path) -> Show:
    """What writes a figure into ``figures``, and gives it as the template shows it."""

    def show(picture: Picture) -> dict[str, Any]:
        figure = picture.figure
        png = figures / f"{picture.name}.png"
        saving.save_both(figure, png, png.with_suffix(".pdf"), PNG_DPI)
        wide, high = figure.get_size_inches()
        scale = picture.scale * max(0.75, min(1.0, picture.highest / high))
        return {
            "name": picture.name,
            "data": base64.b64encode(png.read_bytes()).decode(),
            "width": round(min(wide * scale, WIDE) * PAGE_DPI),
            "caption": picture.caption,
            "alt": picture.alt,
        }

    return show


def _contents(study: Study, shown: Show) -> dict[str, Any]:
    """What the template shows; ``shown`` takes each figure on the way."""
    found = study.found
    several_groups = len(found["groups"]) > 1
    telling = pictures.most_telling(study)
    failed = [cell for cell in found["cells"] if cell["measures"] is None]
    return {
        "title": plain(found["title"], 200) or "A study",
        "about": [plain(one, 2000) for one in found["about"]],
        "lead": _lead(study),
        "summary": [plain(text, 1000) for text in found.get("summary", [])],
        "answers": [plain(a["text"], 600) for a in found["answers"]],
        "at_once": 0 if found.get("summary") else ANSWERS,
        "telling": None if telling is None else shown(telling),
        "hypotheses": tables.hypotheses(study),
        "groups": [
            _group(study, group, shown, k if several_groups else 0, telling and telling.subject)
            for k, group in enumerate(found["groups"], start=1)
        ],
        "nulls": any(told["null"] for told in found["conditions"].values()),
        "failed": [f"{study.label(c['condition'])}, seed {c['seed']}: {_error(c)}" for c in failed],
        "missing": MISSING,
        "published": [f"{plain(p['name'])}: {plain(p['source'], 300)}" for p in found["published"]],
        "few": tables.FEW,
        "command": plain(found["command"], 2000),
        "networks": several(len(found["cells"]), "network"),
    }


def _group(study: Study, group: dict[str, Any], shown: Show, number: int, above: Any) -> dict[str, Any]:
    """One group's section; ``number`` is 0 if there is only one, ``above`` is the subject of the picture above."""
    prefix = f"{number}-" if number else ""
    compared = tables.comparisons(study, group)
    most = max((c["n"] for c in study.of(group, "comparisons")), default=0)

    def show(picture: Picture | None) -> dict[str, Any] | None:
        return None if picture is None else shown(picture)

    recipe = [f"{plain(k.replace('_', ' '))} {plain(v)}" for k, v in group["recipe"].items()]
    section: dict[str, Any] = {
        "number": number,
        "name": plain(group["name"]),
        "lead": _group_lead(study, group) if number else "",
        "networks": tables.networks(study, group),
        "sheets": tables.sheets(study, group),
        "no_variance": listed(f"“{tables.part_name(s)}”" for s in tables.without_variance(study, group)),
        "first": compared.first(COMPARISONS),
        "rest": compared.after(COMPARISONS),
        "forced": tables.comparisons(study, group, forced=True),
        "most": most,
        "over_items": tables.over_items(study, group),
        "cells": tables.cells(study, group),
        "recipe": ", ".join(recipe),
        "methods": None,
        "trade": None,
        "maps": [],
        "positions": [],
        "measures_apart": [],
        "unshown": {"rest": 0, "forced": 0, "over_items": 0},
    }
    compared_methods = methods(study, group)
    if compared_methods:
        return section | _methods(study, group, compared_methods, section, shown, prefix)
    maps = [
        pictures.class_maps(study, group, sheet, group["conditions"], _maps_name(prefix, k, sheet))
        for k, (sheet, one) in enumerate(group["sheets"].items(), start=1)
        if one["places"] is not None
    ]
    return section | {
        "trade": show(pictures.trade(study, group, prefix)),
        "maps": [show(p) for p in maps if p and p.subject != above],
        "positions": [show(p) for p in pictures.positions(study, group, prefix)],
        "correlation": show(pictures.correlation(study, group, prefix)),
        "wires": show(pictures.wires(study, group, prefix)),
        "pruning": show(pictures.pruning(study, group, prefix)),
        "measures": [show(p) for p in pictures.measures(study, group, prefix)],
        "training": [show(pictures.training(study, group, prefix))],
    }


def _explorers(study: Study) -> list[str]:
    """The explorer of each group, as HTML; empty where there is nothing to look at. The module comes with the first."""
    groups = study.found["groups"]
    number, _, telling = pictures.telling_condition(study) or (-1, "", "")
    found: list[str] = []
    for k, group in enumerate(groups):
        packed = exploring.scene(study, group, EXPLORED // len(groups), telling if k == number else "")
        found.append("" if packed is None else fragment(*packed, module=not any(found)))
    return found


def _methods(
    study: Study, group: dict[str, Any], compared: list[Method], section: dict[str, Any], shown: Show, prefix: str
) -> dict[str, Any]:
    """What a group's section shows otherwise where it compares methods at several strengths.

    There may be hundreds of networks. The page has what compares all methods; figures of curves, whose colours must be
    told apart, show a few methods, and the others are in figures alone.
    """
    conditions = sum(len(m.conditions) for m in compared)
    sheets = [(k, name) for k, (name, one) in enumerate(group["sheets"].items(), start=1) if one["places"] is not None]
    maps = [frontiers.maps(study, group, compared, name, _maps_name(prefix, k, name)) for k, name in sheets[-1:]]
    parts = frontiers.curve_groups(group, compared)
    middle = frontiers.middle_group(group, compared)
    at_middle = " Each method at its middle strength." if conditions > len(compared) else ""

    def curves(draw: Callable[[Study, dict[str, Any], str], Picture | None]) -> dict[str, Any] | None:
        pages = [picture for picture in (draw(study, part, prefix) for part in parts) if picture is not None]
        if not pages:
            return None
        first, *others = pages
        others = [replace(one, name=f"{one.name}-{k}") for k, one in enumerate(others, start=2)]
        for picture in others:
            shown(picture)
        said = f" Other methods: {listed(f'{FIGURES}/{p.name}.png' for p in others)}." if others else ""
        return shown(replace(first, caption=first.caption + at_middle + said))

    def training(study: Study, part: dict[str, Any], prefix: str) -> Picture | None:
        return pictures.training(study, part, prefix, objectives=False)

    on_page: list[dict[str, Any]] = []
    apart: list[str] = []
    for picture in pictures.measures(study, middle, prefix):
        one = shown(replace(picture, caption=picture.caption + at_middle))
        if not apart and sum(len(other["data"]) for other in on_page) + len(one["data"]) <= OF_MEASURES:
            on_page.append(one)
        else:
            apart.append(f"{picture.name}.png")
    objectives = frontiers.objectives(study, group, compared, prefix)
    folded = {key: section[key].first(FOLDED) for key in ("rest", "forced", "over_items")}
    return {
        **folded,
        "unshown": {key: len(section[key].rows) - len(table.rows) for key, table in folded.items()},
        "methods": {
            "lead": _methods_lead(study, group, len(compared)),
            "frontiers": [shown(p) for p in frontiers.frontiers(study, group, compared, prefix)],
            "middle": tables.of_methods(study, group, compared, middle=True),
            "all": tables.of_methods(study, group, compared, middle=False) if conditions > len(compared) else [],
            "conditions": conditions,
            "timed": bool(epoch_times(study, group)),
            "alike": any(likeness(study, c, "representation") is not None for c in group["conditions"]),
        },
        "maps": [shown(p) for p in maps if p],
        "positions": [shown(p) for p in pictures.positions(study, group, prefix)],
        "correlation": curves(pictures.correlation),
        "wires": curves(pictures.wires),
        "pruning": curves(pictures.pruning),
        "measures": on_page,
        "measures_apart": apart,
        "training": [curves(training), objectives and shown(objectives)],
    }


def _methods_lead(study: Study, group: dict[str, Any], compared: int) -> str:
    lead = f"{several(compared, 'method')}, {several(len(group['conditions']), 'condition')}"
    numbers = set(tables.networks_of(study, group).values())
    each = several(max(numbers), "network")
    return f"{lead}, {each} of each." if len(numbers) == 1 else f"{lead}, at most {each} of each."


def _maps_name(prefix: str, k: int, sheet: str) -> str:
    return f"{prefix}maps-{k}-{slug(sheet)}".rstrip("-")


def _lead(study: Study) -> str:
    groups = study.found["groups"]
    if len(groups) == 1:
        return _group_lead(study, groups[0])
    networks = several(len(study.found["cells"]), "network")
    return f"{networks} in {len(groups)} groups: {listed(plain(g['name']) for g in groups)}."


def _group_lead(study: Study, group: dict[str, Any]) -> str:
    networks, seeds = len(study.of(group, "cells")), study.seeds(group)
    conditions = listed(study.label(c) for c in group["conditions"])
    return (
        f"{plain(group['model'])} on {plain(group['task'])}: {conditions}. "
        f"{several(networks, 'network')}, {several(len(seeds), 'seed')}."
    )


def _error(cell: dict[str, Any]) -> str:
    return plain(cell.get("error") or "no reason was recorded", 300)


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    source = importlib.resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    return environment.from_string(source)

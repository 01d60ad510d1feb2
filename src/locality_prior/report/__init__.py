"""Run directories → one self-contained page. Nothing else is read, so it can be made again anywhere, any time later."""

from __future__ import annotations

import base64
import importlib.resources
from pathlib import Path

from locality_prior._check import wrong
from locality_prior._files import replacing, write_text
from locality_prior.experiments.reproduction import read_reproduction
from locality_prior.experiments.summary import read_all, read_summary
from locality_prior.report import figures, tables

PAGE, FIGURES = "report.html", "figures"


def write(directory: Path) -> Path:
    """Write ``report.html`` and ``figures/`` (PNG and PDF) into the analysed study ``directory``; the page's path.

    Raises:
        ValueError: no study there, or one that is not finished or not analysed.
    """
    import jinja2

    study = read_reproduction(directory)
    summary = read_summary(directory)
    told = (summary.get("seeds"), list(summary.get("conditions", {})))
    if told != (list(study.seeds), list(study.conditions)):
        raise wrong("directory", f"{directory} with a summary of other runs than its study's", "one analysed since")
    kept = read_all(directory, study)

    (directory / FIGURES).mkdir(exist_ok=True)
    shown = []
    for picture in figures.of_study(study, kept):
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
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    template = importlib.resources.files(__package__).joinpath("template.html").read_text(encoding="utf-8")
    page = environment.from_string(template).render(
        study=study,
        conditions=[tables.title(name) for name in study.conditions],
        results=tables.results(summary),
        tests=tables.tests(summary),
        pruning=tables.pruning(summary),
        seeds=tables.seeds(summary),
        document=tables.document(summary),
        figures=shown,
        command=tables.command(study),
        network=tables.network(study),
        images=summary["conditions"]["control"]["per_seed"][0]["images"],
    )
    write_text(directory / PAGE, page)
    return directory / PAGE

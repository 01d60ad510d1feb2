"""The page of a study, made from its files."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import Group, Strength, group_of_methods, write_study
from matplotlib.figure import Figure
from solids import icosphere

from locality_prior import report
from locality_prior._check import Problem
from locality_prior.geometry import Grid
from locality_prior.report import (
    exploring,
    files,
    frontiers,
    layout,
    methods,
    page,
    pictures,
    prior,
    saving,
    tables,
    words,
)

HOME = Path(report.__file__).parent
HOSTILE = "<script>alert('x')</script>\"'&$\\frac{1}{$_"


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose figures are drawn up and not rendered, which takes long."""

    def save(figure: Figure, path: Path, **_: Any) -> None:
        path.write_bytes(b"a picture")

    monkeypatch.setattr(Figure, "savefig", save)
    monkeypatch.setattr(saving, "_fewer_colours", lambda _: None)
    monkeypatch.setattr(Figure, "draw_without_rendering", lambda _: None)


def text_of(path: Path) -> str:
    """What a reader reads, its white space made single."""
    body = path.read_text(encoding="utf-8").partition("<body>")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def study_of(directory: Path) -> files.Study:
    return files.Study(json.loads((directory / "study.json").read_text()))


# The page


def assert_text_is_text(pdf: Path) -> None:
    """A PDF's letters are in TrueType fonts, and not drawn as shapes."""
    drawn = pdf.read_bytes()
    assert b"/Type0" in drawn
    assert b"/Type3" not in drawn


def test_a_page_with_its_figures_stands_alone(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1, 2))
    path = report.write(tmp_path)
    assert path == tmp_path / "report.html"
    source = path.read_text(encoding="utf-8")
    assert set(re.findall(r'src="([a-z:/;0-9]*)', source)) == {"data:image/png;base64"}
    assert not re.search(r"https?://|href=|@import|url\(|<script[^>]*src", source)
    images = re.findall(r"<img [^>]*>", source)
    names = re.findall(r'<figure id="([^"]+)"', source)
    assert len(images) == len(names) == len(set(names)) > 10
    assert all(re.search(r'alt="[^"]{10,}"', image) for image in images)
    kept = {p.name for p in (tmp_path / "figures").iterdir()}
    assert kept == {name + suffix for name in names for suffix in (".png", ".pdf")}
    for name in names:
        assert_text_is_text(tmp_path / "figures" / f"{name}.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figures", "report.html", "runs", "study.json"]


@pytest.mark.usefixtures("unpainted")
def test_the_page_opens_with_the_answer(tmp_path: Path) -> None:
    study = write_study(tmp_path)
    source = report.write(tmp_path).read_text(encoding="utf-8")
    text = html.unescape(source)
    order = ["<h1>A made-up study", "mlp on shapes: control, linear and linear shuffled. 15 networks, 5 seeds."]
    order += [answer["text"] for answer in study["answers"]]
    order += ['id="most-telling"', study["about"][0], ">Hypotheses<", "Short wires make maps.", ">Results<"]
    order += ["another laboratory", ">What differs<", "Over test items, or over networks?", 'id="score-against']
    order += ['id="maps-2-output"', 'id="correlation', 'id="wires', "Every measure", 'id="spatial_variance"']
    order += ['id="pruning"', 'id="training"', "Every network", "locality-prior study study.yaml"]
    places = [text.find(words) for words in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)


def test_nothing_of_the_page_needs_torch(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1,))
    code = (
        "import sys, pathlib\n"
        "from locality_prior import report\n"
        "from locality_prior.report import tables\n"
        f"report.write(pathlib.Path({str(tmp_path)!r}))\n"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in ('torch', 'torchvision', 'lightning_fabric')))"
    )
    path = os.pathsep.join([str(HOME.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_no_data_set_or_network_is_named() -> None:
    named = re.compile("mnist|imagenet|cifar|olivetti|lenet|alexnet|resnet|gpt", re.IGNORECASE)
    for path in HOME.glob("*.*"):
        assert not named.search(path.read_text(encoding="utf-8")), path.name


@pytest.mark.slow
def test_a_page_of_eighty_networks(tmp_path: Path) -> None:
    names = ["linear", "sqrt", "quadratic", "within 2", *(f"linear, weight decay {k}" for k in range(4))]
    conditions: dict[str, tuple[str, str | None]] = {"control": ("flat", None)} | dict.fromkeys(names, ("x", None))
    conditions["within 2 shuffled"] = ("x", "within 2")
    group = Group(conditions=conditions, sheets={"input": (7, 7), "output": (7, 7)}, classes=list("0123456789"))
    write_study(tmp_path, [group], seeds=range(1, 9))
    begun = time.process_time()
    path = report.write(tmp_path)
    assert time.process_time() - begun < 30
    assert path.stat().st_size < 3_000_000
    text = text_of(path)
    assert "80 networks, 8 seeds" in text
    assert "4 more conditions are left out of this figure." in text


@pytest.mark.usefixtures("unpainted")
def test_groups_are_sections_with_tables_and_maps_of_their_own(tmp_path: Path) -> None:
    conditions: dict[str, tuple[str, str | None]] = {"plain": ("flat", None), "near": ("linear@3", None)}
    other = Group("sheets on shapes", model="sheets", conditions=conditions, sheets={f"s{k}": (4, 4) for k in range(3)})
    write_study(tmp_path, [Group(), other])
    source = report.write(tmp_path).read_text(encoding="utf-8")
    first, second = (part.partition("</section>")[0] for part in source.split("<section")[1:])
    assert "<h2>mlp on shapes</h2>" in first
    assert "<h2>sheets on shapes</h2>" in second
    assert "linear shuffled" in first
    assert "linear shuffled" not in second
    assert "another laboratory" in first
    assert "another laboratory" not in second
    shown = re.findall(r'<figure id="([^"]+)"', source)
    assert len(shown) == len(set(shown))
    assert all(f'id="2-maps-{k + 1}-s{k}"' in second for k in range(3) if f"“s{k}”" not in source.split("<section")[0])


@pytest.mark.usefixtures("unpainted")
def test_what_failed_and_what_is_undefined_is_told(tmp_path: Path) -> None:
    write_study(
        tmp_path, failed=[("linear", 2)], recorded=[("control", 1)], undefined=["spatial_variance.input", "loss"]
    )
    text = text_of(report.write(tmp_path))
    assert "1 of 15 networks without a result" in text
    assert "linear, seed 2: The loss became NaN in epoch 2; try a smaller learning rate." in text
    study = study_of(tmp_path)
    group = study.found["groups"][0]
    assert tables.networks(study, group).rows[2][:2] == ["linear", "4"]
    assert "loss" not in tables.networks(study, group).rows[0]
    variances = [row[3] for row in tables.sheets(study, group).rows[1:] if row[0] == "input"]
    assert variances == ["–"] * 3


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize(
    "group",
    [
        Group(sheets={"graph": None}),
        Group(classes=None),
        Group(sheets={"line": (1, 30)}),
        Group(conditions={"control": ("flat", None)}),
    ],
    ids=["cannot be drawn", "no labels", "a line", "no condition"],
)
def test_a_page_without_something(group: Group, tmp_path: Path) -> None:
    write_study(tmp_path, [group], recorded=[(c, s) for c in group.conditions for s in range(1, 6)])
    source = report.write(tmp_path).read_text(encoding="utf-8")
    drawable = bool(group.classes) and None not in group.sheets.values() and len(group.conditions) > 1
    assert ('id="most-telling"' in source) == drawable
    assert 'id="training"' not in source
    assert 'id="pruning"' not in source
    assert "Every network" in source


# What is most telling, and what is most certain


def planted(directory: Path, sheet: str, condition: str, value: float) -> None:
    """Let ``condition`` have this Moran's I on ``sheet`` in every network."""
    path = directory / "study.json"
    found = json.loads(path.read_text())
    for cell in found["cells"]:
        if cell["condition"] == condition:
            cell["measures"][f"morans_i.{sheet}"] = value
    for one in found["comparisons"]:
        if (one["condition"], one["measure"]) == (condition, f"morans_i.{sheet}"):
            one["evidence"] = 100 * value
    path.write_text(json.dumps(found))


@pytest.mark.parametrize("sheet", ["input", "output"])
def test_the_most_telling_picture_is_of_the_sheet_that_differs_most(sheet: str, tmp_path: Path) -> None:
    write_study(tmp_path)
    planted(tmp_path, sheet, "linear", 0.9)
    telling = pictures.most_telling(files.read(tmp_path))
    assert telling is not None
    assert telling.subject == (sheet, ("control", "linear", "linear shuffled"), 1)
    assert f"“{sheet}”" in telling.caption
    assert any("I = 0.90" in ax.get_ylabel().replace("\xa0", " ") for ax in telling.figure.axes)


def test_the_most_telling_picture_is_not_about_a_null(tmp_path: Path) -> None:
    write_study(tmp_path)
    planted(tmp_path, "input", "linear shuffled", 0.9)
    planted(tmp_path, "output", "linear", 0.8)
    telling = pictures.most_telling(files.read(tmp_path))
    assert telling is not None
    assert telling.subject[:2] == ("output", ("control", "linear", "linear shuffled"))


def test_a_weak_map_is_seen_beside_a_strong_one(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1,))
    path = tmp_path / "runs" / "0-1-seed1" / "measures.npz"
    arrays = dict(np.load(path))
    arrays["sheet/output/class_means"] *= 0.001 / arrays["sheet/output/class_means"].max()
    np.savez(path, **arrays)
    study = files.read(tmp_path)
    group = study.found["groups"][0]
    maps = pictures.class_maps(study, group, "output", group["conditions"], "maps")
    assert maps is not None
    rows: dict[str, float] = {}
    for ax in maps.figure.axes[:-1]:
        row = ax.get_subplotspec().rowspan.start
        rows[row] = max(rows.get(row, 0), float(ax.images[0].get_array().max()))
    assert list(rows.values()) == pytest.approx([1, 1, 1])
    assert re.search(r"0\.000\d+ \(linear\)", maps.caption)
    assert "each row is divided by the value that one in a hundred of its responses exceeds" in maps.caption


def test_maps_share_one_scale_and_the_first_common_seed(tmp_path: Path) -> None:
    write_study(tmp_path, failed=[("linear shuffled", 1)])
    telling = pictures.most_telling(files.read(tmp_path))
    assert telling is not None
    assert telling.subject[2] == 2
    limits = {ax.images[0].get_clim() for ax in telling.figure.axes if ax.images and len(ax.get_title()) < 8}
    assert len(limits) == 1


def test_maps_fit_into_the_first_screenful(tmp_path: Path) -> None:
    write_study(tmp_path, [Group(classes=list("0123456789"), sheets={"output": (32, 32)})], seeds=(1,))
    telling = pictures.most_telling(files.read(tmp_path))
    assert telling is not None
    width, height = telling.figure.get_size_inches() * page.PAGE_DPI
    scale = min(telling.scale, layout.WIDE * page.PAGE_DPI / width)
    width, height = width * scale, height * scale
    assert height < 450
    map_width = telling.figure.axes[0].get_position().width * width
    assert map_width > 60


def test_comparisons_are_ranked_by_evidence_and_forced_ones_are_apart(tmp_path: Path) -> None:
    write_study(tmp_path)
    study = study_of(tmp_path)
    group = study.found["groups"][0]
    for one in study.found["comparisons"]:
        one["evidence"] = 0.0
    chosen = next(
        c for c in study.found["comparisons"] if c["measure"] == "loss" and c["condition"] == "linear shuffled"
    )
    chosen["evidence"] = 3.0
    rows = tables.comparisons(study, group).rows
    assert rows[1][:2] == ["linear shuffled − control", "loss"]
    assert not any("wire length" in row[1] for row in rows)
    forced = tables.comparisons(study, group, forced=True).rows
    assert len(forced) > 1
    assert all("wire length" in row[1] for row in forced[1:])


@pytest.mark.usefixtures("unpainted")
def test_few_seeds_are_said_to_say_little(tmp_path: Path) -> None:
    for n in (1, 2, 4, 5):
        directory = tmp_path / str(n)
        write_study(directory, [Group(sheets={"output": (4, 4)}, classes=None)], seeds=range(n))
        text = text_of(report.write(directory))
        assert ("one seed cannot say" in text) == (n == 1)
        assert ("So few seeds say little" in text) == (1 < n < 5)
        assert ("seeds needed" in text) == (n >= 5)
        assert ("d_z" in text) == (n >= 5)


def test_curves_are_averaged_bin_by_bin() -> None:
    x = np.arange(4) + 0.5
    same = pictures._band([(x, np.array([1.0, 2, 3, 4])), (x + 0.1, np.array([3.0, 4, 5, 6]))])
    assert same[0].tolist() == pytest.approx([0.55, 1.55, 2.55, 3.55])
    assert same[1].tolist() == [2, 3, 4, 5]
    lacking = pictures._band(
        [(np.array([1.0, 2.1, 3]), np.array([1.0, 2, 3])), (np.array([0.9, 3]), np.array([3.0, 5]))]
    )
    assert lacking[1].tolist() == [2, 2, 4]
    assert np.isnan(lacking[2]).tolist() == [False, True, False]


def test_a_panel_of_curves_shows_the_lines_and_not_only_wide_bands(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1, 2))
    for path in tmp_path.glob("runs/*-seed1/measures.npz"):
        arrays = dict(np.load(path))
        arrays["sheet/output/curve"][1, -1] = 0.4  # of two networks, an interval of ± 2.5
        arrays["sheet/input/curve"] = arrays["sheet/input/curve"][:, :1]
        np.savez(path, **arrays)
    for path in tmp_path.glob("runs/*-seed2/measures.npz"):
        arrays = dict(np.load(path))
        arrays["sheet/input/curve"] = arrays["sheet/input/curve"][:, :1]
        np.savez(path, **arrays)
    study = files.read(tmp_path)
    picture = pictures.correlation(study, study.found["groups"][0], "")
    assert picture is not None
    (ax,) = picture.figure.axes  # a curve of one point is no curve
    heights = np.concatenate([line.get_ydata() for line in ax.get_lines()])
    low, high = ax.get_ylim()
    assert low <= heights.min() < heights.max() <= high
    assert high - low <= 3.01 * np.ptp(heights)


def test_lines_of_one_colour_have_different_strokes(tmp_path: Path) -> None:
    conditions: dict[str, tuple[str, str | None]] = {"near": ("x", None), "near, lr 1": ("x", None)}
    write_study(tmp_path, [Group(conditions={"control": ("flat", None)} | conditions)], seeds=(1,))
    study = files.read(tmp_path)
    group = study.found["groups"][0]
    for made in (pictures.correlation, pictures.training, pictures.pruning):
        picture = made(study, group, "")
        assert picture is not None
        lines = [line for line in picture.figure.axes[0].get_lines() if not line.get_label().startswith("_")]
        assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(lines) == 3


def test_one_epoch_makes_no_training_curve(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1,))
    for path in tmp_path.glob("runs/*/metrics.csv"):
        path.write_text("\n".join(path.read_text().splitlines()[:2]) + "\n")
    study = files.read(tmp_path)
    assert pictures.training(study, study.found["groups"][0], "") is None


def test_a_legend_that_fits_stands_in_one_row(tmp_path: Path) -> None:
    names = ("near", "farther", "exponential shuffled")
    conditions = {"control": ("flat", None)} | dict.fromkeys(names, ("x", None))
    write_study(tmp_path, [Group(conditions=conditions)], seeds=(1,))
    study = files.read(tmp_path)
    picture = pictures.trade(study, study.found["groups"][0], "")
    assert picture is not None
    assert picture.figure.legends[0]._ncols == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("needed", "near", "said"),
    [(4, 31, "4 to 31"), (12, None, "12 or more"), (None, None, "–"), (3, 3, "3"), (1200, 45000, "1,200 to 45,000")],
)
def test_seeds_needed_with_the_near_end(needed: int | None, near: int | None, said: str) -> None:
    assert tables._needed({"seeds_needed": needed, "seeds_needed_near_end": near}) == said


def test_a_comparison_across_groups_names_them() -> None:
    told = {"a": ("net on rows", "control"), "b": ("net on rows", "linear"), "c": ("other on rows", "control")}
    study = files.Study({"conditions": {k: {"group": group, "label": label} for k, (group, label) in told.items()}})
    assert tables.pair(study, {"condition": "b", "control": "a"}) == "linear − control"
    said = tables.pair(study, {"condition": "b", "control": "c"})
    assert said == "linear (net on rows) − control (other on rows)"


def test_means_with_their_intervals(tmp_path: Path) -> None:
    write_study(tmp_path)
    study = study_of(tmp_path)
    group = study.found["groups"][0]
    table = tables.networks(study, group)
    values = np.array(list(study.values("linear", "accuracy").values()))
    assert table.rows[2][2] == f"{values.mean():.2f} ± {2.776445 * values.std(ddof=1) / 5**0.5:.2f}"
    assert table.rows[4] == ["control, another laboratory", "", "98.1", "0.101", ""]
    assert table.published == {4}


def test_means_have_no_more_decimals_than_their_intervals_bear_out(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1, 2, 3))
    rng = np.random.default_rng(1)
    study = study_of(tmp_path)
    for cell in study.found["cells"]:
        for sheet, spread in (("input", 0.01), ("output", 0.02)):
            cell["measures"][f"morans_i.{sheet}"] = 0.0002 + spread * float(rng.normal())
    table = tables.sheets(study, study.found["groups"][0])
    column = table.rows[0].index("Moran's I of class maps")
    shown = [row[column] for row in table.rows[1:]]
    assert {len(part.partition(".")[2]) for cell in shown for part in cell.split(" ± ")} <= {3, 4}
    assert len({len(cell.partition(".")[2]) for cell in shown}) == 1


def test_an_undefined_spatial_variance_is_explained_and_not_compared(tmp_path: Path) -> None:
    study = write_study(tmp_path, undefined=["spatial_variance.output"])
    none = {"mean_difference": None, "t": None, "p": None, "n": 0}
    for one in study["comparisons"]:
        if one["measure"] == "spatial_variance.output":
            one |= {"n": 0, "per_item": [none, none]}
    (tmp_path / "study.json").write_text(json.dumps(study))
    found = study_of(tmp_path)
    group = found.found["groups"][0]
    assert tables.without_variance(found, group) == ["output"]
    rows = tables.over_items(found, group).rows[1:]
    assert {row[1] for row in rows} == {"spatial variance, input"}
    assert "The spatial variance of “output” is undefined" in text_of(report.write(tmp_path))


def test_tests_over_items_stand_beside_the_verdict_over_networks(tmp_path: Path) -> None:
    write_study(tmp_path)
    study = study_of(tmp_path)
    one = next(c for c in study.found["comparisons"] if "per_item" in c)
    below = {"seed": 1, "mean_difference": -1.0, "t": -9.0, "p": 0.001, "n": 9}
    one["per_item"] = [below, below, below | {"mean_difference": 1.0}, below | {"p": 0.6}, below | {"p": None}]
    one["ci"] = [-2.0, 0.5]
    row = tables.over_items(study, study.found["groups"][0]).rows[1]
    assert row[2:] == ["4", "2", "1", "1", "no difference found"]
    one["ci"] = [-2.0, -0.5]
    assert tables.over_items(study, study.found["groups"][0]).rows[1][-1] == "lower"


# Methods at several strengths


def compared(directory: Path, group: Group, **how: Any) -> tuple[files.Study, dict[str, Any], list[methods.Method]]:
    write_study(directory, [group], **how)
    study = files.read(directory)
    (told,) = study.found["groups"]
    return study, told, methods.methods(study, told)


def test_methods_are_their_conditions_weakest_first(tmp_path: Path) -> None:
    group = group_of_methods(2, strengths=(2, 0.5, 1, 4))
    group.conditions = dict(reversed(group.conditions.items()))  # the control is found wherever it stands
    group.conditions = {"control": ("flat", None)} | group.conditions
    found = compared(tmp_path, group, seeds=(1,))[2]
    assert [m.name for m in found][:1] == ["control"]
    (one,) = (m for m in found if m.name == "topoloss")
    assert one.conditions == ("topoloss:0.5", "topoloss:1", "topoloss:2", "topoloss:4")
    assert one.middle == "topoloss:1"
    assert [m.control for m in found] == [True] + [False] * 5


@pytest.mark.parametrize(
    ("told", "are"),
    [
        ({"a": Strength("control"), "b": Strength("prior: x"), "c": Strength("prior: x shuffled")}, False),
        ({"a": Strength("control"), "b": Strength("blur", 1, "blur")}, False),
        ({"a": Strength("control"), "b": Strength("blur", 1, "blur"), "c": Strength("mask", 1, "mask")}, True),
        ({"a": Strength("control"), "b": Strength("blur", 1, "blur"), "c": Strength("blur", 2, "blur")}, True),
        ({c: Strength(c) for c in "abcdefg"}, True),
        ({"a": Strength("control"), "b": Strength("control"), "c": Strength("control")}, False),
        ({}, False),
    ],
)
def test_when_methods_are_compared_as_such(told: dict[str, Strength], are: bool, tmp_path: Path) -> None:
    conditions: dict[str, tuple[str, str | None]] = dict.fromkeys(told or "abc", ("x", None))
    assert bool(compared(tmp_path, Group(conditions=conditions, methods=told), seeds=(1,))[2]) == are


@pytest.mark.usefixtures("unpainted")
def test_a_page_of_methods_opens_with_their_frontiers(tmp_path: Path) -> None:
    write_study(tmp_path, [group_of_methods(7)], seeds=(1, 2))
    source = report.write(tmp_path).read_text(encoding="utf-8")
    order = ["What each method gives", "11 methods, 25 conditions, 2 networks of each.", 'id="frontier"']
    order += ['id="frontier-costs"', 'id="maps-2-sheet-2"', ">Results<", "at its middle strength:", ">Maps<"]
    order += [">Wires, time, and how alike", ">What networks withstand<", "All 25 conditions", "What differs"]
    order += ['id="accuracy"', 'id="training"', 'id="objectives"', "Every network"]
    places = [source.find(words) for words in order]
    assert -1 not in places, order[places.index(-1)]
    assert places == sorted(places)
    assert 'id="score-against' not in source
    made = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"training-2.png", "training-2.pdf", "correlation-by-distance-2.png"} <= made
    assert "Each method at its middle strength. Other methods: figures/training-2.png." in source
    assert "training-2.png" not in re.findall(r'<figure id="([^"]+)"', source)


@pytest.mark.usefixtures("unpainted")
def test_a_page_of_a_few_conditions_is_as_it_was(tmp_path: Path) -> None:
    told = {"control": Strength("control"), "linear": Strength("prior: linear", maps=1)}
    told |= {"linear shuffled": Strength("prior: linear shuffled")}
    pages = []
    for k, group in enumerate((Group(), Group(methods=told))):
        write_study(tmp_path / str(k), [group], seeds=(1, 2))
        pages.append(report.write(tmp_path / str(k)).read_text(encoding="utf-8"))
    without, with_methods = (re.findall(r"<(?:h\d|figure)[^>]*>[^<]*", text) for text in pages)
    assert without == [one for one in with_methods if not any(base in one for base in ("_score", "weight_", "normed"))]


def test_numbers_of_methods_are_averaged_over_sheets_of_whole_networks(tmp_path: Path) -> None:
    study, group, found = compared(tmp_path, group_of_methods(2), seeds=(1, 2, 3))
    cells = [c for c in study.found["cells"] if c["condition"] == "topoloss:1"]
    for k, cell in enumerate(cells):
        cell["measures"] |= {"morans_i.sheet 1": 0.1 * k, "morans_i.sheet 2": 0.3}
    cells[2]["measures"]["morans_i.sheet 2"] = None
    assert methods.averaged(study, "topoloss:1", methods.parts_of(study, group, "morans_i")) == {
        1: pytest.approx(0.15),
        2: pytest.approx(0.2),
    }
    ((about, maps), (_, costs), (_, damage)) = tables.of_methods(study, group, found)
    assert about == "Maps"
    assert len(maps.rows) == len(costs.rows) == len(damage.rows) == 11
    row = next(row for row in maps.rows if row[:2] == ["topoloss", "1"])
    assert row[maps.rows[0].index("Moran's I of class maps")].startswith("0.17")  # 0.175 ± …
    assert [r[:2] for r in maps.rows[1:4]] == [["control", "–"], ["linear@3", "–"], ["linear@3 shuffled", "–"]]
    costs_of = dict(
        zip(costs.rows[0], next(r for r in costs.rows if r[:2] == ["spatial_correlation", "2"]), strict=True)
    )
    assert costs_of["time of an epoch (control = 1)"].startswith("1.3")
    assert re.fullmatch(r"0\.\d{3} \(0\.110\)", costs_of["likeness of maps (by chance)"])
    assert [row[1] for row in tables.of_methods(study, group, found, middle=True)[0][1].rows[5:]] == ["1", "1"]
    assert "networks" not in maps.rows[0]


def test_networks_are_counted_where_conditions_have_more_or_fewer(tmp_path: Path) -> None:
    study, group, found = compared(tmp_path, group_of_methods(2), seeds=(1, 2), failed=[("topoloss:1", 1)])
    table = tables.of_methods(study, group, found)[0][1]
    assert table.rows[0][2] == "networks"
    assert [row[2] for row in table.rows if row[0] == "topoloss"] == ["2", "1", "2"]
    assert tables.of_methods(study, group, found, middle=True)[0][1].rows[0][2] == "networks"


def test_a_score_far_below_all_others_does_not_squeeze_them(tmp_path: Path) -> None:
    study, group, found = compared(tmp_path, group_of_methods(5), seeds=(1, 2))
    for cell in study.found["cells"]:
        if cell["condition"] == "topoloss:2":
            cell["measures"]["accuracy"] = 20.0
    first, _ = frontiers.frontiers(study, group, found, "")
    large = first.figure.axes[0]
    assert large.get_ylim()[0] > 90
    assert "Triangles at the edge stand for means far beyond it: topoloss:2 (20.00)." in first.caption
    assert any(line.get_marker() == "v" and line.get_zorder() == 6 and len(line.get_xdata()) for line in large.lines)
    for cell in study.found["cells"]:
        if cell["condition"] == "topoloss:2":
            cell["measures"]["accuracy"] = 97.0
    first, _ = frontiers.frontiers(files.Study(study.found, study.runs), group, found, "")
    assert "Triangles" not in first.caption


def test_no_text_of_a_frontier_is_cut_off(tmp_path: Path) -> None:
    study, group, found = compared(tmp_path, group_of_methods(20, layers=3), seeds=(1, 2))
    for picture in frontiers.frontiers(study, group, found, ""):
        figure = picture.figure
        figure.draw_without_rendering()
        texts = list(figure.legends[0].get_texts())
        for ax in figure.axes:
            texts += [ax.xaxis.label, ax.yaxis.label, ax.title]
        boxes = [text.get_window_extent() for text in texts if text.get_text()]
        assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
        assert all(box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height for box in boxes)
        legend = figure.legends[0].get_window_extent()
        assert all(ax.get_window_extent().x1 < legend.x0 for ax in figure.axes)
        labels = [ax.xaxis.label.get_window_extent() for ax in figure.axes if ax.get_xlabel()]
        assert not any(a.overlaps(b) for k, a in enumerate(labels) for b in labels[:k])


def test_maps_of_methods_are_of_one_seed_and_leave_out_those_without(tmp_path: Path) -> None:
    study, group, found = compared(
        tmp_path, group_of_methods(3), seeds=(1, 2), failed=[("topoloss:1", 2), ("control", 1)]
    )
    picture = frontiers.maps(study, group, found, "sheet 2", "maps")
    assert picture is not None
    sheet, rows, seed = picture.subject
    assert (sheet, seed, len(rows)) == ("sheet 2", 1, 6)
    assert "control" not in rows
    assert picture.caption.endswith(" 1 more method is left out of this figure.")


def test_objectives_are_drawn_unweighted(tmp_path: Path) -> None:
    study, group, found = compared(tmp_path, group_of_methods(3), seeds=(1, 2))
    picture = frontiers.objectives(study, group, found, "")
    assert picture is not None
    titles = [ax.get_title() for ax in picture.figure.axes if ax.get_visible()]
    assert titles == ["topoloss", "spatial_correlation", "absolute_correlation"]
    lines = picture.figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == ["0.5", "1", "2"]
    runs = [study.runs["topoloss:1", seed].metrics["topoloss"] for seed in (1, 2)]
    assert lines[1].get_ydata() == pytest.approx(np.mean(runs, axis=0))
    assert "Each panel has a scale of its own." in picture.caption


def test_the_training_of_a_few_conditions_shows_their_objective(tmp_path: Path) -> None:
    told = {"control": Strength("control"), "blur:2": Strength("blur", 2, "blur")}
    conditions: dict[str, tuple[str, str | None]] = dict.fromkeys(told, ("flat", None))
    study, group, found = compared(tmp_path, Group(conditions=conditions, methods=told), seeds=(1,))
    assert not found
    picture = pictures.training(study, group, "")
    assert picture is not None
    (ax,) = (ax for ax in picture.figure.axes if ax.get_ylabel() == "blur, unweighted")
    assert len(ax.get_lines()) == 1


@pytest.mark.usefixtures("unpainted")
def test_thousands_of_comparisons_are_folded_and_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "FOLDED", 20)
    monkeypatch.setattr(page, "OF_MEASURES", 60)
    write_study(tmp_path, [group_of_methods(3)], seeds=(1, 2))
    source = report.write(tmp_path).read_text(encoding="utf-8")
    assert "<summary>20 more comparisons</summary>" in source
    assert re.search(r"\d{2,} more are in <code>study.json</code>", source)
    apart = source.partition("Other measures, whose figures would make this page too large")[2].partition("</p>")[0]
    assert len(re.findall("<code>[a-z_]+.png</code>", apart)) > 5
    assert all((tmp_path / "figures" / name).exists() for name in re.findall(r"<code>([a-z_]+\.png)", apart))


@pytest.mark.usefixtures("unpainted")
def test_methods_without_times_likeness_or_maps(tmp_path: Path) -> None:
    group = group_of_methods(3)
    group.classes = None
    found = write_study(tmp_path, [group], seeds=(1, 2), recorded=[(c, s) for c in group.conditions for s in (1, 2)])
    del found["likeness"]
    for cell in found["cells"]:
        cell["measures"] = {k: v for k, v in cell["measures"].items() if k in ("accuracy", "loss")}
    found["comparisons"], found["hypotheses"] = [], []
    (tmp_path / "study.json").write_text(json.dumps(found))
    source = report.write(tmp_path).read_text(encoding="utf-8")
    assert "What each method gives" in source
    assert "frontier" not in source
    assert "<strong>" not in source
    assert "Times depend" not in source
    assert "Likeness" not in source


@pytest.mark.slow
def test_a_page_of_three_hundred_and_fifty_networks(tmp_path: Path) -> None:
    group = group_of_methods(22, side=24, classes=10, layers=3)
    write_study(tmp_path, [group], seeds=range(1, 6))
    begun = time.process_time()
    path = report.write(tmp_path)
    assert time.process_time() - begun < 60
    assert path.stat().st_size < 6_000_000


# Names that mean harm, and files that are damaged


def test_hostile_names_are_text(tmp_path: Path) -> None:
    long = "w" * 10_000
    conditions = {
        "_" + HOSTILE: ("flat", None),
        long: ("x", None),
        long + "2": ("x", long),
        "../../up\u202e\x1b[31m\n日本": ("x", None),
    }
    group = Group(HOSTILE, HOSTILE, long, conditions, {HOSTILE: (6, 6), "../../up": (5, 9)}, [HOSTILE, long, "a", "b"])
    write_study(tmp_path / "in", [group], seeds=(1, 2), title=HOSTILE, about=[long, HOSTILE], says=HOSTILE)
    source = report.write(tmp_path / "in").read_text(encoding="utf-8")
    assert "<script>" not in source
    assert html.escape("<script>alert(", quote=False) in source
    assert "\u202e" not in source
    assert "\x1b" not in source
    assert "w" * 2001 not in source
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    for path in (tmp_path / "in" / "figures").iterdir():
        assert re.fullmatch(r"[a-z0-9_-]{1,60}\.(png|pdf)", path.name)


@pytest.mark.slow
def test_hostile_names_of_methods_are_text(tmp_path: Path) -> None:
    long = "w" * 10_000
    told = {
        "control": Strength("control"),
        "a": Strength("_" + HOSTILE, 1, "a$_b"),
        "b": Strength("_" + HOSTILE, 1e299, "a$_b"),
    }
    told |= {"c": Strength(long, -1.5, "c"), "d": Strength(long + "2", 1)}
    conditions: dict[str, tuple[str, str | None]] = dict.fromkeys(told, ("x", None))
    group = Group(conditions=conditions, methods=told, sheets={HOSTILE: (3, 4), "_$x": (3, 4)}, classes=["a"])
    write_study(tmp_path, [group], seeds=(1, 2))
    source = report.write(tmp_path).read_text(encoding="utf-8")
    assert 'id="frontier"' in source
    assert 'id="objectives"' in source
    assert "<script>" not in source
    assert "w" * 2001 not in source
    assert all(re.fullmatch(r"[a-z0-9_-]{1,60}\.(png|pdf)", path.name) for path in (tmp_path / "figures").iterdir())


def test_labels_of_figures_are_never_alike_and_no_markup() -> None:
    labels = words.told_apart(["a" * 100, "a" * 101, "_hidden", "$x$"], 10)
    assert len(set(labels)) == 4
    assert labels[2] == "hidden"
    assert labels[3] == r"\$x\$"


def test_the_terminal_shows_names_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = write_study(tmp_path, seeds=(1, 2), says="[/x] [red]maps[/red] \x1b[31m")
    tables.show(*tables.tables(found))
    shown = capsys.readouterr().out
    assert "[/x] [red]maps[/red]" in " ".join(shown.split())
    assert "\x1b" not in shown
    assert shown.index("Moran's I rose") < shown.index("[/x]") < shown.index("accuracy (%)")


def test_the_terminal_takes_other_tables(capsys: pytest.CaptureFixture[str]) -> None:
    tables.show([["[red]", "detail"], ["[/]", "words"]], prose="detail")
    assert "[red]" in (shown := capsys.readouterr().out)
    assert "[/]" in shown


LIKE = {"condition": "linear", "sheet": "input", "pairs": 1, "representation": 0.9, "map": None, "chance": None}
DAMAGE: dict[str, Any] = {
    "truncated": lambda run: (run / "measures.npz").write_bytes((run / "measures.npz").read_bytes()[:400]),
    "empty": lambda run: (run / "measures.npz").write_bytes(b""),
    "missing": lambda run: (run / "measures.npz").unlink(),
    "a pipe": lambda run: ((run / "measures.npz").unlink(), os.mkfifo(run / "measures.npz")),
    "objects": lambda run: np.savez(run / "measures.npz", classes=np.array([{}], dtype=object)),
    "wrong shape": lambda run: np.savez(run / "measures.npz", **{"sheet/output/xy": np.zeros((3, 2))}),
    "a flipped bit": lambda run: flip(run / "measures.npz"),
    "metrics": lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n1,x\n"),
    "metrics cut short": lambda run: (run / "metrics.csv").write_text("epoch,train_loss\n1\n"),
    "metrics not text": lambda run: (run / "metrics.csv").write_bytes(b"\xff\xfe\x00"),
    "pruning": lambda run: (run / "pruning.csv").write_text("by,share\nweight,1\n"),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_leaves_the_old_page(damage: str, tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1, 2))
    (tmp_path / "report.html").write_text("the old page")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_bytes(b"an old figure")
    DAMAGE[damage](tmp_path / "runs" / "0-1-seed2")
    with pytest.raises(Problem) as caught:
        report.write(tmp_path)
    said = str(caught.value)
    assert "\n" not in said
    assert "0-1-seed2" in said
    assert f"{damage.split()[0] if damage[:2] in ('me', 'pr') else 'measures'}." in said
    assert "run the study again" in said
    assert (tmp_path / "report.html").read_text() == "the old page"
    assert [p.read_bytes() for p in tmp_path.glob("figures/*")] == [b"an old figure"]
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("groups"), "no 'groups'"),
        (lambda s: s["groups"][0].pop("sheets"), "no 'sheets'"),
        (lambda s: s["groups"][0].update(control="nobody"), "nobody"),
        (lambda s: s["cells"][0].update(condition="nobody"), "nobody"),
        (lambda s: s["comparisons"][0].update(measure="nothing"), "nothing"),
        (lambda s: s["comparisons"][0].update(p="0.05"), "p is '0.05', not whole number or number or null"),
        (lambda s: s["comparisons"][0].update(ci=[1]), "two numbers"),
        (lambda s: s["cells"][0].update(run="../../elsewhere"), "outside"),
        (lambda s: s["cells"][0].update(run="/etc"), "outside"),
        (lambda s: s["conditions"]["linear"].update(method=3), "method is 3, not text or null"),
        (lambda s: s["conditions"]["linear"].update(strength="1"), "strength is '1', not"),
        (lambda s: s["conditions"]["linear"].update(strength=10**400), "a strength is beyond all numbers"),
        (lambda s: s.update(likeness={}) or s.update(likeness={"a": 1}), "likeness is"),
        (lambda s: s.update(likeness=[LIKE | {"condition": "nobody"}]), "nobody"),
        (lambda s: s.update(likeness=[LIKE | {"map": "0.5"}]), "map is '0.5'"),
        (lambda s: s["groups"][0]["sheets"]["input"].update(places={"kind": "cubes"}), "cubes"),
    ],
)
def test_a_damaged_study_is_one_line(change: Any, said: str, tmp_path: Path) -> None:
    found = write_study(tmp_path, seeds=(1,))
    change(found)
    (tmp_path / "study.json").write_text(json.dumps(found))
    with pytest.raises(Problem, match=re.escape(said)) as caught:
        report.write(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"title": 3}', "\x00"])
def test_what_is_no_study(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="directory: got"):
        report.write(tmp_path)
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(Problem, match=r"study\.json cannot be read"):
        report.write(tmp_path)


@pytest.mark.usefixtures("unpainted")
def test_old_figures_go_and_links_are_not_followed(tmp_path: Path) -> None:
    write_study(tmp_path / "in", seeds=(1,))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    (tmp_path / "in" / "figures").symlink_to(outside)
    (tmp_path / "in" / "report.html").symlink_to(outside / "mine.txt")
    report.write(tmp_path / "in")
    assert [p.name for p in outside.iterdir()] == ["mine.txt"]
    assert (outside / "mine.txt").read_text() == "mine"
    (tmp_path / "in" / "figures" / "stale.png").write_bytes(b"")
    report.write(tmp_path / "in")
    assert not (tmp_path / "in" / "figures" / "stale.png").exists()
    assert not (tmp_path / "in" / "figures").is_symlink()


@pytest.mark.usefixtures("unpainted")
def test_a_page_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_study(tmp_path, seeds=(1,))
    report.write(tmp_path)
    before = sorted(p.name for p in tmp_path.rglob("*"))

    def fail(*_: Any) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(pictures, "training", fail)
    with pytest.raises(Problem, match=r"cannot be written into .*: the disk is full"):
        report.write(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("unpainted")
def test_a_directory_in_the_place_of_the_page(tmp_path: Path) -> None:
    write_study(tmp_path, [Group(classes=None)], seeds=(1,))
    (tmp_path / "report.html").mkdir()
    with pytest.raises(Problem, match="is a directory"):
        report.write(tmp_path)
    assert not (tmp_path / "figures").exists()


# Priors, drawn without a study


def test_priors_are_drawn(tmp_path: Path) -> None:
    *lines, path = prior.draw_priors(["4x4", "5"], "linear", tmp_path / "prior.pdf")
    assert path == str(tmp_path / "prior.pdf")
    assert (tmp_path / "prior.pdf").stat().st_size > 1000
    assert_text_is_text(tmp_path / "prior.pdf")
    assert "256 wires of 256" in lines[0]
    assert "25 wires of 25" in lines[1]
    assert prior.centre(Grid(7, 7)) == 24
    assert "16 wires of 16" in prior.draw_priors(["torus:2x2", "hex:3x4"], "linear", tmp_path / "prior.png")[0]
    for sheets, out in ((["4x4x4"], "a.png"), (["4x"], "a.png"), (["4x4"], "a.txt"), (["4x4"], "no/a.png")):
        with pytest.raises(ValueError, match="got"):
            prior.draw_priors(sheets, "linear", tmp_path / out)


# Numbers and names


@pytest.mark.parametrize(
    ("value", "among", "said"),
    [
        (98.1, [98.1, 97.25], "98.10"),
        (8.6674, [8.6], "8.667"),
        (-0.0312, [0.36], "−0.031"),
        (0.11149, [0.11149], "0.111"),
        (1234567.0, [1e6], "1,234,567"),
        (-0.0001, [0.5], "0.000"),
        (None, [1.0], "–"),
        (float("nan"), [1.0], "–"),
        (4e12, [4e12], "4.000e+12"),
    ],
)
def test_numbers(value: float | None, among: list[float], said: str) -> None:
    assert words.fixed(value, words.decimals(among)) == said


def test_names() -> None:
    assert words.plain("a\n\t b\u202ec") == "a b c"
    assert len(words.plain("x" * 10_000)) <= words.LONGEST
    assert words.slug("../../Äb C!") == "b-c"
    assert words.listed(["a"]) == "a"
    assert words.listed("abc") == "a, b and c"
    assert words.listed(["a, b", "c"]) == "a, b; and c"
    assert words.listed(["a, b", "c", "d"]) == "a, b; c; and d"
    assert words.listed("abcdefgh") == "a, b, c, d, e and 3 more"
    assert words.p_value(1e-9) == "< 0.0001"


# The explorer


def explored(page: str) -> list[dict[str, Any]]:
    """What each explorer of a page shows."""
    return [
        json.loads(text) for text in re.findall(r'<div data-explorer="">\s*<script[^>]*>(.*?)</script>', page, re.S)
    ]


def test_the_page_has_an_explorer_of_all_networks(tmp_path: Path, unpainted: None) -> None:
    write_study(tmp_path)
    page = report.write(tmp_path).read_text()
    (shown,) = explored(page)
    study = files.read(tmp_path)
    assert {(n["name"], n["seed"]) for n in shown["networks"]} == {(study.label(c), seed) for c, seed in study.done}
    assert shown["note"] == ""
    first = shown["networks"][0]
    assert first["sheets"].keys() == {"input", "output"}
    assert first["sheets"]["output"]["epochs"] == [0, 2, 4]
    assert (first["layers"]["input to output"]["source"], first["layers"]["input to output"]["target"]) == (
        "input",
        "output",
    )
    assert page.count("export function mount") == 1
    assert shown["against"] == "linear"  # as in the picture above, and not its null


def test_each_group_has_its_explorer_and_the_page_the_module_once(tmp_path: Path, unpainted: None) -> None:
    write_study(
        tmp_path, groups=[Group("first"), Group("second", conditions={"other": ("flat", None)}, classes=["a", "b"])]
    )
    page = report.write(tmp_path).read_text()
    assert [len(one["classes"]) for one in explored(page)] == [6, 2]
    assert page.count("export function mount") == 1


def test_an_explorer_without_room_shows_fewer_seeds_then_less_detail_then_fewer_conditions(tmp_path: Path) -> None:
    write_study(tmp_path, seeds=(1, 2, 3))
    study = files.read(tmp_path)
    group = study.found["groups"][0]

    def shown(room: int) -> tuple[dict[str, Any], int]:
        packed = exploring.scene(study, group, room)
        assert packed is not None
        return packed[0], exploring._on_page(packed[1])

    whole, size = shown(10**8)
    conditions = len(group["conditions"])
    assert len(whole["networks"]) == 3 * conditions
    fewer, less = shown(size // 2)
    assert less <= size // 2
    assert [n["seed"] for n in fewer["networks"]] == [1] * conditions
    assert fewer["networks"][0]["layers"]
    assert fewer["note"].startswith(f"To keep this page small: {2 * conditions} of {3 * conditions} networks left out")
    rooms = [less // k for k in (1, 2, 4, 8, 16, 32)]
    made = [exploring.scene(study, group, room) for room in rooms]
    for room, one in zip(rooms, made, strict=True):
        assert one is None or exploring._on_page(one[1]) <= room
    thinned = [one[0] for one in made if one is not None]
    assert re.search("wires, correlations and epochs thinned out", thinned[0]["note"])
    assert len(thinned[0]["networks"]) % conditions == 0
    assert any(not one["networks"][0]["layers"] for one in thinned)
    assert any(len(one["networks"]) < conditions for one in thinned)
    assert exploring.scene(study, group, 1) is None  # not even one network


def test_networks_with_other_classes_are_left_out_of_the_explorer(tmp_path: Path, unpainted: None) -> None:
    """Their maps are not those of these names."""
    write_study(tmp_path, seeds=(1, 2, 3))
    fewer, turned, none = sorted(tmp_path.glob("runs/0-1-*/measures.npz"))
    arrays = dict(np.load(fewer))
    one_less = {
        k: a[:-1] if (a.ndim == 2 and "class_means" in k) or "selectivity" in k or k == "classes" else a
        for k, a in arrays.items()
    }
    np.savez(fewer, **{k: a[:, :-1] if "epoch_means" in k else a for k, a in one_less.items()})
    np.savez(turned, **(dict(np.load(turned)) | {"classes": np.arange(6)[::-1]}))
    np.savez(
        none,
        **{k: a for k, a in np.load(none).items() if "class" not in k and "selectivity" not in k and "epoch" not in k},
    )
    (shown,) = explored(report.write(tmp_path).read_text())
    assert len(shown["networks"]) == 6
    assert "Without maps of these classes, and left out: 3 networks." in shown["note"]


def test_what_runs_did_not_keep_is_not_shown(tmp_path: Path, unpainted: None) -> None:
    write_study(tmp_path)
    for path in tmp_path.glob("runs/*/measures.npz"):
        arrays = {key: a for key, a in np.load(path).items() if key.rpartition("/")[2] not in files.OF_UNITS}
        np.savez(path, **arrays)
    (shown,) = explored(report.write(tmp_path).read_text())
    sheet = shown["networks"][0]["sheets"]["output"]
    assert sheet["means"]["shape"] == [6, 64]
    assert sheet["epoch_means"] is sheet["factors"] is None
    assert shown["networks"][0]["layers"] == {}


def test_sheets_on_a_surface_are_drawn_on_it(tmp_path: Path) -> None:
    vertices, faces = icosphere(2)
    vertices = np.rint(vertices * 32_767).astype(np.int16)
    group = Group(on=(vertices, faces), sheets={"input": (4, 4), "output": (9, 18)})
    write_study(tmp_path, groups=[group], seeds=(1, 2))
    study = files.read(tmp_path)
    packed = exploring.scene(study, study.found["groups"][0], 10**7)
    assert packed is not None
    assert len(packed[0]["surfaces"]) == 1
    assert [one["kind"] for one in packed[0]["places"]] == ["surface", "surface"]
    first, *others = [run.network.sheets["output"].places for run in study.runs.values() if run.network]
    assert others
    assert all(one.surface is first.surface and one.cover is first.cover for one in others)
    assert not any("vert" in key or "faces" in key for run in study.runs.values() for key in run.arrays)
    telling = pictures.most_telling(study)
    assert telling is not None
    maps = telling.figure
    drawn = [ax for ax in maps.axes if ax.images and len(ax.texts) == 2]
    assert [t.get_text() for t in drawn[0].texts] == ["lateral view", "medial view"]


def test_units_that_moved_have_a_figure_and_move_in_the_explorer(tmp_path: Path, unpainted: None) -> None:
    write_study(tmp_path, groups=[Group(moving=("output",))], seeds=(3,))
    written = report.write(tmp_path).read_text()
    assert "Where the units moved" in written
    (shown,) = explored(written)
    sheets = shown["networks"][0]["sheets"]
    assert (sheets["input"]["epoch_xy"], sheets["output"]["epoch_xy"]["shape"]) == (None, [3, 64, 2])
    study = files.read(tmp_path)
    (picture,) = pictures.positions(study, study.found["groups"][0], "")
    assert picture.name == "positions-2-output"
    axes = [ax for ax in picture.figure.axes if ax.collections]
    assert len(axes) == 3 * 3
    assert [ax.get_title() for ax in axes[:3]] == ["before training", "epoch 2", "epoch 4"]
    assert [ax.get_ylabel() for ax in axes[::3]] == ["control", "linear", "linear shuffled"]
    assert "networks of seed 3" in picture.caption
    narrow = picture.at(90)
    assert narrow.get_size_inches()[0] == pytest.approx(90 / 25.4)


def test_a_study_without_maps_has_no_explorer(tmp_path: Path, unpainted: None) -> None:
    write_study(tmp_path, groups=[Group("only", classes=None)])
    page = report.write(tmp_path).read_text()
    assert explored(page) == []
    assert "Look at the networks" not in page


@pytest.mark.parametrize(
    ("key", "damaged"),
    [
        ("sheet/output/epoch_means", np.zeros((2, 2))),
        ("sheet/output/factors", np.zeros((3, 4))),
        ("wires/input to output/origin", np.full((64, 8), 1000)),
        ("wires/input to output/rank", np.array("text")),
    ],
)
def test_damaged_arrays_of_units_are_told(key: str, damaged: Any, tmp_path: Path, unpainted: None) -> None:
    write_study(tmp_path)
    path = next(tmp_path.glob("runs/*/measures.npz"))
    np.savez(path, **(dict(np.load(path)) | {key: damaged}))
    with pytest.raises(Problem, match=r"measures.npz cannot be read: .*To write it anew, run the study again"):
        report.write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_hostile_names_stay_text_in_the_explorer(tmp_path: Path, unpainted: None) -> None:
    write_study(tmp_path, groups=[Group("g", classes=["</script><script>alert(1)</script>", "b"])])
    page = report.write(tmp_path).read_text()
    assert "<script>alert(1)" not in page
    assert explored(page)[0]["classes"][1] == "b"

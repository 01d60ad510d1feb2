"""Figures of a page again, for print: their widths, their texts, and the command that makes them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_study import Group, group_of_methods, write_study
from matplotlib.figure import Figure
from PIL import Image
from texts import cut, drawn_texts, over_each_other

from locality_prior import cli, report
from locality_prior.report import figures, files, layout, page, pictures, saving

WEIGHTED = "linear@3, weight decay 0.01"
#: Studies, and the beginnings of the names of the figures to look at; "" is all.
GROUPS = {
    "small": (Group(), ("",)),
    "long names": (
        Group(
            conditions={"plain": ("flat", None), WEIGHTED: ("x", None), f"{WEIGHTED}, shuffled": ("x", WEIGHTED)},
            sheets={f"layers.{k}.attention": (5, 5) for k in range(4)},
            classes=["tabby cat", "golden retriever", "fox", "zebra", "hippopotamus", "rhinoceros beetle", "owl"],
        ),
        ("maps-2", "correlation", "training", "morans_i"),
    ),
    "methods": (group_of_methods(7, side=6, classes=10), ("frontier", "maps-2", "objectives", "random_lesion")),
}


@pytest.fixture(scope="module", params=GROUPS)
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pictures.Picture]:
    group, begin = GROUPS[request.param]
    directory = tmp_path_factory.mktemp("study")
    write_study(directory, [group], seeds=(1, 2))
    found = page.pictures_of(files.read(directory))
    return {name: picture for name, picture in found.items() if name.startswith(begin)}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    write_study(tmp_path / "study", seeds=(1, 2))
    return tmp_path / "study"


# Laid out for a width


@pytest.mark.parametrize("width", [85, 180])
def test_no_text_is_cut_off_or_lies_over_another(shown: dict[str, pictures.Picture], width: float) -> None:
    for name, picture in shown.items():
        figure = picture.at(width)
        texts = drawn_texts(figure)
        assert figure.get_figwidth() * 25.4 == pytest.approx(width), name
        assert len(texts) > 5
        assert cut(figure, texts) == [], name
        assert over_each_other(texts) == [], name


def test_the_check_of_texts_bites() -> None:
    figure = Figure(figsize=(2, 2))
    figure.text(0.5, 0.5, "over")
    figure.text(0.55, 0.52, "each other")
    figure.text(0.1, 0.1, "alone")
    figure.text(0.9, 0.3, "beyond the edge")
    assert over_each_other(drawn_texts(figure)) == [("over", "each other")]
    assert cut(figure, drawn_texts(figure)) == ["beyond the edge"]
    slanted = Figure(figsize=(2, 2))
    for k in range(2):
        slanted.text(0.2 + 0.15 * k, 0.2, f"slanted text {k}", rotation=40, rotation_mode="anchor")
    assert over_each_other(drawn_texts(slanted)) == []
    slanted.texts[1].set_x(0.22)
    assert over_each_other(drawn_texts(slanted)) == [("slanted text 0", "slanted text 1")]


def test_text_has_one_size_at_every_width(small: Path) -> None:
    wires = page.pictures_of(files.read(small))["wires-by-length"]

    def sizes(figure: Figure) -> set[float]:
        drawn_texts(figure)
        texts = [*figure.legends[0].get_texts(), figure.axes[0].xaxis.label, *figure.axes[0].get_xticklabels()]
        return {text.get_fontsize() for text in texts}

    assert sizes(wires.at(85)) == sizes(wires.at(180)) == sizes(wires.figure)


def test_panels_stand_in_as_many_columns_as_fit(small: Path) -> None:
    found = page.pictures_of(files.read(small))

    def columns(name: str, width: float) -> int:
        spec = found[name].at(width).axes[0].get_subplotspec()
        assert spec is not None
        return spec.get_gridspec().ncols

    assert [columns("correlation-by-distance", w) for w in (60, 85, 120, 180)] == [1, 1, 2, 2]
    assert [columns("pruning", w) for w in (85, 180)] == [2, 3]
    assert [columns("pruned_wires", w) for w in (85, 180)] == [1, 3]


def test_a_larger_font_has_fewer_panels_side_by_side(small: Path) -> None:
    picture = page.pictures_of(files.read(small))["correlation-by-distance"]
    with plt.rc_context({"font.size": 18}):
        figure = picture.at(140)
        assert figure.axes[0].get_subplotspec().get_gridspec().ncols == 1  # type: ignore[union-attr]
        texts = drawn_texts(figure)
        assert cut(figure, texts) == over_each_other(texts) == []
        assert figure.axes[0].xaxis.label.get_fontsize() == 18


def test_maps_that_are_too_narrow_stand_in_several_lines(small: Path) -> None:
    maps = page.pictures_of(files.read(small))["most-telling"]

    def lines(figure: Figure) -> int:
        return len({round(ax.get_position().y0, 3) for ax in figure.axes if ax.images})

    assert [lines(maps.at(width)) for width in (60, 85, 180)] == [9, 6, 3]
    assert lines(maps.figure) == 3
    names = [t for t in drawn_texts(maps.at(85)) if t.startswith("linear,")]
    assert len(names) == 2  # each line of maps has the names of its rows


def test_ticks_whose_labels_meet_are_thinned_out() -> None:
    figure = Figure(figsize=(1.5, 1.5), layout="constrained")
    ax = figure.subplots()
    ax.set_xticks(range(7), [f"{10**k:,}" for k in range(7)])
    assert over_each_other(drawn_texts(figure))
    layout.settle(figure)
    assert over_each_other(drawn_texts(figure)) == []
    assert len([t for t in drawn_texts(figure) if "0" in t]) > 2


# As files


def test_a_png_has_a_palette_and_its_colours_stay(tmp_path: Path) -> None:
    """A diverging colour map with its bar, beside text and lines: more colours than a palette holds."""
    figure = Figure(figsize=(5, 3))
    left, right = figure.subplots(1, 2)
    drawn = left.imshow(np.linspace(-1, 1, 48 * 48).reshape(48, 48), cmap="RdBu_r")
    figure.colorbar(drawn, ax=left)
    for k, colour in enumerate(("#0072B2", "#D55E00", "#009E73")):
        right.plot([0, 1], [k, 3 - k], color=colour, alpha=0.85)
        right.fill_between([0, 1], [k, k], [k + 1, k + 1], color=colour, alpha=0.25)
    figure.savefig(tmp_path / "full.png", dpi=160)
    saving.save(figure, tmp_path / "few.png", 160)
    with Image.open(tmp_path / "full.png") as one, Image.open(tmp_path / "few.png") as other:
        assert other.mode == "P"
        full, few = (np.asarray(image.convert("RGB")).astype(int) for image in (one, other))
    assert len(np.unique(full.reshape(-1, 3), axis=0)) > 256
    assert np.abs(full - few).max() <= 16
    inside = left.get_window_extent().transformed(figure.dpi_scale_trans.inverted()).padded(-0.05).extents * 160
    x0, y0, x1, y1 = (int(v) for v in inside)
    of_map = (slice(480 - y1, 480 - y0), slice(x0, x1))
    assert np.abs(full[of_map] - few[of_map]).max() <= 8
    assert (few[0, 0] == 255).all()  # the paper is white
    assert (tmp_path / "few.png").stat().st_size < 0.6 * (tmp_path / "full.png").stat().st_size


def test_what_is_transparent_stays_so(tmp_path: Path) -> None:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1])
    with plt.rc_context({"savefig.transparent": True}):
        saving.save(figure, tmp_path / "a.png", 80)
    with Image.open(tmp_path / "a.png") as image:
        assert image.convert("RGBA").getpixel((0, 0))[3] == 0  # type: ignore[index]


# The command


def test_the_command_writes_a_figure_of_the_page(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["figure", str(small), "training", "--width", "85"]) == 0
    assert capsys.readouterr().out.split() == ["training.pdf", "training.png"]
    pdf = (tmp_path / "training.pdf").read_bytes()
    assert b"/Type0" in pdf
    assert b"/Type3" not in pdf
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(85 / 25.4 * 72, abs=0.01)
    with Image.open("training.png") as image:
        assert image.width == pytest.approx(85 / 25.4 * figures.DPI, abs=1)
    assert cli.main(["figure", str(small), "training", "--out", "paper/figures"]) == 0
    wide = pictures.training(study_of(small), study_of(small).found["groups"][0], "")
    assert wide is not None
    with Image.open("paper/figures/training.png") as image:
        assert image.width == pytest.approx(wide.figure.get_figwidth() * figures.DPI, abs=1)
    assert not (small / "figures").exists()


def study_of(directory: Path) -> files.Study:
    return files.read(directory)


def test_without_a_name_the_names_are_those_of_the_page(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.write(small)
    assert cli.main(["figure", str(small)]) == 0
    named = capsys.readouterr().out.split()
    assert sorted(named) == sorted(path.stem for path in (small / "figures").glob("*.png"))
    assert named[0] == "most-telling"
    for path in (small / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "P", path.name  # 256 colours


def test_names_of_a_page_of_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the page leaves in figures/ alone are among them; and to list them draws none."""
    write_study(tmp_path, [group_of_methods(7)], seeds=(1, 2))
    monkeypatch.setattr(Figure, "__init__", None)
    named = figures.names(tmp_path)
    assert {"frontier", "frontier-costs", "training", "training-2", "objectives"} <= set(named)
    assert len(named) == len(set(named))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trainin"], "name: got trainin, expected a figure of the page, such as training"),
        (["../training"], "name: got ../training, expected a figure of the page, such as training"),
        (["training", "--width", "10"], "width: got 10.0, expected 60 to 400 millimetres: less leaves no room"),
        (["training", "--width", "1e9"], "width: got 1000000000.0, expected 60 to 400 millimetres"),
        (["training", "--width", "nan"], "width: got nan, expected a finite number"),
        (["training", "--out", "study.json"], "study.json"),
    ],
)
def test_what_is_no_figure(
    words: list[str], said: str, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(small)
    before = sorted(small.rglob("*"))
    assert cli.main(["figure", ".", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert sorted(small.rglob("*")) == before


def test_a_directory_without_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["figure", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_no_figure_needs_torch(small: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom locality_prior.cli import main\n"
        f"main(['figure', {str(small)!r}, 'accuracy', '--width', '85'])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["accuracy.pdf", "accuracy.png", "False"], done.stderr


def test_the_readers_style_holds(small: Path, tmp_path: Path) -> None:
    """A matplotlibrc beside the paper: its sizes of text and lines are those of the figure."""
    (tmp_path / "matplotlibrc").write_text("font.size: 7\nlegend.fontsize: 5\nlines.linewidth: 3\n")
    code = (
        "import pathlib\nfrom locality_prior.report import files, page\n"
        f"figure = page.pictures_of(files.read(pathlib.Path({str(small)!r})))['training'].at(85)\n"
        "ax = figure.axes[0]\n"
        "print(ax.xaxis.label.get_size(), figure.legends[0].get_texts()[0].get_size(), ax.get_lines()[0].get_lw())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["7.0", "5.0", "1.8"], done.stderr

"""Plots: numbers and geometries in, Axes out. Limits, labels and counts of artists are checked, never pixels."""

import inspect
import json
import subprocess
import sys

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text

from locality_prior import plots
from locality_prior.analysis import response_correlation
from locality_prior.geometry import Distances, Graph, Grid, HexGrid, Line, Points, Sphere, default_sheet
from locality_prior.plots._page import colours_of
from locality_prior.plots.places import arrays_of

RNG = np.random.default_rng(0)
COSTS = 1.0 + np.abs(np.subtract.outer(np.arange(7), np.arange(7)))  # linear, of seven units in a row
CONTROL, LOCAL = "#7f7f7f", "#0072b2"


@pytest.fixture(autouse=True)
def _figures():
    yield
    if plt.get_fignums():
        plt.gcf().canvas.draw()  # what was drawn can be rendered, without a warning
    plt.close("all")


def ax_of_mine() -> Axes:
    return plt.subplots(layout="constrained")[1]


def bar_of(ax: Axes) -> Axes:
    """The Axes of the colour bar, which come last."""
    return ax.figure.axes[-1]


# sheet


def test_grid_is_an_image_with_row_0_on_top():
    ax = plots.sheet(torch.arange(12.0).requires_grad_(), Grid(3, 4), label="activation", title="a map")
    (image,) = ax.images
    assert image.get_array().tolist() == np.arange(12.0).reshape(3, 4).tolist()
    assert ax.get_ylim() == (2.5, -0.5)
    assert image.get_clim() == (0, 11)
    assert image.get_cmap().name == "viridis"
    assert ax.get_title() == "a map"
    assert bar_of(ax).get_ylabel() == "activation"
    assert [list(ax.get_xticks()), list(ax.get_yticks())] == [[0, 3], [0, 2]]


@pytest.mark.parametrize(
    ("values", "given", "limits", "cmap"),
    [
        ([-1.0, 3, 0, 2], {}, (-3, 3), "RdBu_r"),
        ([0.0, 0, 0, 0], {}, (0, 1), "viridis"),
        ([np.nan] * 4, {}, (0, 1), "viridis"),
        ([1.0, 2, np.inf, 3], {}, (0, 3), "viridis"),
        ([1.0, 2, 3, 4], {"vmin": 1, "vmax": 9, "cmap": "magma"}, (1, 9), "magma"),
        ([-1.0, 3, 0, 2], {"vmin": -2}, (-2, 3), "viridis"),
    ],
)
def test_scale(values, given, limits, cmap):
    (image,) = plots.sheet(values, Grid(2, 2), **given).images
    assert image.get_clim() == limits
    assert image.get_cmap().name == cmap


def test_nan_is_grey_and_a_missing_cell_blank():
    values = np.ones(320)
    values[7] = np.nan
    (image,) = plots.sheet(values, default_sheet(320)).images
    assert image.get_array().mask.sum() == 1 + 4
    assert image.get_alpha().sum() == 320
    assert image.get_alpha()[-1, -4:].tolist() == [0] * 4
    assert to_hex(image.get_cmap().get_bad()) == to_hex("0.85")
    assert plots.sheet(np.ones(6), Grid(2, 3)).images[0].get_alpha() is None


def test_spacing_sets_the_aspect():
    assert plots.sheet(np.ones(6), Grid(2, 3, spacing=(2.0, 1.0))).get_aspect() == 2


@pytest.mark.parametrize("n", [1, 7, 60])
def test_line_is_a_strip(n):
    ax = plots.sheet(RNG.random(n), Line(n), label="activation")
    assert ax.images[0].get_array().shape == (1, n)
    assert list(ax.get_yticks()) == []
    assert bar_of(ax).get_xlabel() == "activation"


@pytest.mark.parametrize(
    "geometry",
    [
        HexGrid(4, 5),
        HexGrid(1, 1),
        Sphere(30),
        Points(RNG.random((20, 2))),
        Points(RNG.random((9, 1))),
        Points([[1.0, 2]]),
    ],
    ids=repr,
)
def test_other_geometries_are_patches(geometry):
    values = RNG.normal(size=len(geometry))
    values[0] = np.nan
    ax = plots.sheet(values, geometry)
    (patches,) = ax.collections
    assert len(patches.get_paths()) == len(geometry)
    assert patches.get_array().mask.sum() == 1
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0


def centres(ax):
    return np.array([path.vertices[:-1].mean(axis=0) for path in ax.collections[0].get_paths()])


def test_places_of_patches():
    ax = plots.sheet(np.ones(6), HexGrid(2, 3))
    assert np.allclose(centres(ax), HexGrid(2, 3).positions.numpy()[:, ::-1])
    assert ax.yaxis.get_inverted()
    xy = RNG.random((8, 2))
    ax = plots.sheet(np.ones(8), Points(xy))
    assert np.allclose(centres(ax), xy)
    assert not ax.yaxis.get_inverted()


def test_sphere_stays_within_its_outline():
    sphere = Sphere(400)
    x, y = centres(plots.sheet(np.ones(400), sphere)).T / sphere.radius
    assert (x**2 / 8 + y**2 / 2 <= 1).all()
    # an equal-area projection: half of the units on the inner half of the area
    assert abs((x**2 / 8 + y**2 / 2 <= 0.5).mean() - 0.5) < 0.02


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (Grid(2, 2).with_channels(3), "without channels"),
        (Grid(2, 2, 2), "places on a plane or a sphere"),
        (Graph(np.ones((3, 3))), "knows distances alone"),
        (Distances(np.ones((2, 3))), "knows distances alone"),
        ("sheet", r"a Geometry, such as Grid\(32, 32\), or Places"),
        (None, r"a Geometry, such as Grid\(32, 32\), or Places"),
    ],
    ids=repr,
)
def test_geometries_that_cannot_be_drawn(geometry, message):
    with pytest.raises((ValueError, TypeError), match=f"^geometry: got .*, expected .*{message}") as error:
        plots.sheet(np.ones(4), geometry)
    assert "\n" not in str(error.value)


def test_values_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^values: got shape \(5,\), expected numbers of shape \(4,\)"):
        plots.sheet(np.ones(5), Grid(2, 2))
    with pytest.raises(ValueError, match=r"^values: got shape \(2, 2\), expected"):
        plots.sheet(np.ones((2, 2)), Grid(2, 2))
    with pytest.raises(ValueError, match=r"^values: got 'four', expected an array of numbers"):
        plots.sheet("four", Grid(2, 2))
    with pytest.raises(ValueError, match=r"^vmin, vmax: got 2, 1, expected vmin below vmax"):
        plots.sheet(np.ones(4), Grid(2, 2), vmin=2)
    assert plt.get_fignums() == []  # nothing is opened before all is checked


def test_a_colour_bar_is_as_long_as_the_drawing():
    _, (left, right) = plt.subplots(1, 2, figsize=(7, 6), layout="constrained")
    plots.sheet(np.ones(4), Grid(2, 2), left)
    plots.sheet(np.ones(4), Grid(2, 2), right, colorbar=False)
    left.figure.canvas.draw()
    bar, drawing = bar_of(left).get_window_extent(), left.get_window_extent()
    assert len(left.figure.axes) == 3
    assert np.allclose([bar.y0, bar.y1], [drawing.y0, drawing.y1])
    assert drawing.x1 < bar.x0 < right.get_window_extent().x0


# places

DRAWN = [
    Grid(3, 4),
    Grid(3, 4, spacing=(2.0, 1.0)),
    Line(5),
    default_sheet(7),
    HexGrid(3, 4),
    Sphere(30),
    Points(RNG.random((8, 2))),
    Points(RNG.random((8, 1))),
    Points(RNG.random((8, 3))),
]


@pytest.mark.parametrize("geometry", DRAWN, ids=repr)
def test_places_go_through_json_and_draw_what_their_geometry_draws(geometry):
    places = plots.Places.of(geometry)
    again = plots.Places.from_config(json.loads(json.dumps(places.config())), arrays_of({"a": places}), "a")
    assert plots.Places.of(again) is again
    assert again.config() == places.config()
    assert np.array_equal(again.xy, places.xy)
    assert len(again) == len(geometry)
    values = RNG.random(len(geometry))
    both = [plots.sheet(values, g) for g in (geometry, again)]
    for ax in both:
        ax.figure.canvas.draw()
    first, second = (np.asarray(ax.figure.canvas.buffer_rgba()) for ax in both)
    assert np.array_equal(first, second)
    titles = {plots.transmitted_signal(values, g, 3).get_title() for g in (geometry, again)}
    assert len(titles) == 1
    axes = plots.class_maps({"a": values[None]}, again)
    assert axes.shape == (1, 1)


def test_points_in_space_are_projected_onto_their_principal_axes():
    flat = RNG.normal(size=(50, 2)) * [3, 1]
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    seen = plots.Places.of(Points(np.hstack([flat, np.zeros((50, 1))]) @ turn + 7)).xy
    apart = np.linalg.norm(flat[:, None] - flat, axis=2)
    assert np.allclose(np.linalg.norm(seen[:, None] - seen, axis=2), apart)
    assert np.ptp(seen[:, 0]) > np.ptp(seen[:, 1])


@pytest.mark.parametrize(
    ("config", "xy", "name"),
    [
        ({"kind": "cells", "shape": [2, 2]}, np.ones((5, 2)), "shape"),
        ({"kind": "cells", "shape": []}, np.ones((1, 2)), "shape"),
        ({"kind": "cells", "shape": "22"}, np.ones((1, 2)), "shape"),
        ({"kind": "cells", "shape": [-1, -9]}, np.ones((1, 2)), "shape"),
        ({"kind": "cells", "shape": [2, 2], "spacing": [1.0]}, np.ones((4, 2)), "spacing"),
        ({"kind": "cells", "shape": [2, 2], "spacing": [0, 1]}, np.ones((4, 2)), "spacing"),
        ({"kind": "cells", "shape": [10**6, 10**6]}, np.ones((1, 2)), "shape"),
        ({"kind": "points", "shape": [2]}, np.ones((2, 2)), "shape"),
        ({"kind": "tiles"}, np.ones((2, 2)), "kind"),
        ({"kind": "sphere", "radius": "wide"}, np.ones((2, 2)), "radius"),
        ({"kind": "points"}, np.ones((2, 3)), "xy"),
        ({"kind": "points"}, np.full((2, 2), np.nan), "xy"),
        ({"kind": "points"}, np.ones((0, 2)), "xy"),
        ({"kind": "points", "colour": 1}, np.ones((2, 2)), "config"),
        ({}, np.ones((2, 2)), "config"),
        (None, np.ones((2, 2)), "config"),
    ],
)
def test_what_describes_no_places(config, xy, name):
    with pytest.raises((ValueError, TypeError), match=f"^{name}: got .*, expected "):
        plots.Places.from_config(config, {"sheet/a/xy": xy}, "a")


ALONE = """
import sys
import matplotlib
matplotlib.use("Agg")
import numpy as np
from locality_prior import analysis, plots
from locality_prior.analysis import statistics

xy = [[0, 0], [1, 0], [0, 1], [1, 1]]
grid = plots.Places.from_config({"kind": "cells", "shape": [2, 2]}, {"sheet/a/xy": xy}, "a")
plots.sheet(np.arange(4.0), grid)
plots.class_maps({"control": np.ones((3, 4)), "local": np.ones((3, 4))}, grid)
plots.seeds_by_condition({"a": [1.0, 2.0], "b": [2.0, 3.0]}, label="x", intervals={"a": (0, 1)})
plots.banded({"a": ([1, 2], [1, 2], [1, 1])}, x="x", y="y")
statistics.paired_comparison([1.0, 2, 4], [1.0, 1, 1])
analysis.mean_interval([1.0, 2.0, None])
analysis.selectivity([[1.0, 2], [1, 3], [1, 4], [1, 6]], [0, 0, 1, 1])
loaded = [name for name in ("torch", "locality_prior.geometry") if name in sys.modules]
assert not loaded, loaded
"""


def test_findings_and_pages_need_no_torch():
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_without_matplotlib_one_line_says_what_to_install():
    blocked = "import sys; sys.modules['matplotlib'] = None; import locality_prior as lp; lp.plots"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    last = 'Missing: plotting needs matplotlib, which is not installed: pip install "locality-prior[plots]"\n'
    assert done.stderr.endswith(last)


# transmitted signal


def test_transmitted_signal():
    ax = plots.transmitted_signal(torch.linspace(0.1, 0.9, 49), Grid(7, 7), 24)
    assert ax.images[0].get_clim() == (0, 1)
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[3, 3]]]
    assert ax.lines[0].get_markerfacecolor() == "none"
    assert ax.get_title() == "unit at row 3, column 3"
    assert bar_of(ax).get_ylabel() == "transmitted signal"


@pytest.mark.parametrize(
    ("geometry", "unit", "title", "at"),
    [
        (Grid(3, 5), 7, "unit at row 1, column 2", [2, 1]),
        (HexGrid(3, 5), 10, "unit at row 2, column 0", [0, 3**0.5]),
        (Line(5), 2, "unit 2", [2, 0]),
        (Points([[0.0, 1], [2, 3]]), np.int64(1), "unit 1", [2, 3]),
    ],
    ids=repr,
)
def test_the_ring_marks_the_unit(geometry, unit, title, at):
    ax = plots.transmitted_signal(np.full(len(geometry), 0.3), geometry, unit)
    assert ax.get_title() == title
    assert np.allclose(ax.lines[0].get_xydata(), [at])


def test_a_rescaled_signal_grows_the_scale():
    (image,) = plots.transmitted_signal([3.0, 1, np.nan, 1], Grid(2, 2), 0).images
    assert image.get_clim() == (0, 3)


@pytest.mark.parametrize("unit", [-1, 4, 1.5, "a"])
def test_no_such_unit(unit):
    with pytest.raises(ValueError, match=r"^unit: got .*, expected the number of a unit, from 0 to 3"):
        plots.transmitted_signal(np.ones(4), Grid(2, 2), unit)
    with pytest.raises(ValueError, match=r"^unit: got .*, expected the number of a unit, from 0 to 3"):
        plots.wiring(np.ones((4, 2)), unit=unit)


# class maps


def test_class_maps_share_one_scale():
    maps = {"control": RNG.random((3, 49)), "local": torch.rand(3, 49)}
    maps["control"][1, 5] = 7.0
    maps["control"][2, 6] = np.nan
    axes = plots.class_maps(maps, Grid(7, 7), classes=["cat", "dog", "cow"], label="mean")
    assert axes.shape == (2, 3)
    assert {ax.images[0].get_clim() for ax in axes.flat} == {(0, 7)}
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["control", "local"]
    assert [ax.get_title() for ax in axes[0]] == ["cat", "dog", "cow"]
    assert len(axes[0, 0].figure.axes) == 7  # one colour bar
    assert bar_of(axes[0, 0]).get_ylabel() == "mean"
    assert all(len(ax.get_xticks()) == len(ax.get_yticks()) == 0 for ax in axes.flat)
    assert axes[1, 2].images[0].get_array()[0, 0] == pytest.approx(float(maps["local"][2, 0]))


def test_class_maps_of_signed_numbers():
    axes = plots.class_maps({"local": RNG.normal(size=(2, 20))}, HexGrid(4, 5))
    (low, high), *others = [ax.collections[0].get_clim() for ax in axes.flat]
    assert low == -high
    assert others == [(low, high)]


def test_ten_classes_fit_a_page():
    axes = plots.class_maps({"a": RNG.random((10, 9)), "b": RNG.random((10, 9))}, Grid(3, 3))
    assert [ax.get_title() for ax in axes[0]] == list("0123456789")
    width, height = axes[0, 0].figure.get_size_inches()
    assert 7 <= width <= 10
    assert height < 3
    axes[0, 0].figure.canvas.draw()
    assert axes[0, 0].get_window_extent().width > 0.5 * axes[0, 0].figure.dpi


def test_class_maps_of_several_sheets():
    maps = {"first": RNG.random((3, 12)), "second": 9 * RNG.random((3, 20))}
    sheets = {"second": plots.Places.of(HexGrid(4, 5)), "first": Grid(3, 4)}
    axes = plots.class_maps(maps, sheets)
    assert [ax.images[0].get_array().shape for ax in axes[0]] == [(3, 4)] * 3
    scales = {ax.images[0].get_clim() for ax in axes[0]} | {ax.collections[0].get_clim() for ax in axes[1]}
    assert scales == {(0, maps["second"].max())}
    with pytest.raises(ValueError, match=r"^geometry: got sheets of \['first'\], expected one for each of"):
        plots.class_maps(maps, {"first": Grid(3, 4)})
    with pytest.raises(ValueError, match=r"^maps\['second'\]: got shape \(3, 20\), expected .* \(any, 12\)"):
        plots.class_maps(maps, Grid(3, 4))


@pytest.mark.parametrize("classes", [1, 10])
@pytest.mark.parametrize("name", ["3", "a class with a very long name, longer than most"])
@pytest.mark.parametrize("row", ["local", "linear@3, weight decay 0.01, shuffled"])
def test_no_text_of_class_maps_is_cut_off(row, name, classes):
    maps = {row: RNG.random((classes, 16)), "control": RNG.random((classes, 16))}
    axes = plots.class_maps(maps, Grid(4, 4), classes=[name] * classes, label="mean activation")
    figure = axes[0, 0].figure
    figure.canvas.draw()
    page = figure.bbox
    texts = [t for ax in figure.axes for t in ax.findobj(Text) if t.get_text() and t.get_visible()]
    for box in (t.get_window_extent() for t in texts):
        assert box.x0 >= page.x0 - 1, name
        assert box.x1 <= page.x1 + 1
        assert box.y0 >= page.y0 - 1
        assert box.y1 <= page.y1 + 1
    assert axes[0, 0].get_window_extent().width > 10


def test_class_maps_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^maps\['b'\]: got shape \(2, 9\), expected numbers of shape \(3, 9\)"):
        plots.class_maps({"a": np.ones((3, 9)), "b": np.ones((2, 9))}, Grid(3, 3))
    with pytest.raises(ValueError, match=r"^maps\['a'\]: got shape \(3, 8\), expected numbers of shape \(any, 9\)"):
        plots.class_maps({"a": np.ones((3, 8))}, Grid(3, 3))
    with pytest.raises(ValueError, match=r"^classes: got 2 names, expected 3, one for each class"):
        plots.class_maps({"a": np.ones((3, 9))}, Grid(3, 3), classes=["x", "y"])
    with pytest.raises(ValueError, match=r"^axes: got shape \(2,\), expected Axes of shape \(1, 3\)"):
        plots.class_maps({"a": np.ones((3, 9))}, Grid(3, 3), plt.subplots(1, 2)[1])


# wiring


def test_wiring_draws_a_line_for_each_wire_dear_ones_dark_and_last():
    ax = plots.wiring(COSTS)
    lines = ax.collections[0]
    assert len(lines.get_segments()) == 49
    assert lines.get_clim() == (1, 7)
    assert (np.diff(lines.get_array()) >= 0).all()
    lines.update_scalarmappable()
    greys = lines.get_colors()[:, 0]
    assert greys[0] > 0.8 > greys[-1] == 0
    assert [t.get_text() for t in ax.get_xticklabels()] == list("0123456")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["source", "target"]
    assert bar_of(ax).get_ylabel() == "cost of the wire"


def test_wiring_of_one_unit_keeps_the_scale():
    ax = plots.wiring(COSTS, unit=3, colorbar=False)
    lines = ax.collections[0]
    assert len(lines.get_segments()) == 7
    assert lines.get_clim() == (1, 7)
    assert {tuple(segment[1]) for segment in lines.get_segments()} == {(3.0, 1.0)}
    assert len(ax.figure.axes) == 1
    assert [t.get_text() for t in ax.child_axes[0].get_xticklabels()] == ["3"]


def test_wires_that_are_not_there_are_not_drawn():
    costs = np.array([[1.0, np.inf, 2], [np.nan, 1, 3]])
    ax = plots.wiring(costs)
    ends = {tuple(s[0]) + tuple(s[1]) for s in np.array(ax.collections[0].get_segments()).tolist()}
    # two targets opposite three sources sit at 0.25 and 1.75
    assert ends == {(0, 0, 0.25, 1), (2, 0, 0.25, 1), (1, 0, 1.75, 1), (2, 0, 1.75, 1)}
    assert len(plots.wiring(np.full((2, 2), np.inf)).collections[0].get_segments()) == 0
    assert plots.wiring(np.ones((1, 1))).collections[0].get_clim() == (1, 2)


def test_a_long_row_numbers_its_ends():
    ax = plots.wiring(np.ones((40, 40)))
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "39"]
    with pytest.raises(ValueError, match=r"^costs: got shape \(3,\), expected numbers of shape \(any, any\)"):
        plots.wiring(np.ones(3))


# measurements


def test_variance_by_class_shows_means_and_intervals():
    values = np.array([1.0, 2, 3, np.nan, 5, 7, np.nan])
    labels = torch.tensor([0, 0, 0, 0, 2, 2, 1])
    ax = plots.variance_by_class({"control": values, "local": values + 1}, labels, classes=["cat", "dog", "cow"])
    control, local = ax.containers
    points, _, (bars,) = control.lines
    assert np.array_equal(points.get_ydata(), [2, np.nan, 6], equal_nan=True)
    assert np.allclose(bars.get_segments()[0][:, 1], [2 - 1.96 / 3**0.5, 2 + 1.96 / 3**0.5])
    assert (points.get_color(), local.lines[0].get_color().lower()) == (CONTROL, LOCAL)
    assert (points.get_xdata() < local.lines[0].get_xdata()).all()
    assert [t.get_text() for t in ax.get_xticklabels()] == ["cat", "dog", "cow"]
    assert ax.get_ylabel() == "spatial variance"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["control", "local"]


def test_the_legend_does_not_cover_data():
    many = {c: RNG.random(100) for c in ("control", "local", "square", "root", "far")}
    ax = plots.variance_by_class(many, np.arange(100) % 10)
    ax.figure.canvas.draw()
    tops = [s[:, 1].max() for c in ax.containers for s in c.lines[2][0].get_segments()]
    legend = ax.get_legend().get_window_extent()
    assert legend.y0 > ax.transData.transform((0, max(tops)))[1]
    assert legend.x0 >= ax.bbox.x0
    assert legend.x1 <= ax.bbox.x1
    assert len({c.lines[0].get_color() for c in ax.containers}) == 5


def test_variance_without_a_defined_value():
    ax = plots.variance_by_class({"control": [np.nan, np.nan], "local": [1.0, 2.0]}, [3, 5])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["3", "5"]


def test_variances_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^variances\['a'\]: got shape \(3,\), expected numbers of shape \(2,\)"):
        plots.variance_by_class({"a": np.ones(3)}, [0, 1])
    for labels in ([0.5, 1], [-1, 0], [np.nan, 1], []):
        with pytest.raises(ValueError, match=r"^labels: got .*, expected whole numbers"):
            plots.variance_by_class({"a": np.ones(len(labels))}, labels)
    with pytest.raises(ValueError, match=r"^classes: got 1 names, expected a name for each class up to 1"):
        plots.variance_by_class({"a": np.ones(2)}, [0, 1], classes=["x"])


def test_correlation_by_distance():
    d = np.arange(1, 6)
    ax = plots.correlation_by_distance(
        {"local": (d, 1 / d, np.full(5, 0.1)), "control": (torch.tensor(d), 0 * d, [np.nan] * 5)}
    )
    zero, local, control = ax.lines
    assert list(zero.get_ydata()) == [0, 0]
    assert np.allclose(local.get_ydata(), 1 / d)
    assert (local.get_color().lower(), control.get_color()) == (LOCAL, CONTROL)
    assert np.allclose(ax.collections[0].get_datalim(ax.transData).ymax, 1.1)
    assert ax.get_xlabel() == "distance between units"
    assert ax.get_ylabel() == "response correlation"
    with pytest.raises(ValueError, match=r"^curves\['a'\]: got 2 arrays, expected a tuple of 3 arrays"):
        plots.correlation_by_distance({"a": (d, d)})
    with pytest.raises(ValueError, match=r"^curves\['a'\]: got shape \(4,\), expected numbers of shape \(5,\)"):
        plots.correlation_by_distance({"a": (d, d, d[:4])})


def test_correlation_by_distance_takes_what_the_analysis_returns():
    found = response_correlation(RNG.random((20, 12)), Grid(3, 4))
    ax = plots.correlation_by_distance({"local": found})
    assert np.array_equal(ax.lines[1].get_xdata(), found.distance)
    assert np.array_equal(ax.lines[1].get_ydata(), found.correlation)


@pytest.mark.parametrize("seeds", [1, 6])
def test_paired_seeds(seeds):
    values = {"control": np.arange(seeds) + 2.0, "local": np.arange(seeds) + 1.0}
    ax = plots.paired_seeds(values, label="variance")
    means, lines = ax.lines[:2], ax.lines[2:]
    assert [m.get_ydata()[0] for m in means] == [values["control"].mean(), values["local"].mean()]
    assert [m.get_color().lower() for m in means] == [CONTROL, LOCAL]
    assert [list(line.get_ydata()) for line in lines] == [[k + 2, k + 1] for k in range(seeds)]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["control", "local"]
    assert ax.get_ylabel() == "variance"


def test_a_seed_with_a_nan_is_left_out_of_both_sides():
    ax = plots.paired_seeds({"a": [1.0, np.nan, 3], "b": [1.0, 50, 5]}, label="x")
    assert [line.get_ydata()[0] for line in ax.lines[:2]] == [2, 3]
    assert len(ax.lines) == 2 + 2
    plots.paired_seeds({"a": [np.nan], "b": [1.0]}, label="x")
    with pytest.raises(ValueError, match=r"^values\['b'\]: got shape \(1,\), expected numbers of shape \(2,\)"):
        plots.paired_seeds({"a": [1.0, 2], "b": [1.0]}, label="x")


def test_pruning():
    share = [1, 0.5, 0.02]
    ax = plots.pruning({"control": (share, [[98, 97, 20], [97, 96, 30]]), "local": (share, [98, 98, 90])})
    assert len(ax.lines) == 3
    assert ax.get_xscale() == "log"
    assert [t.get_text() for t in ax.get_xticklabels()] == ["3", "10", "30", "100"]
    assert list(ax.lines[1].get_ydata()) == [97, 96, 30]
    with pytest.raises(ValueError, match="curves: got a share of 0, expected shares above 0"):
        plots.pruning({"a": ([1, 0], [98, 10])})


def test_training():
    epochs = np.arange(1, 5)
    ax = plots.training(
        {"control": (epochs, RNG.random((3, 4))), "quadratic": (epochs, [1.0, 2, 3, 4])}, label="test accuracy (%)"
    )
    assert [line.get_color() for line in ax.lines] == [CONTROL] * 3 + ["#D55E00"]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["control", "quadratic"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "test accuracy (%)")
    assert plots.training({"local": ([1], [0.5])}, label="loss").lines[0].get_marker() == "."
    with pytest.raises(ValueError, match=r"^curves\['a'\]: got shape \(2, 3\), expected numbers of shape \(any, 4\)"):
        plots.training({"a": (epochs, np.ones((2, 3)))}, label="loss")
    with pytest.raises(
        ValueError, match=r"^curves\['a'\]: got shape \(1, 2, 4\), expected numbers of shape \(any, 4\)"
    ):
        plots.training({"a": (epochs, np.ones((1, 2, 4)))}, label="loss")


# frontier

METHODS = {
    "control": [([0.0, 0.2], [98.0, 98.2])],
    "blur": [([0.1, 0.3], [98.0, 97.8]), ([0.4, 0.6], [97.0, 97.2]), ([0.8, np.nan], [60.0, 61.0])],
    "mask": [([0.5], [97.5])],
}


def marks(ax, name):
    """The marks of a method's means: (x, y, size), in the order of strength."""
    colour = next(line.get_color() for line in ax.lines if line.get_label() == name)
    own = [line for line in ax.lines if line.get_color() == colour and line.get_zorder() == 4 and len(line.get_xdata())]
    return [(line.get_xdata()[0], line.get_ydata()[0], line.get_markersize()) for line in own]


def test_a_frontier_joins_the_means_of_a_methods_strengths():
    ax = plots.frontier(METHODS, x="order", y="accuracy (%)")
    curve = next(line for line in ax.lines if len(line.get_xdata()) == 3 and line.get_zorder() == 3)
    assert np.stack(curve.get_data()) == pytest.approx(np.array([[0.2, 0.5, 0.8], [97.9, 97.1, 60.0]]))
    means = marks(ax, "blur")
    assert [m[:2] for m in means] == [pytest.approx(p) for p in ((0.2, 97.9), (0.5, 97.1), (0.8, 60.0))]
    assert means[0][2] < means[1][2] < means[2][2]
    star = next(line for line in ax.lines if line.get_label() == "control")
    assert star.get_marker() == "*"
    assert [float(v[0]) for v in star.get_data()] == pytest.approx([0.1, 98.1])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(METHODS)
    assert plots.frontier(METHODS, x="x", y="y", legend=False).get_legend() is None


def test_a_frontier_with_a_view_stays_within_its_figure():
    figure = plt.figure(figsize=(8, 6))
    ax = plots.frontier(METHODS, figure.add_subplot(), x="order", y="accuracy (%)", view=(0, 200), legend=False)
    figure.draw_without_rendering()
    assert ax.get_tightbbox().x0 > 0  # nothing stands beyond this view, and nothing is put into a corner for it


def test_a_mean_beyond_the_view_is_a_triangle_at_its_edge():
    ax = plots.frontier(METHODS, x="order", y="accuracy (%)", view=(96, 99))
    assert ax.get_ylim() == (96, 99)
    (triangle,) = (line for line in ax.lines if line.get_zorder() == 6 and len(line.get_xdata()))
    assert (triangle.get_marker(), triangle.get_xydata().tolist()) == ("v", [[0.8, 96]])


def test_thirty_methods_are_drawn_in_thirty_ways():
    names = [f"method {k}" for k in range(30)]
    ax = plots.frontier({name: [([k], [k]), ([k + 1], [k])] for k, name in enumerate(names)}, x="x", y="y")
    shown = {line.get_label(): line for line in ax.lines if line.get_label() in names}
    looks = [(s.get_color(), s.get_marker(), s.get_linestyle(), s.get_markerfacecolor()) for s in shown.values()]
    assert len(set(looks)) == 30
    assert len({look[:2] for look in looks}) == 30


def test_a_method_without_a_network_is_no_error():
    ax = plots.frontier({"a": [([], [])], "control": [([np.nan], [1.0])]}, x="x", y="y")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "control"]


# all of them

CALLS = {
    "sheet": lambda ax: plots.sheet(np.ones(4), Grid(2, 2), ax),
    "transmitted_signal": lambda ax: plots.transmitted_signal(np.ones(4), Grid(2, 2), 0, ax),
    "wiring": lambda ax: plots.wiring(np.ones((2, 2)), ax),
    "variance_by_class": lambda ax: plots.variance_by_class({"a": [1.0, 2]}, [0, 1], ax),
    "correlation_by_distance": lambda ax: plots.correlation_by_distance({"a": ([1], [1.0], [0.1])}, ax),
    "paired_seeds": lambda ax: plots.paired_seeds({"a": [1.0], "b": [2.0]}, ax, label="x"),
    "training": lambda ax: plots.training({"a": ([1, 2], [1.0, 2])}, ax, label="x"),
    "pruning": lambda ax: plots.pruning({"a": ([1, 0.1], [98.0, 90.0])}, ax),
    "frontier": lambda ax: plots.frontier({"a": [([1.0], [98.0])], "control": [([2.0], [97.0])]}, ax, x="x", y="y"),
    "banded": lambda ax: plots.banded({"a": ([1, 2], [1.0, 2], [0.1, 0.1])}, ax, x="x", y="y", level=0),
    "scatter": lambda ax: plots.scatter({"a": ([1.0], [2.0])}, ax, x="x", y="y"),
    "seeds_by_condition": lambda ax: plots.seeds_by_condition({"a": [1.0, 2]}, ax, label="x", intervals={"a": (1, 2)}),
    "differences_by_condition": lambda ax: plots.differences_by_condition(
        {"a": [1.0, 2]}, {"a": (1, 2)}, ax, label="x", notes={"a": ["p"]}, heads=["q"]
    ),
}
#: The same, and what takes several Axes or needs none of its own.
ALL = CALLS | {
    "class_maps": lambda axes: plots.class_maps({"a": np.ones((1, 4))}, Grid(2, 2), axes)[0, 0],
    "positions": lambda axes: plots.positions({"a": RNG.random((1, 4, 2))}, axes)[0, 0],
}


def test_each_function_takes_axes():
    assert set(ALL) == set(plots.__all__) - {"Places"}
    for name in CALLS:
        assert inspect.signature(getattr(plots, name)).parameters["ax"].default is None
    for several in (plots.class_maps, plots.positions):
        assert inspect.signature(several).parameters["axes"].default is None


def sizes_of(call, **style) -> tuple[set[float], list[float], set[str]]:
    """The sizes of texts, the widths of all lines and the sizes of all marks, and the fonts, in a style."""
    with plt.rc_context({key.replace("_", "."): value for key, value in style.items()}):
        ax = call(None)
        ax.figure.draw_without_rendering()
        texts = [t for t in ax.figure.findobj(Text) if t.get_text()]
        lines = [line for line in ax.get_lines() if not np.isscalar(line.get_xdata())]
        numbers = [size for line in lines for size in (line.get_lw(), line.get_ms())]
        numbers += [float(w) for c in ax.collections for w in c.get_linewidths() if isinstance(c, LineCollection)]
        return {round(t.get_fontsize(), 2) for t in texts}, numbers, {t.get_fontname() for t in texts}


@pytest.mark.parametrize("call", ALL.values(), ids=ALL)
def test_sizes_and_fonts_are_those_of_the_readers_style(call):
    texts, numbers, fonts = sizes_of(call)
    double, twice, serif = sizes_of(
        call, font_size=20, lines_linewidth=3, lines_markersize=12, font_family="DejaVu Serif"
    )
    assert texts
    assert double == {2 * size for size in texts}
    assert twice == pytest.approx([2 * number for number in numbers])
    assert (fonts, serif) == ({"DejaVu Sans"}, {"DejaVu Serif"})


def test_a_setting_of_the_readers_own_holds():
    """Where it is untouched, titles, ticks and legends are a little smaller than matplotlib's."""
    style = {"legend.fontsize": 5, "xtick.labelsize": 4, "ytick.labelsize": 3, "axes.titlesize": 2}
    with plt.rc_context(style):
        ax = plots.training({"a": ([1, 2], [1.0, 2])}, label="x")
        titled = plots.sheet(np.ones(4), Grid(2, 2), title="title")
    assert ax.get_legend().get_texts()[0].get_fontsize() == 5
    assert ax.get_xticklabels()[0].get_fontsize() == 4
    assert ax.get_yticklabels()[0].get_fontsize() == 3
    assert titled.title.get_fontsize() == 2


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_ax_given_is_used_and_returned(call):
    mine = ax_of_mine()
    before = dict(matplotlib.rcParams)
    assert call(mine) is mine
    assert len(plt.get_fignums()) == 1
    assert isinstance(call(None), Axes)
    assert len(plt.get_fignums()) == 2
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("given", ["an ax", 3, [1, 2], "figure", "array"])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_what_is_no_ax(call, given):
    figure = plt.figure()
    given = {"figure": figure, "array": figure.subplots(1, 2)}.get(given, given) if isinstance(given, str) else given
    with pytest.raises(TypeError, match=r"^ax: got .*, expected matplotlib Axes, or None for a new figure$") as error:
        call(given)
    assert "\n" not in str(error.value)
    assert plt.get_fignums() == [figure.number]
    plt.close(figure)


@pytest.mark.parametrize("axes", ["axes", 3, [1, 2, 3], {"a": 1}])
def test_what_are_no_axes(axes):
    with pytest.raises(TypeError, match=r"^axes: got .*, expected matplotlib Axes of shape"):
        plots.class_maps({"a": np.ones((3, 4))}, Grid(2, 2), axes)


#: Arguments that take numbers, by what an error calls them.
TAKES = {
    "values": [
        lambda x: plots.sheet(x, Grid(2, 2)),
        lambda x: plots.paired_seeds({"a": x}, label="x"),
        lambda x: plots.seeds_by_condition({"a": x}, label="x"),
    ],
    "signal": [lambda x: plots.transmitted_signal(x, Grid(2, 2), 0)],
    "maps": [lambda x: plots.class_maps({"a": x}, Grid(2, 2))],
    "costs": [lambda x: plots.wiring(x)],
    "labels": [lambda x: plots.variance_by_class({"a": [1.0, 2]}, x)],
    "variances": [lambda x: plots.variance_by_class({"a": x}, [0, 1])],
    "curves": [
        lambda x: plots.correlation_by_distance({"a": (x, x, x)}),
        lambda x: plots.correlation_by_distance({"a": x}),
        lambda x: plots.banded({"a": x}, x="x", y="y"),
        lambda x: plots.training({"a": (x, x)}, label="x"),
        lambda x: plots.pruning({"a": (x, x)}),
        lambda x: plots.pruning({"a": x}),
    ],
    "differences": [lambda x: plots.differences_by_condition({"a": x}, {}, label="x")],
    "points": [lambda x: plots.scatter({"a": (x, x)}, x="x", y="y"), lambda x: plots.scatter({"a": x}, x="x", y="y")],
    "methods": [
        lambda x: plots.frontier({"a": [(x, x)]}, x="x", y="y"),
        lambda x: plots.frontier({"a": x}, x="x", y="y"),
    ],
}
TAKEN = [(f"{name} {k}", name, call) for name, calls in TAKES.items() for k, call in enumerate(calls)]
NONSENSE = {
    "nothing": None,
    "a word": "values",
    "words": ["a", "b"],
    "ragged": [[1.0, 2.0], [1.0]],
    "objects": [object()],
    "complex": np.ones(4) * 1j,
    "too deep": np.ones((1, 1, 1, 1)),
    "masked": np.ma.masked_array(np.ones(4), [False, True, False, False]),
    "meta": torch.ones(4, device="meta"),
    "a geometry": Grid(2, 2),
}


@pytest.mark.parametrize("given", NONSENSE)
@pytest.mark.parametrize(("name", "call"), [t[1:] for t in TAKEN], ids=[t[0] for t in TAKEN])
def test_no_numbers(name, call, given):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}(\['a'\])?: got .*, expected ") as error:
        call(NONSENSE[given])
    assert "\n" not in str(error.value)
    assert plt.get_fignums() == []


OPTIONS = {
    "vmin": lambda x: plots.sheet(np.ones(4), Grid(2, 2), vmin=x),
    "vmax": lambda x: plots.sheet(np.ones(4), Grid(2, 2), vmax=x),
    "cmap": lambda x: plots.sheet(np.ones(4), Grid(2, 2), cmap=x),
    "unit": lambda x: plots.transmitted_signal(np.ones(4), Grid(2, 2), x),
    "level": lambda x: plots.banded({"a": ([1], [1], [1])}, x="x", y="y", level=x),
    "intervals": lambda x: plots.seeds_by_condition({"a": [1.0]}, label="x", intervals=x),
    "view": lambda x: plots.frontier({"a": [([1.0], [1.0])]}, x="x", y="y", view=x),
    "notes": lambda x: plots.differences_by_condition({"a": [1.0]}, {}, label="x", notes=x),
    "heads": lambda x: plots.differences_by_condition({"a": [1.0]}, {}, label="x", heads=x),
    "classes": lambda x: plots.class_maps({"a": np.ones((3, 4))}, Grid(2, 2), classes=x),
    "width": lambda x: plots.class_maps({"a": np.ones((3, 4))}, Grid(2, 2), width=x),
}


@pytest.mark.parametrize("given", ["nonsense", -7.5j, np.ones(2), pytest.param(object(), id="object")], ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_are_nonsense(name, given):
    with pytest.raises((ValueError, TypeError), match=rf"^{name}: got .*, expected ") as error:
        OPTIONS[name](given)
    assert "\n" not in str(error.value)
    assert plt.get_fignums() == []


def test_values_beyond_all_scales():
    for values in ([1e308, -1e308, 0, 1], [1e308] * 4, [5e-324, 0, 0, 0], [-1e308] * 4):
        plots.sheet(values, Grid(2, 2)).figure.canvas.draw()


def test_the_axes_given_to_class_maps_are_used():
    mine = plt.subplots(2, 3)[1]
    axes = plots.class_maps({"a": np.ones((3, 4)), "b": np.ones((3, 4))}, Grid(2, 2), mine)
    assert axes.tolist() == mine.tolist()
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize("given", [{}, [1.0, 2.0]])
def test_conditions_are_a_dict(given):
    expected = "got .*, expected a dict of condition → numbers"
    with pytest.raises(ValueError, match=f"^maps: {expected}"):
        plots.class_maps(given, Grid(2, 2))
    with pytest.raises(ValueError, match=f"^variances: {expected}"):
        plots.variance_by_class(given, [0, 1])
    with pytest.raises(ValueError, match=f"^curves: {expected}"):
        plots.correlation_by_distance(given)
    with pytest.raises(ValueError, match=f"^values: {expected}"):
        plots.paired_seeds(given, label="x")
    with pytest.raises(ValueError, match=f"^curves: {expected}"):
        plots.training(given, label="x")


def test_a_kind_of_condition_has_one_colour() -> None:
    colours = colours_of(["control", "linear", "sqrt", "control, weight decay 0.1", "linear, weight decay 0.1"])
    assert colours["control"] == colours["control, weight decay 0.1"]
    assert colours["linear"] == colours["linear, weight decay 0.1"] != colours["sqrt"]

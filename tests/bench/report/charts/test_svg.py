"""SVG pictures: colours by the page's theme, unique ids, text without markup."""

import re

import pytest
from standin_results import needs_bench

from cstl_edge.bench.report.charts import plots, svg

NAME = "a 1.23456 #0b0b03 $x_1$ url(#here)"


@needs_bench
def test_only_tags_are_changed_and_a_dollar_is_a_dollar():
    drawn = plots.strip_plot("T", [(NAME, "pytorch float32", [1.0, 2.0])]).svg
    assert f">{NAME}<" in drawn
    inside = "".join(re.findall(r"<[^>]+>", drawn.replace(NAME, "")))
    assert "#0b0b0" not in inside
    assert "var(--s3)" in inside  # PyTorch's colour
    assert "DejaVu" not in inside


@needs_bench
def test_the_same_picture_has_the_same_bytes_and_ids_that_a_page_numbers():
    rows = [("one", "openvino int8", [1.0, 2.0, 3.0])]
    first, again = (plots.strip_plot("T", rows).svg for _ in range(2))
    assert first == again
    names = re.findall(r' id="([^"]+)"', first)
    assert names
    assert all(name.startswith(svg.ID_PREFIX) for name in names)


@needs_bench
@pytest.mark.parametrize(
    ("low", "high"), [(1.011, 1.012), (0.95, 1.07), (1.0, 9.0), (0.03, 60.0), (1e-4, 1e9)]
)
def test_an_axis_has_two_to_seven_ticks_within_its_view(low, high):
    with svg.canvas(100) as (figure, axes):
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        svg.logarithmic_ticks(axes.xaxis)
        figure.draw_without_rendering()
        ticks = [x for x in axes.get_xticks() if low <= x <= high]
    assert 2 <= len(ticks) <= 7


def test_every_backend_has_a_colour_and_every_precision_a_shape():
    colours = {svg.backend_colour(f"{name} float32") for name in svg.BACKENDS}
    assert len(colours) == len(svg.BACKENDS)
    assert svg.backend_colour("trtexec x") not in colours
    shapes = {svg.precision_marker(f"openvino {name}, option") for name in svg.MARKERS}
    assert len(shapes) == len(svg.MARKERS)

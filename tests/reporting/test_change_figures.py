"""Waterfall and spider plot: well-formed, true to the numbers, safe with any name; pictures of pairs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.change import TimePoint, change
from medseg.measurement.lesions import lesions
from medseg.reporting.change_figures import Bar, Line, spider_of, spider_svg, waterfall_of, waterfall_svg
from medseg.reporting.change_table import change_csv, response_lines, responses_csv, rich_change

NAMESPACE = "{http://www.w3.org/2000/svg}"


def rects(svg: str) -> list[ET.Element]:
    return ET.fromstring(svg).findall(f"{NAMESPACE}rect")[:-3]  # the last three are the legend


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{NAMESPACE}text")]


@pytest.fixture(scope="module")
def table():
    """One lesion grows, one goes, one comes; scans of 60 × 60 × 40 voxels with a bright body."""
    grid = Geometry((60, 60, 40), np.diag([1.0, 1.0, 1.5, 1.0]))
    points = []
    for n, boxes in enumerate((((10, 10, 10, 8), (40, 40, 10, 6)), ((10, 10, 10, 12), (40, 12, 20, 6)))):
        array = np.zeros(grid.shape, np.uint8)
        for i, j, k, edge in boxes:
            array[i : i + edge, j : j + edge, k : k + edge] = 1
        volume = Volume(np.asfortranarray((array * 60 + 20).astype(np.int16)), grid, "CT", "HU")
        found = lesions(LabelMap(array, grid, (Segment(1, "tumour"),)), volume)
        points.append(TimePoint(found, 100.0 * n, volume=volume))
    return change(points[0], points[1:], volumetric=True)


def test_bars_are_as_tall_as_the_change():
    bars = [Bar("a", 100.0, 80.0, 120.0, True), Bar("b", 50.0, 20.0, 80.0, True), Bar("c", -50.0, -60.0, -40.0, True)]
    heights = [float(rect.get("height")) for rect in rects(waterfall_svg(bars, title="t"))]
    assert heights[0] / heights[1] == pytest.approx(2.0, rel=0.01)
    assert heights[1] == pytest.approx(heights[2], rel=0.01)


def test_bars_are_sorted_and_grey_within_error():
    svg = waterfall_svg([Bar("low", -40.0, -60, -20, True), Bar("none", 5.0, -5, 15, False), Bar("high", 80.0, 60, 99, True)], title="t")
    assert [t for t in texts(svg) if t in ("low", "none", "high")] == ["high", "none", "low"]
    assert [rect.get("fill") for rect in rects(svg)] == ["#c2410c", "#8a94a0", "#1d6fa5"]


def test_what_is_taller_than_the_scale_is_cut_and_its_number_stands_there():
    svg = waterfall_svg([Bar("huge", 5000.0, 4000.0, None, True)], title="t")
    assert "+5000 %" in texts(svg)
    assert float(rects(svg)[0].get("height")) < 400


@pytest.mark.parametrize("bars", [[], [Bar("only", 0.0)], [Bar(f"L{n}", float(n)) for n in range(200)]])
def test_none_one_and_very_many(bars):
    svg = waterfall_svg(bars, title="t")
    left_out = len(bars) - len(rects(svg))  # what has no bar is counted in words
    assert left_out <= 0 or f"{left_out} more lesions are in the table" in svg


def test_names_cannot_break_the_file():
    svg = waterfall_svg([Bar("<script>alert('&')</script>", 10.0, 5, 15, True)], title="a < b & c")
    assert "<script" not in svg
    ET.fromstring(svg)
    ET.fromstring(spider_svg([Line("<b>&'\"", ((0.0, 0.0, None, None), (9.0, 5.0, None, None)))]))


def test_zero_has_no_minus():
    assert "-0 %" not in "".join(texts(waterfall_svg([Bar("a", -0.2, -5, 5, False)], title="t")))


def test_the_figures_of_a_table(table):
    fall, spider = waterfall_of(table), spider_of(table)
    assert len(rects(fall)) == 2
    assert any("100 days after base" in text for text in texts(fall))
    assert any("(new)" in text for text in texts(fall))
    assert "RECIST 1.1: PD" in texts(spider)
    lines = ET.fromstring(spider).findall(f"{NAMESPACE}polyline")
    assert len(lines) == 2
    assert "days since base" in texts(spider)
    assert spider_of(table) == spider  # the same bytes for the same data


def test_names_at_the_end_of_many_lines_do_not_lie_on_each_other():
    lines = [Line(f"lesion-{n}", ((0.0, 0.0, None, None), (90.0, 10.0 + 0.1 * n, None, None))) for n in range(12)]
    svg = spider_svg(lines)
    heights = sorted(float(t.get("y")) for t in ET.fromstring(svg).iter(f"{NAMESPACE}text") if "lesion-" in (t.text or ""))
    assert len(heights) == 12
    assert min(np.diff(heights)) > 10


def test_tables_for_people_and_programs(table):
    lines = change_csv(table).splitlines()
    assert len(lines) == 1 + len(table.rows)
    header = lines[0].split(",")
    assert "'" not in change_csv(table)  # no cell here begins like a formula; an empty one stays empty
    assert {"percent_change", "percent_change_interval_low", "beyond_measurement_error", "doubling_time_days", "centre_r_mm"} <= set(header)
    assert [line.split(",")[0] for line in responses_csv(table).splitlines()] == ["rule", "RECIST 1.1", "volumetric"]
    assert rich_change(table).row_count == len(table.rows)
    said = "\n".join(response_lines(table))
    assert re.search(r"follow-up 1 \(day 100\): PD - sum [\d.]+ mm, .* from nadir", said)
    assert "doi:10.1016/j.ejca.2008.10.026" in said
    assert "doi:10.1186/s40644-015-0052-2" in said


def test_a_table_without_rows_is_written_too():
    grid = Geometry((9, 9, 9), np.eye(4))
    empty = TimePoint(lesions(LabelMap(np.zeros((9, 9, 9), np.uint8), grid, (Segment(1, "tumour"),))))
    table = change(empty, [empty])
    assert change_csv(table).startswith("lesion,")
    for svg in (waterfall_of(table), spider_of(table)):
        assert "no lesion can be compared" in texts(svg)


def test_pairs_are_drawn_for_every_status(table):
    from PIL import Image

    from medseg.reporting.change_pictures import lesion_pair_png

    for row in table.rows:
        png = lesion_pair_png(table, row)
        import io

        picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
        yellow = (picture[..., 0] > 180) & (picture[..., 1] > 140) & (picture[..., 2] < 130)
        half = picture.shape[1] // 2
        assert (yellow[:, :half].sum() > 50) == (row.status != "new")
        assert (yellow[:, half:].sum() > 50) == (row.status != "gone")


def test_a_picture_without_a_scan_says_so(table):
    from dataclasses import replace

    from medseg.reporting.change_pictures import lesion_pair_png

    bare = replace(table, time_points=tuple(replace(point, volume=None) for point in table.time_points))
    assert lesion_pair_png(bare, bare.rows[0]).startswith(b"\x89PNG")

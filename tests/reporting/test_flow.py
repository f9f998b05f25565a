"""The flow diagram: its counts add up, it is well-formed, every text fits its box, and what is in it cannot break it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from medseg.reporting.flow import CountsError, Step, check_steps, flow_svg, text_width, wrap

SVG = "{http://www.w3.org/2000/svg}"


def steps(reasons=None, final=329):
    reasons = {"localizer or scout": 300, "another series": 510, "an object without a volume": 64} if reasons is None else reasons
    return (
        Step("Found", "Series found", 1234, ("in 640 studies of 312 patients",), "Left out", reasons),
        Step("Run", "Cases to segment", 360, (), "Without a result", {"missing slices": 9, "timed out": 8}),
        Step("Review", "Segmented and measured", 343, (), "Excluded in review", {"rejected": 14, "waiting": 0}),
        Step("Analysed", "Analysed", final, ("liver: 329 measured",)),
    )


def texts(svg):
    return ["".join(one.itertext()) for one in ET.fromstring(svg).iter(f"{SVG}text")]


def test_every_count_is_there():
    svg = flow_svg(steps(), "Flow")
    found = texts(svg)
    for said in (
        "Series found (n = 1,234)",
        "Left out (n = 874)",
        "510",
        "localizer or scout",
        "Analysed (n = 329)",
        "Without a result (n = 17)",
    ):
        assert said in found
    assert "waiting" not in found, "what nobody met is not listed"
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert "Left out: 874 (another series 510; localizer or scout 300" in root.find(f"{SVG}desc").text
    assert svg == flow_svg(steps(), "Flow")


@pytest.mark.parametrize("wrong", [steps(final=330), steps(reasons={"localizer": 873}), steps(reasons={"a": 900, "b": -26})])
def test_counts_that_do_not_add_up_draw_nothing(wrong):
    with pytest.raises(CountsError, match=r"add up|negative"):
        flow_svg(wrong)
    with pytest.raises(CountsError):
        check_steps(wrong)


def test_many_reasons_end_in_a_sum():
    reasons = {f"reason {n}": 10 + n for n in range(30)}
    rest = sum(sorted(reasons.values())[:17])
    svg = flow_svg((Step("Found", "Found", sum(reasons.values()), reasons=reasons), Step("Run", "Cases", 0)))
    found = texts(svg)
    assert "for 17 further reasons" in found
    assert str(rest) in found
    numbers = [int(text.replace(",", "")) for text in found if re.fullmatch(r"[\d,]+", text)]
    assert sum(numbers) == sum(reasons.values())


def test_text_of_others_stays_text():
    reason = '<script>alert(1)</script> & "quotes" ]]>'
    svg = flow_svg((Step("Found", "Found", 2, ("<b>",), "Left out", {reason: 1}), Step("Run", "Cases", 1)), title="<&>")
    root = ET.fromstring(svg)
    assert root.find(f".//{SVG}script") is None
    assert "".join(texts(svg)).count("alert(1)") == 1
    assert "<&>" in texts(svg)


def test_long_texts_are_broken_to_fit():
    """Measured with the widest of the fonts itself: no line leaves its box."""
    image_font = pytest.importorskip("PIL.ImageFont")
    matplotlib = pytest.importorskip("matplotlib")
    folder = f"{matplotlib.get_data_path()}/fonts/ttf"
    fonts = {kind: image_font.truetype(f"{folder}/DejaVuSans{end}.ttf", 120) for kind, end in (("small", ""), ("title", "-Bold"))}
    long = "a series whose pixels were derived from another series, or the screen of a workstation (maximum intensity projections)"
    word = "x" * 200
    svg = flow_svg((Step("Found", "Found " * 20, 3, (word,), "Left out", {long: 1, word: 1}), Step("Run", "Cases", 1)))
    root = ET.fromstring(svg)
    boxes = [tuple(float(one.get(key)) for key in ("x", "y", "width", "height")) for one in root.iter(f"{SVG}rect") if one.get("stroke")]
    checked = 0
    for one in root.iter(f"{SVG}text"):
        x, y = float(one.get("x")), float(one.get("y"))
        inside = [box for box in boxes if box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]]
        if one.get("class") in ("small", "title") and one.get("text-anchor") is None:
            (box,) = inside
            size = 12 if one.get("class") == "small" else 13
            assert x + fonts[one.get("class")].getlength("".join(one.itertext())) * size / 120 <= box[0] + box[2], one.text
            checked += 1
    assert checked > 10


def test_boxes_do_not_touch():
    root = ET.fromstring(flow_svg(steps()))
    boxes = [tuple(float(one.get(key)) for key in ("x", "y", "width", "height")) for one in root.iter(f"{SVG}rect") if one.get("stroke")]
    assert len(boxes) == 7
    for n, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[n + 1 :]:
            assert x + width < other_x or other_x + other_width < x or y + height < other_y or other_y + other_height < y


def test_widths_are_those_of_the_font():
    """Helvetica's metrics, as Adobe gives them."""
    assert text_width("Left out", 1) == pytest.approx((556 + 556 + 278 + 278 + 278 + 556 + 556 + 278) / 1000)
    assert wrap("", 100, 12) == [""]
    assert all(text_width(line, 12) <= 60 for line in wrap("one two three four five", 60, 12))

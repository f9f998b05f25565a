"""Our terminology lines, colour table and terminology file, read by Slicer's own terminology code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from mrml_nodes import color_table, empty_segmentation, read_segmentation_node, volume_node, write_node

from medseg.core.codes import LEFT, RIGHT, Code
from medseg.core.label_table import segments_from_table
from medseg.core.segment import Segment
from medseg.core.terminology import described, known_terms
from medseg.slicer_bridge.terminology import (
    CONTEXT,
    color_table_csv,
    described_by,
    slicer_colour,
    tags_of,
    term_json,
    terminology_of,
)

pytestmark = pytest.mark.usefixtures("scene")

LESION = Segment(
    9,
    "lesion 1",
    Code("SCT", "49755003", "Morphologically Altered Structure"),
    Code("SCT", "52988006", "Lesion"),
    None,
    Code("SCT", "64033007", "Kidney"),
    LEFT,
    (10, 20, 30),
    "click-lesion",
    "lesion 1",
    "1.2.3.4",
)
KNOWN = [
    described(Segment(n, name)) for n, name in enumerate(("liver", "kidney_left", "lung_upper_lobe_right", "vertebrae_L1", "fat"), start=1)
]


def code(of: Any) -> tuple[str, str, str] | None:
    """A vtkCodedEntry as its three words."""
    words = (of.GetCodingSchemeDesignator(), of.GetCodeValue(), of.GetCodeMeaning()) if of else (None,) * 3
    return words if words[1] else None


def words(of: Code | None) -> tuple[str, str, str] | None:
    return (of.scheme, of.value, of.meaning) if of else None


def logic() -> Any:
    return slicer.modules.terminologies.logic()


@pytest.mark.parametrize("segment", [*KNOWN, LESION], ids=lambda segment: segment.label)
def test_slicer_reads_the_line_code_by_code(segment: Segment) -> None:
    entry = slicer.vtkSlicerTerminologyEntry()
    assert logic().DeserializeTerminologyEntry(terminology_of(segment), entry)
    assert code(entry.GetCategoryObject()) == words(segment.category)
    assert code(entry.GetTypeObject()) == words(segment.type)
    assert code(entry.GetTypeModifierObject()) == words(segment.modifier)
    assert code(entry.GetRegionObject()) == words(segment.region)
    assert code(entry.GetRegionModifierObject()) == words(segment.region_modifier)


@pytest.mark.parametrize("segment", [*KNOWN, LESION], ids=lambda segment: segment.label)
def test_the_line_slicer_writes_comes_back(segment: Segment) -> None:
    entry = slicer.vtkSlicerTerminologyEntry()
    logic().DeserializeTerminologyEntry(terminology_of(segment), entry)
    line = logic().SerializeTerminologyEntry(entry)
    back = described_by(Segment(segment.number, segment.label, colour=segment.colour), line, tags_of(segment))
    assert back == segment


def test_a_new_segment_of_slicer_says_nothing() -> None:
    fresh = slicer.vtkSegment()
    assert described_by(Segment(1, "liver"), fresh.GetTerminology(), {}) == Segment(1, "liver")


@pytest.fixture
def terminology(tmp_path: Path) -> str:
    path = tmp_path / "medseg.term.json"
    path.write_text(term_json(), encoding="utf-8")
    return str(logic().LoadTerminologyFromFile(str(path)))


def test_slicer_loads_the_terminology_file(terminology: str) -> None:
    assert terminology == CONTEXT
    assert logic().IsTerminologyContextLoaded(CONTEXT)
    document = json.loads(term_json())
    categories = document["SegmentationCodes"]["Category"]
    assert logic().GetNumberOfCategoriesInTerminology(CONTEXT) == len(categories)
    for place, category in enumerate(categories):
        found = slicer.vtkSlicerTerminologyCategory()
        assert logic().GetNthCategoryInTerminology(CONTEXT, place, found)
        assert found.GetCodeValue() == category["CodeValue"]
        assert logic().GetNumberOfTypesInTerminologyCategory(CONTEXT, found) == len(category["Type"])


def types_of(terminology: str) -> dict[str, tuple[Any, Any]]:
    """Category and type of every label in a terminology, as Slicer's selector goes through them."""
    found = {}
    for place in range(logic().GetNumberOfCategoriesInTerminology(terminology)):
        category = slicer.vtkSlicerTerminologyCategory()
        assert logic().GetNthCategoryInTerminology(terminology, place, category)
        for number in range(logic().GetNumberOfTypesInTerminologyCategory(terminology, category)):
            kind = slicer.vtkSlicerTerminologyType()
            assert logic().GetNthTypeInTerminologyCategory(terminology, category, number, kind)
            found[kind.GetSlicerLabel()] = (category, kind)
    return found


def test_slicer_has_every_structure_with_its_label_codes_colour_and_sides(terminology: str) -> None:
    found = types_of(terminology)
    assert set(found) == {term.label for term in known_terms()}
    for term in known_terms():
        category, kind = found[term.label]
        assert (code(category), code(kind)) == (words(term.category), words(term.type))
        assert any(kind.GetRecommendedDisplayRGBValue())
        assert bool(kind.GetHasModifiers()) is term.is_paired
        if term.is_paired:
            assert logic().GetNumberOfTypeModifiersInTerminologyType(terminology, category, kind) == 3


def test_the_side_of_a_kidney_is_one_of_the_modifiers(terminology: str) -> None:
    sides = []
    for place in range(3):
        side = slicer.vtkSlicerTerminologyType()
        assert logic().GetNthTypeModifierInTerminologyType(terminology, *types_of(terminology)["kidney"], place, side)
        sides.append(code(side))
    assert {words(LEFT), words(RIGHT)} < set(sides)


def test_slicer_reads_the_color_table(tmp_path: Path) -> None:
    made = [*KNOWN[:3], Segment(300, 'node "a", ü'), LESION]
    table = color_table(color_table_csv(made), tmp_path)
    for segment in made:
        rgba = [0.0] * 4
        table.GetColor(segment.number, rgba)
        assert table.GetColorName(segment.number) == segment.label.replace('"', "'")
        np.testing.assert_allclose(rgba[:3], slicer_colour(segment), atol=1e-12)
        back = described_by(
            Segment(segment.number, segment.label, colour=segment.colour), table.GetTerminologyAsString(segment.number), tags_of(segment)
        )
        assert back == segment


def test_medseg_reads_the_color_table_that_slicer_writes(tmp_path: Path) -> None:
    made = [*KNOWN, LESION]
    table = color_table(color_table_csv(made), tmp_path)
    path = write_node(table, tmp_path / "slicers.csv", "vtkMRMLColorTableStorageNode")
    back = {segment.number: segment for segment in segments_from_table(path.read_text(encoding="utf-8"))}
    for segment in made:
        plain = described_by(back[segment.number], "", tags_of(segment))
        assert plain == segment


def test_lines_and_tags_survive_a_file_of_slicer(tmp_path: Path) -> None:
    scan = volume_node(np.zeros((4, 5, 6), np.int16), np.eye(4))
    node = empty_segmentation(scan)
    for segment in (KNOWN[1], LESION):
        key = node.GetSegmentation().AddEmptySegment("", segment.label, slicer_colour(segment))
        slicer.util.updateSegmentBinaryLabelmapFromArray(np.ones((4, 5, 6), np.uint8), node, key, scan)
        one = node.GetSegmentation().GetSegment(key)
        one.SetTerminology(terminology_of(segment))
        for name, value in tags_of(segment).items():
            one.SetTag(name, value)
    read = read_segmentation_node(write_node(node, tmp_path / "x.seg.nrrd", "vtkMRMLSegmentationStorageNode"))
    segmentation = read.GetSegmentation()
    for place, wanted in enumerate((KNOWN[1], LESION)):
        one = segmentation.GetNthSegment(place)
        tags = {name: _tag(one, name) for name in ("medseg.algorithm", "medseg.tracking_id", "medseg.tracking_uid")}
        assert described_by(Segment(wanted.number, one.GetName(), colour=wanted.colour), one.GetTerminology(), tags) == wanted
        np.testing.assert_allclose(one.GetColor(), slicer_colour(wanted), atol=1e-5)


def _tag(segment: Any, name: str) -> str:
    import vtk

    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nrrd as pynrrd
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.codes import ANATOMICAL_STRUCTURE, RIGHT, Code
from medseg.core.errors import MedsegError, OverlappingSegmentsError, SegmentError, UnsupportedFormatError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.nrrd import parse, write_nrrd
from medseg.io.seg_nrrd import is_segmentation, read_segmentation, read_segmentation_layers, write_segmentation


def layered(path: Path, layers: list[np.ndarray[Any, Any]], segments: list[dict[str, str]], axis: int = 0) -> Path:
    """A segmentation in several layers, written by pynrrd as 3D Slicer lays it out."""
    steps = [[0.9, 0, 0], [0, 0.8, 0], [0, 0, 2.0]]
    steps.insert(axis, [np.nan] * 3)
    kinds = ["domain"] * 3
    kinds.insert(axis, "list")
    header: dict[str, Any] = {"space": "left-posterior-superior", "space directions": steps, "space origin": [0, 0, 0], "kinds": kinds}
    for index, segment in enumerate(segments):
        header |= {f"Segment{index}_{name}": value for name, value in segment.items()}
    pynrrd.write(str(path), np.stack(layers, axis=axis), header)
    return path


def box(*corner: int, value: int = 1, shape: tuple[int, int, int] = (6, 5, 4)) -> np.ndarray[Any, Any]:
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(c, c + 2) for c in corner)] = value
    return array


# ---------------------------------------------------------------- real files of 3D Slicer


def test_segments_of_slicer_have_their_names_colours_codes_and_volumes(shared_data: Path) -> None:
    facts = json.loads((shared_data / "nrrd_slicer_ctchest" / "expected.json").read_text())["Segmentation.seg.nrrd"]
    organs = read_segmentation(shared_data / "nrrd_slicer_ctchest" / "Segmentation.seg.nrrd")
    counts = np.bincount(organs.array.reshape(-1, order="F"))
    assert [segment.label for segment in organs.segments] == [fact["name"] for fact in facts["segments"]]
    for fact, segment in zip(facts["segments"], organs.segments, strict=True):
        assert segment.number == fact["label_value"]
        assert segment.rgb == tuple(round(255 * float(part)) for part in fact["color"].split())
        assert counts[segment.number] == fact["voxels"]
        assert counts[segment.number] * organs.geometry.voxel_volume_mm3 / 1000 == pytest.approx(fact["volume_ml"], rel=1e-3)
    lung = organs["right lung"]
    assert (lung.category, lung.type, lung.modifier) == (ANATOMICAL_STRUCTURE, Code("SCT", "39607008", "Lung"), RIGHT)
    assert (lung.region, lung.region_modifier) == (None, None)
    assert organs.source is not None
    assert organs.source.format == "seg.nrrd"


def test_overlapping_layers_of_slicer_raise_and_name_the_segments(shared_data: Path) -> None:
    path = shared_data / "nrrd_slicer_ctchest" / "SegmentationOverlapping.seg.nrrd"
    with pytest.raises(OverlappingSegmentsError, match=r"'overlapping sphere' overlaps 'ribs', 'right lung', 'left lung', 'tissue'"):
        read_segmentation(path)


def test_what_we_write_of_a_real_file_slicerio_reads_like_slicers_own(shared_data: Path, tmp_path: Path) -> None:
    """slicerio is the reader of 3D Slicer's developers: both files must tell it the same about every segment."""
    slicerio = pytest.importorskip("slicerio")
    source = shared_data / "nrrd_slicer_ctchest" / "Segmentation.seg.nrrd"
    path = write_segmentation(read_segmentation(source), tmp_path / "x.seg.nrrd")
    ours, theirs = slicerio.read_segmentation(str(path)), slicerio.read_segmentation(str(source))
    np.testing.assert_array_equal(ours["voxels"], theirs["voxels"])
    np.testing.assert_array_equal(ours["ijkToLPS"], theirs["ijkToLPS"])
    assert ours["masterRepresentation"] == "Binary labelmap"
    assert ours["referenceImageExtentOffset"] == [0, 0, 0]
    for our, their in zip(ours["segments"], theirs["segments"], strict=True):
        for key in ("name", "labelValue", "layer", "terminology", "status", "id"):
            assert our[key] == their[key], key
        np.testing.assert_allclose(our["color"], their["color"], atol=0.5 / 255)


# ---------------------------------------------------------------- writing


def test_segments_come_back_equal(organs: LabelMap, tmp_path: Path) -> None:
    got = read_segmentation(write_segmentation(organs, tmp_path / "x.seg.nrrd"))
    np.testing.assert_array_equal(got.array, organs.array)
    np.testing.assert_array_equal(got.geometry.affine, organs.geometry.affine)
    assert got.segments == organs.segments
    assert got.findings == ()


def test_every_code_and_odd_names_survive(grid: Geometry, tmp_path: Path) -> None:
    array = np.zeros(grid.shape, np.uint16)
    array[0, 0, 0] = 300
    segment = Segment(
        300,
        "a ~ b | c ^ d : e \\n f = 'Ü'",
        category=Code("SCT", "49755003", "Morphologically Altered Structure"),
        type=Code("SCT", "4147007", "Mass"),
        modifier=Code("SCT", "1", "m"),
        region=Code("SCT", "23451007", "Adrenal gland"),
        region_modifier=RIGHT,
        colour=(0, 127, 255),
    )
    got = read_segmentation(write_segmentation(LabelMap(array, grid, (segment,)), tmp_path / "x.seg.nrrd"))
    assert got.segments == (segment,)
    assert got.array.dtype == np.uint16


def test_separators_in_codes_become_spaces(grid: Geometry, tmp_path: Path) -> None:
    segment = Segment(1, "x", category=ANATOMICAL_STRUCTURE, type=Code("99X", "a^b", "c|d~e"))
    organs = LabelMap(np.ones(grid.shape, np.uint8), grid, (segment,))
    assert read_segmentation(write_segmentation(organs, tmp_path / "x.seg.nrrd"))["x"].type == Code("99X", "a b", "c d e")


def test_the_fields_are_those_of_slicer(organs: LabelMap, tmp_path: Path) -> None:
    """Every segment gets the extent of the grid: Slicer clips a layer to the box around the extents of its segments."""
    keys = parse(write_segmentation(organs, tmp_path / "x.seg.nrrd")).keys
    assert keys["Segment1_Extent"] == keys["Segment0_Extent"] == "0 8 0 7 0 6"
    assert keys["Segment1_Name"] == "kidney, left"
    assert keys["Segment1_Color"] == "0.00392157 0.501961 1"
    assert keys["Segment1_LabelValue"] == "7"
    assert keys["Segment1_Tags"] == (
        "Segmentation.Status:inprogress|TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list"
        "~SCT^123037004^Anatomical Structure~SCT^64033007^Kidney~SCT^7771000^Left~Anatomic codes - DICOM master list~^^~^^|"
    )
    assert keys["Segment0_Tags"] == "Segmentation.Status:inprogress|"
    assert keys["Segmentation_ReferenceImageExtentOffset"] == "0 0 0"
    name, grid, text = keys["Segmentation_ConversionParameters"].split("|")  # Slicer then saves the grid of the scan again
    assert (name, grid[-16:], text[-1]) == ("Reference image geometry", "1.0;0;8;0;7;0;6;", "&")
    assert [float(value) for value in grid.split(";")[:16]] == organs.geometry.affine.ravel().tolist()


def test_simpleitk_and_pynrrd_read_the_voxels(organs: LabelMap, tmp_path: Path) -> None:
    path = write_segmentation(organs, tmp_path / "x.seg.nrrd")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, organs.array)
    values, header = pynrrd.read(str(path))
    np.testing.assert_array_equal(values, organs.array)
    assert header["Segment2_Name"] == "Galle Ü: leer" or "Galle" in header["Segment2_Name"]


def test_a_map_without_segments(grid: Geometry, tmp_path: Path) -> None:
    path = write_segmentation(LabelMap(np.zeros(grid.shape, np.uint8), grid, ()), tmp_path / "x.seg.nrrd")
    assert is_segmentation(path)
    assert read_segmentation(path).segments == ()


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("axis", [0, 3])
def test_layers_that_do_not_overlap_are_merged(tmp_path: Path, axis: int) -> None:
    """Values are kept where they can be; a collision gets the next free number, and a finding says so."""
    layers = [box(0, 0, 0) + box(4, 0, 0, value=2), box(0, 3, 0) + box(2, 3, 2, value=5)]
    segments = [
        {"ID": "a", "Name": "A", "LabelValue": "1", "Layer": "0"},
        {"ID": "b", "Name": "B", "LabelValue": "2", "Layer": "0"},
        {"ID": "c", "Name": "C", "LabelValue": "1", "Layer": "1"},
        {"ID": "e", "Name": "E", "LabelValue": "5", "Layer": "1"},
    ]
    organs = read_segmentation(layered(tmp_path / "x.seg.nrrd", layers, segments, axis))
    assert {segment.label: segment.number for segment in organs.segments} == {"A": 1, "B": 2, "C": 3, "E": 5}
    np.testing.assert_array_equal(organs.mask("A"), layers[0] == 1)
    np.testing.assert_array_equal(organs.mask("B"), layers[0] == 2)
    np.testing.assert_array_equal(organs.mask("C"), layers[1] == 1)
    np.testing.assert_array_equal(organs.mask("E"), layers[1] == 5)
    assert [finding.code for finding in organs.findings] == ["SEGMENTS_RENUMBERED"]
    assert organs.geometry.spacing_mm == (0.9, 0.8, 2.0)


def test_files_of_old_slicers_have_a_layer_for_each_segment(tmp_path: Path) -> None:
    layers = [box(0, 0, 0), box(4, 0, 0), box(0, 3, 0)]
    segments = [{"ID": name, "Name": name, "DefaultColor": "1 0 0.5"} for name in "abc"]
    organs = read_segmentation(layered(tmp_path / "x.seg.nrrd", layers, segments))
    assert [segment.number for segment in organs.segments] == [1, 2, 3]
    assert organs["b"].rgb == (255, 0, 128)
    for layer, name in zip(layers, "abc", strict=True):
        np.testing.assert_array_equal(organs.mask(name), layer == 1)


def test_one_shared_voxel_is_an_overlap(tmp_path: Path) -> None:
    layers = [box(0, 0, 0), box(1, 1, 1)]
    segments = [{"ID": name, "Name": name, "LabelValue": "1", "Layer": str(n)} for n, name in enumerate("ab")]
    with pytest.raises(OverlappingSegmentsError, match="'b' overlaps 'a' in 1 voxels"):
        read_segmentation(layered(tmp_path / "x.seg.nrrd", layers, segments))


def test_voxels_without_a_segment_and_names_that_occur_twice(tmp_path: Path) -> None:
    layers = [box(0, 0, 0) + box(4, 0, 0, value=9), box(0, 3, 0, value=4)]
    segments = [{"ID": "a", "Name": "A", "LabelValue": "1", "Layer": "0"}, {"ID": "b", "Name": "A", "LabelValue": "2", "Layer": "0"}]
    organs = read_segmentation(layered(tmp_path / "x.seg.nrrd", layers, segments))
    assert {segment.number: segment.label for segment in organs.segments} == {1: "A", 2: "A_2", 9: "segment_9", 4: "segment_4"}
    assert [finding.code for finding in organs.findings] == ["DUPLICATE_SEGMENT_NAMES"]


@pytest.mark.parametrize(("key", "value"), [("LabelValue", "one"), ("Layer", "x"), ("LabelValue", "0"), ("Layer", "-1")])
def test_segments_without_a_sound_number_raise(tmp_path: Path, key: str, value: str) -> None:
    segment = {"ID": "a", "Name": "A", "LabelValue": "1", "Layer": "0", key: value}
    with pytest.raises(SegmentError, match="segment 0"):
        read_segmentation(layered(tmp_path / "x.seg.nrrd", [box(0, 0, 0), box(2, 2, 2)], [segment]))


@pytest.mark.parametrize("colour", ["", "red", "1 2", "nan 0 0"])
def test_colours_that_are_none_are_replaced(tmp_path: Path, colour: str) -> None:
    segments = [{"ID": "a", "Name": "A", "LabelValue": "1", "Layer": "0", "Color": colour}]
    organs = read_segmentation(layered(tmp_path / "x.seg.nrrd", [box(0, 0, 0)], segments))
    assert organs["A"].colour == Segment(1, "A").colour


def test_a_cropped_segmentation_keeps_its_own_grid_and_says_so(tmp_path: Path, scan: Volume) -> None:
    keys = {"Segment0_ID": "a", "Segment0_Name": "A", "Segmentation_ReferenceImageExtentOffset": "12 0 3"}
    path = write_nrrd(scan.with_array((scan.array > 0).astype(np.uint8)), tmp_path / "x.seg.nrrd", keys=keys)
    organs = read_segmentation(path)
    assert organs.geometry == scan.geometry
    assert [(finding.code, finding.details["offset"]) for finding in organs.findings] == [("CROPPED_GRID", ["12", "0", "3"])]


def reference(grid: Geometry, first: tuple[int, int, int] = (0, 0, 0)) -> str:
    """The grid of a scan as 3D Slicer serialises it; `first` is the index that Slicer gives its first voxel."""
    shifted = grid.cropped([-n for n in first], grid.shape)
    extent = [value for start, size in zip(first, grid.shape, strict=True) for value in (start, start + size - 1)]
    numbers = ";".join(str(value) for value in [*shifted.affine.ravel().tolist(), *extent])
    return f"Decimation factor|0.0|Text.&Reference image geometry|{numbers};|Text.&Smoothing factor|-0.5|Text.&"


@pytest.mark.parametrize("first", [(0, 0, 0), (3, -2, 10)])
def test_a_cropped_segmentation_is_put_back_where_the_file_names_the_grid(
    tmp_path: Path, organs: LabelMap, first: tuple[int, int, int]
) -> None:
    box = (slice(1, 9), slice(1, 8), slice(1, 6))
    inner = Volume(organs.array[box], organs.geometry.cropped((1, 1, 1), (8, 7, 5)))
    keys = {
        "Segment0_ID": "a",
        "Segmentation_ReferenceImageExtentOffset": "1 1 1",
        "Segmentation_ConversionParameters": reference(organs.geometry, first),
    }
    got = read_segmentation(write_nrrd(inner, tmp_path / "x.seg.nrrd", keys=keys))
    np.testing.assert_array_equal(got.array, organs.array)
    assert got.geometry.distance_mm(organs.geometry) < 1e-9
    assert [(finding.code, finding.details["start"]) for finding in got.findings] == [("CROPPING_UNDONE", [1, 1, 1])]


@pytest.mark.parametrize(
    "change",
    [
        lambda grid: grid.cropped((2, 2, 2), (7, 6, 5)),
        lambda grid: Geometry(grid.shape, grid.affine @ np.diag([1.01, 1, 1, 1])),
        lambda grid: grid.transformed(np.eye(3), (0.4, 0, 0), grid.shape),
        lambda grid: grid.transformed(np.diag([-1, 1, 1]), (8, 0, 0), grid.shape),
    ],
    ids=["too small", "other spacing", "between voxels", "flipped"],
)
def test_a_grid_that_does_not_fit_is_left_alone(tmp_path: Path, organs: LabelMap, change: Any) -> None:
    inner = Volume(organs.array[1:, 1:, 1:], organs.geometry.cropped((1, 1, 1), (8, 7, 6)))
    keys = {"Segment0_ID": "a", "Segmentation_ConversionParameters": reference(change(organs.geometry))}
    got = read_segmentation(write_nrrd(inner, tmp_path / "x.seg.nrrd", keys=keys))
    assert got.geometry == inner.geometry


HUGE = "1;0;0;0;0;1;0;0;0;0;1;0;0;0;0;1;0;999999999999;0;999999999999;0;999999999999;"


@pytest.mark.parametrize(
    "text", ["Reference image geometry|1;2;3|", "Reference image geometry|" + "x;" * 22 + "|", f"Reference image geometry|{HUGE}|", ""]
)
def test_a_grid_that_makes_no_sense_is_ignored(tmp_path: Path, scan: Volume, text: str) -> None:
    mask = scan.with_array((scan.array > 0).astype(np.uint8))
    path = write_nrrd(mask, tmp_path / "x.seg.nrrd", keys={"Segment0_ID": "a", "Segmentation_ConversionParameters": text})
    assert read_segmentation(path).geometry == scan.geometry


def test_two_axes_besides_space_raise(tmp_path: Path) -> None:
    header = {
        "space": "LPS",
        "space directions": [[np.nan] * 3, [np.nan] * 3, *np.eye(3).tolist()],
        "space origin": [0, 0, 0],
        "Segment0_ID": "a",
    }
    pynrrd.write(str(tmp_path / "x.seg.nrrd"), np.zeros((2, 2, 3, 3, 3), np.uint8), header)
    with pytest.raises(UnsupportedFormatError, match="more than one axis"):
        read_segmentation(tmp_path / "x.seg.nrrd")


# ---------------------------------------------------------------- layers in and out


def test_overlapping_layers_of_slicer_have_their_volumes(shared_data: Path, tmp_path: Path) -> None:
    facts = json.loads((shared_data / "nrrd_slicer_ctchest" / "expected.json").read_text())["SegmentationOverlapping.seg.nrrd"]
    layers = read_segmentation_layers(shared_data / "nrrd_slicer_ctchest" / "SegmentationOverlapping.seg.nrrd")
    assert len(layers) == 2
    again = read_segmentation_layers(write_segmentation(layers, tmp_path / "x.seg.nrrd"))
    for found in (layers, again):
        by_label = {segment.label: (layer, segment) for layer in found for segment in layer.segments}
        assert len({segment.number for _, segment in by_label.values()}) == 8
        for fact in facts["segments"]:
            layer, segment = by_label[fact["name"]]
            voxels = int(np.count_nonzero(layer.array == segment.number))
            assert voxels == fact["voxels"]
            assert voxels * layer.geometry.voxel_volume_mm3 / 1000 == pytest.approx(fact["volume_ml"], rel=1e-3)


def test_slicerio_reads_our_layers(organs: LabelMap, tmp_path: Path) -> None:
    slicerio = pytest.importorskip("slicerio")
    array = np.zeros(organs.array.shape, np.uint16)
    array[2:7, 2:6, 2:5] = 300
    lesion = LabelMap(array, organs.geometry, (Segment(300, "lesion"),))
    path = write_segmentation((organs, lesion), tmp_path / "x.seg.nrrd")
    found = slicerio.read_segmentation(str(path))
    assert found["voxels"].shape == (2, *organs.array.shape)
    np.testing.assert_array_equal(found["voxels"][0], organs.array)
    np.testing.assert_array_equal(found["voxels"][1], array)
    assert [(segment["name"], segment["layer"], segment["labelValue"]) for segment in found["segments"]][-1] == ("lesion", 1, 300)
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ found["ijkToLPS"], organs.geometry.affine, atol=1e-12)
    back = read_segmentation_layers(path)
    np.testing.assert_array_equal(back[0].array, organs.array)
    np.testing.assert_array_equal(back[1].array, array)
    with pytest.raises(OverlappingSegmentsError, match="'lesion' overlaps"):
        read_segmentation(path)


def test_cropped_layers_are_put_back_together(tmp_path: Path, organs: LabelMap) -> None:
    """Slicer crops all layers to one box; both come back on the grid of the scan."""
    layers = [organs.array[1:9, 1:8, 1:6], (organs.array[1:9, 1:8, 1:6] > 0).astype(np.uint8)]
    inner = organs.geometry.cropped((1, 1, 1), (8, 7, 5))
    lps = inner.affine * np.array([-1, -1, 1, 1])[:, None]
    header = {
        "space": "left-posterior-superior",
        "space directions": [[np.nan] * 3, *lps[:3, :3].T.tolist()],
        "space origin": lps[:3, 3].tolist(),
        "kinds": ["list", "domain", "domain", "domain"],
        "Segmentation_ConversionParameters": reference(organs.geometry),
    }
    for index, (name, value, layer) in enumerate((("a", 1, 0), ("b", 7, 0), ("c", 1, 1))):
        header |= {f"Segment{index}_Name": name, f"Segment{index}_LabelValue": str(value), f"Segment{index}_Layer": str(layer)}
    pynrrd.write(str(tmp_path / "x.seg.nrrd"), np.stack(layers), header)
    found = read_segmentation_layers(tmp_path / "x.seg.nrrd")
    assert len(found) == 2
    for layer in found:
        assert layer.geometry.distance_mm(organs.geometry) < 1e-9
    np.testing.assert_array_equal(found[0].mask("a"), organs.array == 1)
    np.testing.assert_array_equal(found[1].mask("c"), organs.array > 0)


def test_fractions_and_doubled_segments_are_refused(tmp_path: Path, scan: Volume) -> None:
    mask = scan.with_array((scan.array > 0).astype(np.uint8))
    keys = {"Segment0_ID": "a", "Segmentation_SourceRepresentation": "Fractional labelmap"}
    with pytest.raises(UnsupportedFormatError, match="fractional"):
        read_segmentation(write_nrrd(mask, tmp_path / "x.seg.nrrd", keys=keys))
    keys = {"Segment0_Name": "A", "Segment1_Name": "B", "Segment0_LabelValue": "1", "Segment1_LabelValue": "1"}
    with pytest.raises(SegmentError, match="'A' and 'B' are the same voxels"):
        read_segmentation(write_nrrd(mask, tmp_path / "y.seg.nrrd", keys=keys))


def test_a_closed_surface_as_source_keeps_its_label_map(tmp_path: Path, scan: Volume) -> None:
    keys = {
        "Segment0_ID": "a",
        "Segmentation_MasterRepresentation": "Closed surface",
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|Closed surface|",
    }
    found = read_segmentation(write_nrrd(scan.with_array((scan.array > 0).astype(np.uint8)), tmp_path / "x.seg.nrrd", keys=keys))
    np.testing.assert_array_equal(found.array > 0, scan.array > 0)


@pytest.mark.parametrize("seed", range(2))
def test_spoiled_files_give_named_errors_or_labels(tmp_path: Path, organs: LabelMap, seed: int) -> None:
    whole = write_segmentation(organs, tmp_path / "x.seg.nrrd").read_bytes()
    random = np.random.default_rng(seed)
    spoiled_file = tmp_path / "y.seg.nrrd"
    refused = 0
    for attempt in range(150):
        spoiled = np.frombuffer(whole, np.uint8).copy()
        spoiled[random.integers(0, spoiled.size, 1 + attempt % 8)] = random.integers(0, 256)
        spoiled_file.write_bytes(spoiled.tobytes()[: spoiled.size - (attempt % 3 == 2) * int(random.integers(1, spoiled.size))])
        try:
            read_segmentation_layers(spoiled_file)
        except MedsegError:
            refused += 1
    assert refused

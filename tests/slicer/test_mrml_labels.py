"""Segmentation nodes of a real MRML scene become label maps and label maps become nodes, without a voxel lost or moved."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
import vtk
from mrml_nodes import (
    DIRECTIONS,
    affine_of,
    bridge_segments,
    color_table,
    empty_segmentation,
    load_volume,
    segmentation_node,
    transform,
    volume_from,
    volume_node,
)

from medseg.core.codes import LEFT, RIGHT, Code
from medseg.core.errors import GeometryMismatchError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.layers import segments_of
from medseg.core.segment import Segment
from medseg.core.terminology import described
from medseg.io.measured import measure_file
from medseg.io.read import read_layers
from medseg.measurement.measure import measure
from medseg.slicer_bridge.arrays import cropped, label_map_of
from medseg.slicer_bridge.terminology import color_table_csv, segment_dict

pytestmark = pytest.mark.usefixtures("scene")

EXTENSION = Path(__file__).resolve().parents[2] / "slicer_extension" / "MedSeg"
SHAPE = (9, 8, 7)
TURN = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])


def masks() -> dict[str, np.ndarray]:
    """Three structures (i,j,k): two that touch, one that overlaps the first, none at the border."""
    found = {name: np.zeros(SHAPE, bool) for name in ("liver", "kidney_left", "lesion in liver")}
    found["liver"][1:5, 1:4, 1:4] = True
    found["kidney_left"][5:8, 5:7, 4:6] = True
    found["lesion in liver"][2:4, 2:6, 2] = True
    return found


def drawn(node: Any, scan: Any) -> dict[str, str]:
    """Put the masks into a segmentation node through Slicer's own functions; names → segment ids."""
    ids = {}
    for name, mask in masks().items():
        key = node.GetSegmentation().AddEmptySegment("", name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(np.ascontiguousarray(mask.T.astype(np.uint8)), node, key, scan)
        ids[name] = key
    return ids


def equal_masks(layers: tuple[LabelMap, ...], expected: dict[str, np.ndarray]) -> None:
    assert {one.label for one in segments_of(layers)} == set(expected)
    for layer in layers:
        for one in layer.segments:
            np.testing.assert_array_equal(layer.mask(one.label), expected[one.label], err_msg=one.label)


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("above", [False, True], ids=["plain", "under a transform"])
@pytest.mark.parametrize("shared", [False, True], ids=["layer each", "shared layers"])
def test_segments_become_masks_on_the_grid_of_the_scan(kind: str, above: bool, shared: bool) -> None:
    scan = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of(kind))
    node = empty_segmentation(scan)
    drawn(node, scan)
    if shared:
        node.GetSegmentation().CollapseBinaryLabelmaps(False)
    if above:
        for one in (scan, node):
            transform(one, TURN)
    given = bridge_segments(node)
    if shared:
        assert min(one.array_kji.size for one in given) < np.prod(SHAPE)  # Slicer crops what it collapses
        assert node.GetSegmentation().GetNumberOfLayers() == 2
    layers = label_map_of(given, volume_from(scan).geometry)
    assert len(layers) == 2
    equal_masks(layers, masks())
    assert not any(layer.findings for layer in layers)


def test_a_segmentation_that_slicer_kept_beside_its_scan_is_refused() -> None:
    """The scan was moved by a registration, the segmentation was not: their voxels are no longer the same."""
    scan = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of("ras"))
    node = empty_segmentation(scan)
    drawn(node, scan)
    transform(scan, TURN)
    with pytest.raises(GeometryMismatchError, match="'liver' lies on another grid"):
        label_map_of(bridge_segments(node), volume_from(scan).geometry)


def test_a_segmentation_drawn_on_another_scan_is_refused() -> None:
    coarse = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of("ras"))
    fine = volume_node(np.zeros((14, 16, 18), np.int16), affine_of("ras") @ np.diag([0.5, 0.5, 0.5, 1]))
    node = empty_segmentation(coarse)
    drawn(node, coarse)
    with pytest.raises(GeometryMismatchError, match="Specify geometry"):
        label_map_of(bridge_segments(node), volume_from(fine).geometry)


def test_a_scan_with_its_axes_the_other_way_round_is_the_same_grid() -> None:
    """A series loaded feet first and a segmentation made head first share every voxel."""
    scan = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of("oblique"))
    node = empty_segmentation(scan)
    drawn(node, scan)
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    flip[1:3, 3] = (SHAPE[1] - 1, SHAPE[2] - 1)
    other = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of("oblique") @ flip)
    layers = label_map_of(bridge_segments(node), volume_from(other).geometry)
    equal_masks(layers, {name: mask[:, ::-1, ::-1] for name, mask in masks().items()})


def test_what_was_drawn_beyond_a_cropped_scan_is_said_in_ml() -> None:
    whole = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of("gantry tilt"))
    node = empty_segmentation(whole)
    drawn(node, whole)
    reference = volume_from(whole).geometry.cropped((3, 0, 0), (6, 8, 7))
    layers = label_map_of(bridge_segments(node), reference)
    equal_masks(layers, {name: mask[3:] for name, mask in masks().items()})
    lost = {finding.details["segment"]: finding for finding in layers[0].findings}
    assert {name: finding.details["voxels"] for name, finding in lost.items()} == {"liver": 18, "lesion in liver": 4}
    assert lost["liver"].details["volume_ml"] == pytest.approx(18 * reference.voxel_volume_mm3 / 1000)
    assert "18 voxels of 'liver'" in lost["liver"].message


def test_empty_segments_stay() -> None:
    scan = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of("ras"))
    node = empty_segmentation(scan)
    node.GetSegmentation().AddEmptySegment("", "spleen")
    (layer,) = label_map_of(bridge_segments(node), volume_from(scan).geometry)
    assert [one.label for one in layer.segments] == ["spleen"]
    assert not layer.array.any()


# ---- label maps into the scene -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_a_label_map_goes_into_the_scene_and_back(kind: str, tmp_path: Path) -> None:
    geometry = Geometry(SHAPE, affine_of(kind))
    array = np.zeros(SHAPE, np.uint16)
    array[1:5, 1:4, 1:4], array[5:8, 5:7, 4:6], array[0, 0, 0] = 3, 300, 7
    organs = (
        Segment(3, "liver", colour=(221, 130, 101)),
        Segment(300, "kidney_left", colour=(1, 128, 255)),
        Segment(
            7,
            'node "a"',
            Code("SCT", "49755003", "Altered"),
            Code("SCT", "52988006", "Lesion"),
            region=Code("99X", "1", "Here"),
            region_modifier=LEFT,
        ),
    )
    made = LabelMap(array, geometry, organs)
    scan = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of(kind))
    node = segmentation_node(made, scan, tmp_path)
    reference = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    numbers = [float(part) for part in node.GetSegmentation().GetConversionParameter(reference).split(";") if part]
    np.testing.assert_allclose(np.array(numbers[:16]).reshape(4, 4), affine_of(kind), atol=1e-12)
    assert numbers[16:] == [0, 8, 0, 7, 0, 6]
    (back,) = label_map_of(bridge_segments(node), geometry)
    by_label = {one.label: one for one in back.segments}
    assert set(by_label) == {"liver", "kidney_left", "node 'a'"}
    for one in organs:
        name = one.label.replace('"', "'")
        found, wanted = by_label[name], described(one)
        np.testing.assert_array_equal(back.mask(name), made.mask(one.label))
        assert found.colour == one.colour
        codes = ("category", "type", "modifier", "region", "region_modifier")
        assert [getattr(found, code) for code in codes] == [getattr(wanted, code) for code in codes]


def hundred(shape: tuple[int, int, int]) -> np.ndarray:
    """A hundred boxes (i,j,k), each with its number."""
    array = np.zeros(shape, np.uint8)
    for number, (i, j, k) in enumerate(np.argwhere(np.ones((5, 5, 4), bool)) * (8, 6, 5), start=1):
        array[i + 1 : i + 6, j + 1 : j + 5, k : k + 3] = number
    return array


def test_a_hundred_labels_come_in_one_call(tmp_path: Path) -> None:
    """Slicer's own import of a label volume: one call, one layer."""
    shape = (40, 30, 20)
    made = LabelMap(hundred(shape), Geometry(shape, affine_of("oblique")), tuple(Segment(n, f"structure {n}") for n in range(1, 101)))
    scan = volume_node(np.zeros(shape[::-1], np.int16), affine_of("oblique"))
    node = segmentation_node(made, scan, tmp_path)
    segmentation = node.GetSegmentation()
    assert (segmentation.GetNumberOfSegments(), segmentation.GetNumberOfLayers()) == (100, 1)
    (back,) = label_map_of(bridge_segments(node), made.geometry)
    table = np.zeros(101, np.uint8)
    for one in back.segments:
        table[one.number] = int(one.label.split()[1])
    np.testing.assert_array_equal(table[back.array], made.array)


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("above", [False, True], ids=["plain", "under a transform"])
def test_the_extension_imports_a_cropped_result_of_the_worker_at_once(
    kind: str, above: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the worker hands over, through the extension's one call and back through the bridge: every voxel, number and side."""
    monkeypatch.syspath_prepend(str(EXTENSION))
    nodes = importlib.import_module("MedSegLib.nodes")
    shape = (40, 30, 20)
    scan = volume_node(np.zeros(shape[::-1], np.int16), affine_of(kind))
    if above:
        transform(scan, TURN)
    names = ["kidney_right", "kidney_left", *(f"structure {n}" for n in range(3, 101))]
    made = LabelMap(hundred(shape), Geometry(shape, affine_of(kind)), tuple(Segment(n, name) for n, name in enumerate(names, start=1)))
    array, extent = cropped(made)
    np.save(tmp_path / "labels.npy", array)
    result = {
        "array": str(tmp_path / "labels.npy"),
        "extent": list(extent),
        "shape": list(shape[::-1]),
        "ijk_to_ras": affine_of(kind).tolist(),
        "parent_to_world": TURN.tolist() if above else None,
        "segments": [segment_dict(one) for one in made.segments],
    }
    node = nodes.newSegmentation(scan, "organs")
    ids = nodes.importLabels(result, node, scan)
    assert (len(ids), node.GetSegmentation().GetNumberOfLayers()) == (100, 1)
    (back,) = label_map_of(bridge_segments(node), volume_from(scan).geometry)
    np.testing.assert_array_equal(back.array, made.array)
    assert [one.label for one in back.segments] == names
    assert [one.colour for one in back.segments] == [one.colour for one in made.segments]
    assert (back["kidney_left"].modifier, back["kidney_right"].modifier) == (LEFT, RIGHT)


def test_label_values_survive_an_export_with_the_color_table(tmp_path: Path) -> None:
    """Without the table Slicer numbers labels anew; with ours the values are those of the label map."""
    array = np.zeros(SHAPE, np.uint8)
    array[1:3, 1:3, 1:3], array[5:8, 5:7, 4:6] = 9, 4
    made = LabelMap(array, Geometry(SHAPE, affine_of("lps")), (Segment(9, "spleen"), Segment(4, "liver")))
    scan = volume_node(np.zeros(SHAPE[::-1], np.int16), affine_of("lps"))
    node = segmentation_node(made, scan, tmp_path)
    table = color_table(color_table_csv(made.segments), tmp_path)
    ids = vtk.vtkStringArray()
    for place in range(2):
        ids.InsertNextValue(node.GetSegmentation().GetNthSegmentID(place))
    out = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
    extent = slicer.vtkSegmentation.EXTENT_REFERENCE_GEOMETRY
    assert slicer.modules.segmentations.logic().ExportSegmentsToLabelmapNode(node, ids, out, scan, extent, table)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(out), array.T)


# ---- the same numbers --------------------------------------------------------------------------------------------------------


def counted_by_slicer(node: Any, scan: Any) -> dict[str, tuple[int, float, float]]:
    """Voxels, mean and largest value of each segment by Slicer's filters: vtkImageAccumulate over its own labelmap."""
    found = {}
    segmentation = node.GetSegmentation()
    for place in range(segmentation.GetNumberOfSegments()):
        key = segmentation.GetNthSegmentID(place)
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(key, image)
        reference = slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode(scan)
        reference.UnRegister(None)
        same = slicer.vtkOrientedImageData()
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(image, reference, same)
        stencil = vtk.vtkImageToImageStencil()
        stencil.SetInputData(same)
        stencil.ThresholdByUpper(1)
        stencil.Update()
        summed = vtk.vtkImageAccumulate()
        summed.SetInputData(scan.GetImageData())
        summed.SetStencilData(stencil.GetOutput())
        summed.Update()
        name = segmentation.GetSegment(key).GetName()
        found[name] = (summed.GetVoxelCount(), summed.GetMean()[0], summed.GetMax()[0])
    return found


def test_a_real_dicom_ct_gives_the_numbers_of_medseg_measure(shared_data: Path, tmp_path: Path) -> None:
    """DICOM CT by Slicer's reader, organs as a segmentation node: every voxel, ml and HU as `medseg measure` has them."""
    case = shared_data / "ct_totalseg_dicom"
    scan = load_volume(*sorted((case / "dicom").iterdir()))
    (labels,) = read_layers(case / "labels.nii.gz")
    node = segmentation_node(labels, scan, tmp_path)
    volume = volume_from(scan, "CT", "HU")
    (bridged,) = label_map_of(bridge_segments(node), volume.geometry)
    ours = {row.label: row for row in measure(bridged, volume)}
    cli = {row.label: row for row in measure_file(case / "labels.nii.gz", case / "dicom").table}
    slicers = counted_by_slicer(node, scan)
    full = [label for label, row in cli.items() if row.voxel_count]
    assert len(full) >= 5
    for label in full:
        count, mean, largest = slicers[label]
        assert ours[label].voxel_count == cli[label].voxel_count == count
        assert ours[label].measurements["volume"].value == pytest.approx(cli[label].measurements["volume"].value, rel=1e-6)
        assert ours[label].measurements["mean"].value == pytest.approx(cli[label].measurements["mean"].value, rel=1e-12)
        assert ours[label].measurements["mean"].value == pytest.approx(mean, rel=1e-9)
        assert ours[label].measurements["max"].value == largest
        assert ours[label].status == cli[label].status

"""Files that the medseg command writes open in Slicer's code with names, colours, codes and geometry: .seg.nrrd and DICOM SEG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from click.testing import CliRunner
from mrml_nodes import DIRECTIONS, affine_of, bridge_segments, empty_segmentation, read_segmentation_node, volume_node, write_node

from medseg.cli.main import cli
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.layers import segments_of
from medseg.core.segment import Segment
from medseg.core.terminology import described
from medseg.io.read import read, read_layers
from medseg.io.write import write
from medseg.slicer_bridge.arrays import label_map_of

pytestmark = pytest.mark.usefixtures("scene")

CODES = ("category", "type", "modifier", "region", "region_modifier")


def medseg(*arguments: object) -> dict[str, Any]:
    """What a command says as JSON."""
    done = CliRunner().invoke(cli, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def opened_in_slicer(path: Path, geometry: Geometry) -> tuple[LabelMap, ...]:
    """A .seg.nrrd through Slicer's storage node and the bridge, on the grid of its scan."""
    return label_map_of(bridge_segments(read_segmentation_node(path)), geometry)


def reference_grid(node: Any) -> np.ndarray:
    """The matrix of the scan's grid that a segmentation node carries."""
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    numbers = [float(part) for part in node.GetSegmentation().GetConversionParameter(name).split(";") if part]
    return np.array(numbers[:16]).reshape(4, 4)


def same(theirs: tuple[LabelMap, ...], ours: tuple[LabelMap, ...]) -> None:
    """Voxels, colours and codes of every segment; a segment without codes has those of its label in Slicer."""
    found = {one.label: one for one in segments_of(theirs)}
    assert set(found) == {one.label for one in segments_of(ours)}
    for one in segments_of(ours):
        assert found[one.label].colour == one.colour, one.label
        assert [getattr(found[one.label], name) for name in CODES] == [getattr(described(one), name) for name in CODES], one.label
    same_voxels(theirs, ours)


def same_voxels(theirs: tuple[LabelMap, ...], ours: tuple[LabelMap, ...]) -> None:
    """Each segment has the same voxels under the same name, whatever its number."""
    numbers = {one.label: one.number for one in segments_of(ours)}
    if len(theirs) == len(ours) == 1:  # all in one pass
        table = np.zeros(max(one.number for one in theirs[0].segments) + 1, np.int64)
        for one in theirs[0].segments:
            table[one.number] = numbers[one.label]
        np.testing.assert_array_equal(table[theirs[0].array], ours[0].array)
        return
    home = {one.label: layer for layer in theirs for one in layer.segments}
    for layer in ours:
        for one in layer.segments:
            np.testing.assert_array_equal(home[one.label].mask(one.label), layer.mask(one.label), err_msg=one.label)


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_a_seg_nrrd_of_the_command_on_every_grid(kind: str, tmp_path: Path) -> None:
    geometry = Geometry((9, 8, 7), affine_of(kind))
    array = np.zeros(geometry.shape, np.uint8)
    array[1:5, 1:4, 1:4], array[6:8, 5:7, 4:6] = 3, 7
    made = LabelMap(
        array, geometry, (Segment(3, "liver", colour=(200, 100, 0)), Segment(7, "kidney_left", colour=(1, 128, 255)), Segment(9, "spleen"))
    )
    write(made, tmp_path / "labels.nrrd")
    medseg("convert", tmp_path / "labels.nrrd", tmp_path / "labels.seg.nrrd")
    node = read_segmentation_node(tmp_path / "labels.seg.nrrd")
    np.testing.assert_allclose(reference_grid(node), affine_of(kind), atol=1e-9)
    theirs = label_map_of(bridge_segments(node), geometry)
    same(theirs, read_layers(tmp_path / "labels.nrrd"))
    assert {one.label: one.modifier and one.modifier.meaning for one in segments_of(theirs)}["kidney_left"] == "Left"


def test_organs_of_a_real_ct(shared_data: Path, tmp_path: Path) -> None:
    case = shared_data / "ct_totalseg_dicom"
    medseg("convert", case / "labels.nii.gz", tmp_path / "organs.seg.nrrd")
    scan = read(case / "dicom")
    same(opened_in_slicer(tmp_path / "organs.seg.nrrd", scan.geometry), _on(read_layers(case / "labels.nii.gz"), scan.geometry))


def _on(layers: tuple[LabelMap, ...], geometry: Geometry) -> tuple[LabelMap, ...]:
    """Labels of a file on the grid of the scan, whose slices may lie in another order: by position, not by our own code."""
    to_other = np.linalg.inv(geometry.affine) @ layers[0].geometry.affine
    result = []
    for layer in layers:
        index = np.argwhere(layer.array)
        array = np.zeros(geometry.shape, layer.array.dtype)
        i, j, k = np.rint(index @ to_other[:3, :3].T + to_other[:3, 3]).astype(np.intp).T
        array[i, j, k] = layer.array[tuple(index.T)]
        result.append(LabelMap(array, geometry, layer.segments))
    return tuple(result)


def test_a_segmentation_made_by_the_command_on_a_dicom_ct(shared_data: Path, tmp_path: Path) -> None:
    """A method of the CLI on a DICOM series; what Slicer shows has the volume that the CLI measures."""
    case = shared_data / "ct_totalseg_dicom"
    medseg("segment", "threshold", case / "dicom", "-o", tmp_path / "bone.seg.nrrd", "--lower", "300")
    scan = read(case / "dicom")
    theirs = opened_in_slicer(tmp_path / "bone.seg.nrrd", scan.geometry)
    (row,) = medseg("measure", tmp_path / "bone.seg.nrrd")["segments"]
    (layer,) = theirs
    assert int(layer.array.astype(bool).sum()) == row["voxel_count"] == int((scan.array >= 300).sum())
    assert row["volume_ml"] == pytest.approx(row["voxel_count"] * scan.geometry.voxel_volume_mm3 / 1000, rel=1e-9)


@pytest.mark.parametrize("case", ["dicom_seg_qin_prostate", "dicom_seg_dcmqi_ct"])
def test_dicom_seg_of_others_as_seg_nrrd(shared_data: Path, tmp_path: Path, case: str) -> None:
    """Oblique slices with four coded segments, and a liver: codes of the DICOM file arrive in Slicer."""
    source = next(path for path in sorted((shared_data / case).rglob("*.dcm")) if _is_seg(path))
    medseg("convert", source, tmp_path / "seg.seg.nrrd")
    ours = read_layers(source)
    same(opened_in_slicer(tmp_path / "seg.seg.nrrd", ours[0].geometry), ours)
    assert all(one.type is not None for one in segments_of(ours))


def _is_seg(path: Path) -> bool:
    import pydicom

    return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["Modality"]).get("Modality") == "SEG"


SERIES = {
    "sarcoma": "tumour_sts_002/dicom/CT",
    "oblique MR": "dicom_seg_qin_prostate/adc",
    "gantry tilt": "dicom_ct_gantry_tilt_phantom/dicom",
}


@pytest.mark.parametrize("case", SERIES)
def test_a_dicom_seg_of_the_command_arrives_in_slicer(shared_data: Path, tmp_path: Path, case: str) -> None:
    """A method of the CLI writes a DICOM SEG of a real series; converted and opened it has the voxels of the scan above the limit."""
    scan = read(shared_data / SERIES[case])
    lower = float(np.percentile(scan.array, 90))
    medseg("segment", "threshold", shared_data / SERIES[case], "-o", tmp_path / "seg.dcm", "--lower", lower)
    medseg("convert", tmp_path / "seg.dcm", tmp_path / "seg.seg.nrrd")
    (layer,) = opened_in_slicer(tmp_path / "seg.seg.nrrd", scan.geometry)
    np.testing.assert_array_equal(layer.array.astype(bool), scan.array >= lower)
    (row,) = medseg("measure", tmp_path / "seg.dcm")["segments"]
    assert row["voxel_count"] == int(layer.array.astype(bool).sum())
    assert row["volume_ml"] == pytest.approx(row["voxel_count"] * scan.geometry.voxel_volume_mm3 / 1000, rel=1e-6)


@pytest.mark.parametrize("case", SERIES)
def test_sides_and_colours_go_through_dicom_seg(shared_data: Path, tmp_path: Path, case: str) -> None:
    scan = read(shared_data / SERIES[case])
    array = np.zeros(scan.geometry.shape, np.uint8)
    array[20:40, 20:50, 3:9], array[60:80, 40:70, 5:12] = 1, 2
    names = ("kidney_right", "kidney_left")
    colours = ((255, 0, 0), (0, 255, 0))
    segments = (Segment(n, name, colour=colour) for n, (name, colour) in enumerate(zip(names, colours, strict=True), start=1))
    made = LabelMap(array, scan.geometry, tuple(segments))
    write(made, tmp_path / "seg.dcm", source=scan)
    medseg("convert", tmp_path / "seg.dcm", tmp_path / "seg.seg.nrrd")
    theirs = opened_in_slicer(tmp_path / "seg.seg.nrrd", scan.geometry)
    found = {one.label: one for one in segments_of(theirs)}
    assert {name: one.modifier.meaning for name, one in found.items()} == {"kidney_right": "Right", "kidney_left": "Left"}
    assert all(one.type.value == "64033007" for one in found.values())
    same_voxels(theirs, (made,))
    for name, colour in zip(names, colours, strict=True):
        assert np.abs(np.subtract(found[name].rgb, colour)).max() <= 1  # DICOM keeps colours as CIELab in 16 bits


def test_what_slicer_saves_the_command_reads(tmp_path: Path) -> None:
    """Drawn and saved in Slicer, measured by the command: the same voxels, the cropped file back on its scan."""
    affine = affine_of("oblique left-handed")
    scan = volume_node(np.zeros((7, 8, 9), np.int16), affine)
    node = empty_segmentation(scan)
    mask = np.zeros((7, 8, 9), np.uint8)
    mask[2:5, 3:6, 1:4] = 1
    key = node.GetSegmentation().AddEmptySegment("", "liver", (0.2, 0.4, 0.6))
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, key, scan)
    path = write_node(node, tmp_path / "x.seg.nrrd", "vtkMRMLSegmentationStorageNode")
    (row,) = medseg("measure", path)["segments"]
    assert (row["label"], row["voxel_count"]) == ("liver", 27)
    assert row["volume_ml"] == pytest.approx(27 * abs(np.linalg.det(affine[:3, :3])) / 1000, rel=1e-6)
    (ours,) = read_layers(path)
    np.testing.assert_array_equal(ours.mask("liver"), mask.T.astype(bool))
    assert ours["liver"].colour == (51, 102, 153)
    assert ours.geometry.matches(Geometry((9, 8, 7), affine))

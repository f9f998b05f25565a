"""3D Slicer's own code (the package slicer-core) reads what medseg writes, and medseg what it writes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.core.codes import ANATOMICAL_STRUCTURE, LEFT, Code
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.layers import segments_of
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.nrrd import write_nrrd
from medseg.io.seg_nrrd import read_segmentation, read_segmentation_layers, write_segmentation

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("slicer") is None or importlib.util.find_spec("vtk") is None,
    reason="3D Slicer's code is not installed: pip install slicer-core",
)

HELPER = Path(__file__).with_name("slicer_segments.py")


def in_slicer(*arguments: str | Path) -> list[dict]:
    """What Slicer saw of each file."""
    done = subprocess.run([sys.executable, str(HELPER), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def overlapping(geometry: Geometry) -> tuple[LabelMap, LabelMap]:
    organs = np.zeros(geometry.shape, np.uint8)
    organs[1:5, 1:4, 1:4] = 3
    organs[6:8, 5:7, 4:6] = 7
    lesion = np.zeros(geometry.shape, np.uint8)
    lesion[2:4, 2:6, 3] = 5
    kidney = Segment(
        7,
        "kidney ü",
        ANATOMICAL_STRUCTURE,
        Code("SCT", "64033007", "Kidney"),
        LEFT,
        Code("SCT", "818983003", "Abdomen"),
        colour=(1, 128, 255),
    )
    return (
        LabelMap(organs, geometry, (Segment(3, "liver", colour=(200, 100, 0)), kidney)),
        LabelMap(lesion, geometry, (Segment(5, "lesion in liver"),)),
    )


def compare(seen: dict, layers: tuple[LabelMap, ...]) -> None:
    assert (seen["read"], seen["written"], seen["layers"]) == (1, 1, len(layers))
    by_name = {entry["name"]: entry for entry in seen["segments"]}
    assert set(by_name) == {segment.label for segment in segments_of(layers)}
    for number, layer in enumerate(layers):
        for segment in layer.segments:
            entry = by_name[segment.label]
            index = np.argwhere(layer.mask(segment.label))
            assert (entry["value"], entry["layer"], entry["voxels"]) == (segment.number, number, len(index))
            np.testing.assert_allclose(entry["centroid"], layer.geometry.index_to_world(index).mean(axis=0), atol=1e-4)
            assert entry["volume"] == pytest.approx(len(index) * layer.geometry.voxel_volume_mm3, rel=1e-6)
            np.testing.assert_allclose(entry["colour"], np.array(segment.rgb) / 255, atol=1e-5)


@pytest.mark.parametrize("crop", [False, True], ids=["whole", "cropped"])
def test_layers_on_every_grid_go_to_slicer_and_back(right_angled: np.ndarray, tmp_path: Path, crop: bool) -> None:
    geometry = Geometry((9, 8, 7), right_angled)
    layers = overlapping(geometry)
    path = write_segmentation(layers, tmp_path / "x.seg.nrrd")
    (seen,) = in_slicer(path, *(["--crop"] if crop else []))
    compare(seen, layers)
    kidney = next(entry for entry in seen["segments"] if entry["name"] == "kidney ü")
    assert kidney["terminology"].split("~")[1:] == [
        "SCT^123037004^Anatomical Structure",
        "SCT^64033007^Kidney",
        "SCT^7771000^Left",
        "Anatomic codes - DICOM master list",
        "SCT^818983003^Abdomen",
        "^^",
    ]
    back = read_segmentation_layers(tmp_path / "x.slicer.seg.nrrd")
    assert len(back) == 2
    for ours, theirs in zip(layers, back, strict=True):
        assert theirs.geometry.matches(geometry)
        # Slicer numbers the values of each layer anew where layers are shared: names count
        for segment in ours.segments:
            home = next(layer for layer in back if segment.label in {one.label for one in layer.segments})
            np.testing.assert_array_equal(home.mask(segment.label), ours.mask(segment.label))
            if segment.type is not None:
                found = home[segment.label]
                assert (found.type, found.modifier, found.region) == (segment.type, segment.modifier, segment.region)


def test_one_layer_with_an_empty_segment(right_angled: np.ndarray, tmp_path: Path) -> None:
    geometry = Geometry((9, 8, 7), right_angled)
    organs, _ = overlapping(geometry)
    made = LabelMap(organs.array, geometry, (*organs.segments, Segment(9, "spleen")))
    path = write_segmentation(made, tmp_path / "x.seg.nrrd")
    (seen,) = in_slicer(path)
    assert {entry["name"]: entry["voxels"] for entry in seen["segments"]} == {"liver": 36, "kidney ü": 8, "spleen": 0}
    back = read_segmentation(tmp_path / "x.slicer.seg.nrrd")
    np.testing.assert_array_equal(back.mask("liver"), made.mask("liver"))
    assert not back.mask("spleen").any()


@pytest.mark.parametrize(
    ("extents", "kept"),
    [
        (("1 3 1 3 1 3", "5 7 5 7 3 5"), (27, 27)),  # a layer is clipped to the box around the extents of all its segments
        (("1 3 1 3 1 3", "1 3 1 3 1 3"), (27, 0)),
        (("1 3 1 3 1 3", None), (27, 27)),
        (("0 -1 0 -1 0 -1", "0 -1 0 -1 0 -1"), (0, 0)),
    ],
)
def test_slicer_drops_what_lies_outside_the_extents_and_medseg_says_so(
    tmp_path: Path, organs: LabelMap, extents: tuple[str, str | None], kept: tuple[int, int]
) -> None:
    keys = {"Segmentation_MasterRepresentation": "Binary labelmap", "Segmentation_ContainedRepresentationNames": "Binary labelmap|"}
    for index, (name, value, extent) in enumerate(zip("AB", (1, 7), extents, strict=True)):
        fields = {"ID": name, "Name": name, "LabelValue": str(value), "Layer": "0"} | ({"Extent": extent} if extent else {})
        keys |= {f"Segment{index}_{field}": text for field, text in fields.items()}
    path = write_nrrd(Volume(organs.array, organs.geometry), tmp_path / "x.seg.nrrd", keys=keys)
    (seen,) = in_slicer(path)
    assert {entry["name"]: entry["voxels"] for entry in seen["segments"]} == dict(zip("AB", kept, strict=True))
    ours = read_segmentation(path)
    assert (int(ours.mask("A").sum()), int(ours.mask("B").sum())) == (27, 27)
    lost = 54 - sum(kept)
    assert [finding.details["layers"] for finding in ours.findings if finding.code == "OUTSIDE_EXTENT"] == (
        [[{"layer": 0, "voxels": lost}]] if lost else []
    )


def test_real_files_of_slicer_come_back_through_slicer(shared_data: Path, tmp_path: Path) -> None:
    layers = read_segmentation_layers(shared_data / "nrrd_slicer_ctchest" / "SegmentationOverlapping.seg.nrrd")
    path = write_segmentation(layers, tmp_path / "x.seg.nrrd")
    (seen,) = in_slicer(path)
    compare(seen, layers)

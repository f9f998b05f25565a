"""Segmentations from archives, and spoiled ones: the volumes that are known, or a named error."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_segs import by_highdicom
from made_series import numbered_volume
from pydicom.uid import RLELossless

from medseg.core.errors import MedsegError, OverlappingSegmentsError
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.io.dicom.seg import write_seg
from medseg.io.dicom.seg_read import read_fractions, read_native_slices, read_seg, read_seg_layers
from medseg.io.dicom.volume import read_series


def test_prostate_with_zones_that_overlap(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "dicom_seg_qin_prostate"
    facts = json.loads((folder / "expected.json").read_text())["seg"]
    with pytest.raises(OverlappingSegmentsError, match="'Peripheral zone of the prostate' overlaps 'Normal'"):
        read_seg(folder / "seg.dcm")
    scan = read_series(folder / "adc")
    for geometry in (None, scan.geometry):
        layers = read_seg_layers(folder / "seg.dcm", geometry)
        masks = {segment.label: layer.mask(segment.label) for layer in layers for segment in layer.segments}
        ml = layers[0].geometry.voxel_volume_mm3 / 1000
        for fact in facts["segments"]:
            assert int(masks[fact["label"]].sum()) == fact["voxels"]
            assert fact["voxels"] * ml == pytest.approx(fact["volume_ml"], rel=1e-3)
        both = masks["Prostate"] & masks["Peripheral zone of the prostate"]
        assert int(both.sum()) == facts["overlap_voxels_prostate_and_peripheral_zone"]
        assert (both & masks["Normal"]).any()  # three of them in one voxel: fewer than three layers cannot hold them
        assert len(layers) == 3
    for fact in facts["segments"]:
        alone = read_seg(folder / "seg.dcm", segment=fact["number"])
        assert int(np.count_nonzero(alone.array)) == fact["voxels"]
    again = read_seg_layers(write_seg(layers, tmp_path / "x.dcm", scan), scan.geometry)
    for layer in layers:
        for segment in layer.segments:
            home = next(one for one in again if segment.label in {other.label for other in one.segments})
            np.testing.assert_array_equal(home.mask(segment.label), layer.mask(segment.label))
            assert home[segment.label].type == segment.type


@pytest.mark.parametrize(
    ("case", "scan", "file"), [("dicom_seg_dcmqi_ct", "ct", "liver_seg.dcm"), ("dicom_seg_dcmqi_small", "image", "seg/label.seg.dcm")]
)
def test_segmentations_by_dcmqi_lie_on_their_scan(shared_data: Path, case: str, scan: str, file: str) -> None:
    volume = read_series(shared_data / case / scan)
    placed = read_seg(shared_data / case / file, volume.geometry)
    own = read_seg(shared_data / case / file)
    assert placed.geometry == volume.geometry
    np.testing.assert_array_equal(placed.array, own.array)
    assert own.geometry.distance_mm(volume.geometry) < 0.01


def test_a_sparse_labelmap_of_dcmqi_says_that_its_spacing_is_the_headers(shared_data: Path) -> None:
    folder = shared_data / "dicom_seg_dcmqi_small"
    found = read_seg(folder / "sparse-labelmap-ppv5.dcm")
    assert (found.geometry.shape, found.geometry.spacing_mm[2]) == ((24, 38, 3), pytest.approx(2.5))
    scan = read_series(folder / "image")
    placed = read_seg(folder / "sparse-labelmap-ppv5.dcm", scan.geometry)
    np.testing.assert_array_equal(placed.array, found.array)


def test_a_mask_on_a_tilted_uneven_head_goes_out_and_comes_back(shared_data: Path, tmp_path: Path) -> None:
    """Read on true positions, most planes have no image of their own; the segmentation stands on the planes it was made on."""
    folder = shared_data / "dicom_ct_gantry_tilt_uneven_ge"
    scan = read_series(folder / "dicom" if (folder / "dicom").is_dir() else folder)
    made = LabelMap((scan.array > 200).astype(np.uint8), scan.geometry, (Segment(1, "skull"),))
    back = read_seg(write_seg(made, tmp_path / "x.dcm", scan))
    assert back.geometry.matches(scan.geometry, 0.01)
    np.testing.assert_array_equal(back.array, made.array)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP", "RLE"])
def test_spoiled_files_give_named_errors_or_labels(make_series, tmp_path: Path, kind: str) -> None:
    folder = make_series(numbered_volume((35, 33, 6)))
    pixels = np.zeros((6, 33, 35), np.uint8)
    pixels[1:5, 10:20, 10:20] = 1
    options = {"transfer_syntax_uid": RLELossless} if kind == "RLE" else {}
    path = by_highdicom(folder, pixels, tmp_path / "x.dcm", "LABELMAP" if kind == "RLE" else kind, **options)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(len(kind))
    spoiled_file = tmp_path / "y.dcm"
    refused: list[str] = []
    for attempt in range(60):
        spoiled = whole.copy()
        spoiled[random.integers(300, spoiled.size, 1 + attempt % 6)] = random.integers(0, 256)
        cut = spoiled.size - (attempt % 4 == 3) * int(random.integers(1, spoiled.size))
        spoiled_file.write_bytes(spoiled.tobytes()[:cut])
        for read in (read_seg, read_seg_layers, read_fractions, read_native_slices):
            try:
                read(spoiled_file)
            except MedsegError as err:
                refused.append(str(err))
    assert refused
    assert "PHANTOM" not in "".join(refused)  # the patient of these files

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from medseg.core.errors import GeometryError, InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.preprocessing.crop import Box
from medseg.preprocessing.foreground import foreground_mask
from medseg.preprocessing.plan import plan_crop
from medseg.preprocessing.preprocess import preprocess
from medseg.preprocessing.resample import restore

SHAPE = (60, 50, 24)


def patient(affine: np.ndarray, is_ct: bool) -> tuple[Volume, np.ndarray]:
    """An ellipsoid with two lungs, one open to the last slice, on a thin table, in noisy air; the scan and the body."""
    i, j, k = (np.linspace(-1, 1, n).reshape([-1 if m == axis else 1 for m in range(3)]) for axis, n in enumerate(SHAPE))
    body = np.broadcast_to((i / 0.7) ** 2 + (j / 0.6) ** 2 < 1, SHAPE).copy()
    is_open = Geometry(SHAPE, affine).orientation[2] in "SI"  # an organ goes on beyond the first or last slice, not beyond the skin
    lungs = (((np.abs(i) - 0.35) / 0.2) ** 2 + (j / 0.3) ** 2 < 1) & (np.abs(k + 0.2 * is_open) < 0.5 + 0.7 * is_open * (i > 0))
    table = np.broadcast_to(np.abs(j - 0.75) < 0.03, SHAPE)
    wide = affine.copy()
    wide[:3, :3] *= 4  # as large as a patient
    air, tissue = (-1000, 40) if is_ct else (0, 200)
    array = np.where(body & ~lungs | table, tissue, air) + np.random.default_rng(0).normal(0, 8, SHAPE)
    scan = Volume(
        array.astype(np.int16) if is_ct else np.abs(array).astype(np.float32),
        Geometry(SHAPE, wide),
        *(("CT", "HU") if is_ct else ("MR", "")),
    )
    return scan, body


@pytest.mark.parametrize("is_ct", [True, False])
def test_the_body_is_found_without_table_and_noise_and_with_its_lungs(affine: np.ndarray, is_ct: bool) -> None:
    scan, body = patient(affine, is_ct)
    mask, limit = foreground_mask(scan, None, "foreground")
    found = mask.T.astype(bool)
    assert limit == -300 if is_ct else 10 < limit < 40
    dice = 2 * (found & body).sum() / (found.sum() + body.sum())
    assert dice > 0.97


def test_a_real_body_holds_all_organs_and_is_the_mask_of_plain_tools(ct: Volume, organs: LabelMap) -> None:
    mask, _ = foreground_mask(ct, None, "foreground")
    found = mask.T.astype(bool)
    assert (found & (organs.array > 0)).sum() > 0.995 * (organs.array > 0).sum()
    labels, _ = scipy.ndimage.label(scipy.ndimage.binary_opening(ct.array > -300))
    largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    filled = np.stack([scipy.ndimage.binary_fill_holes(largest[:, :, k]) for k in range(largest.shape[2])], -1)
    assert 2 * (found & filled).sum() / (found.sum() + filled.sum()) > 0.99


def test_cropping_keeps_every_voxel_in_place_and_labels_go_back(affine: np.ndarray) -> None:
    scan, _ = patient(affine, True)
    cropped = preprocess(scan, "crop-foreground", margin_mm=3)
    assert cropped.array.size < 0.8 * scan.array.size
    start = np.rint(scan.geometry.world_to_index(cropped.geometry.origin_mm)).astype(int)
    where = tuple(slice(n, n + length) for n, length in zip(start, cropped.array.shape, strict=True))
    assert np.array_equal(cropped.array, scan.array[where])
    labels = LabelMap((cropped.array > -300).astype(np.uint8), cropped.geometry, (Segment(1, "body"),))
    expected = np.zeros(SHAPE, np.uint8)
    expected[where] = labels.array
    plan = plan_crop(scan.geometry, Box(tuple(start), tuple(start + cropped.array.shape)))
    assert np.array_equal(plan.restore(labels).array, expected)
    assert plan.restore(labels).geometry == scan.geometry
    assert np.array_equal(restore(labels, scan.geometry).array, expected)
    assert plan.prepare(scan).geometry.matches(cropped.geometry)
    (finding,) = cropped.findings
    assert finding.details["start"] == start.tolist()


def test_the_margin_is_in_mm(right_angled: np.ndarray) -> None:
    array = np.zeros((60, 50, 30), np.int16)
    array[20:40, 20:36, 12:20] = 900
    found = preprocess(Volume(array, Geometry(array.shape, right_angled)), "crop-foreground", margin_mm=4)
    spacing = np.asarray(found.geometry.spacing_mm)
    assert found.array.shape == tuple(np.array([20, 16, 8]) + 2 * np.ceil(4 / spacing - 1e-6).astype(int))


def test_a_plan_is_for_one_grid(affine: np.ndarray) -> None:
    scan, _ = patient(affine, True)
    plan = plan_crop(scan.geometry, Box((1, 1, 1), (5, 5, 5)))
    other = scan.geometry.cropped((1, 0, 0), SHAPE)
    with pytest.raises(GeometryError, match="another grid"):
        plan.prepare(Volume(scan.array, other))
    with pytest.raises(GeometryError, match="does not lie on the grid"):
        plan.restore(LabelMap(np.zeros(SHAPE, np.uint8), scan.geometry, ()))


def test_where_there_is_no_patient_it_is_said() -> None:
    grid = Geometry((4, 5, 6), np.eye(4))
    for values, match in ((np.full(grid.shape, 5), "one intensity only"), (np.full(grid.shape, np.nan), "no finite intensity")):
        with pytest.raises(InputError, match=match):
            preprocess(Volume(values, grid), "crop-foreground")
    with pytest.raises(InputError, match="no voxel is brighter than 50"):
        preprocess(Volume(np.arange(120).reshape(grid.shape) / 10, grid), "crop-foreground", threshold=50)
    with pytest.raises(ParameterError, match="margin_mm"):
        preprocess(Volume(np.zeros(grid.shape), grid), "crop-foreground", margin_mm=-1)


def test_a_patient_as_large_as_the_scan_leaves_nothing_to_cut() -> None:
    scan = Volume(np.full((9, 9, 9), 40, np.int16), Geometry((9, 9, 9), np.eye(4)), "CT", "HU")
    found = preprocess(scan, "crop-foreground", threshold=0)
    assert found.geometry == scan.geometry
    assert [one.code for one in found.findings] == ["CROPPED"]
    assert "nothing to cut" in found.findings[0].message

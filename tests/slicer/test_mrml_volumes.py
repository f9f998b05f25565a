"""Volume nodes of a real MRML scene become volumes: the same voxels at the same place in the patient, whatever lies above them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vtk
from mrml_nodes import DIRECTIONS, TILT, affine_of, load_volume, transform, volume_from, volume_node, write_node

from medseg.io.read import read

pytestmark = pytest.mark.usefixtures("scene")

TURN = np.array([[0.8, -0.6, 0.0, 12.0], [0.6, 0.8, 0.0, -7.5], [0.0, 0.0, 1.0, 30.0], [0, 0, 0, 1.0]])
STRETCH = np.array([[1.2, 0.1, 0.0, -3.0], [0.0, 0.9, 0.2, 4.0], [0.0, 0.0, -1.0, 8.0], [0, 0, 0, 1.0]])
PROBES = ((0, 0, 0), (6, 0, 0), (0, 5, 0), (0, 0, 4), (6, 5, 4), (3, 2, 1))


def scan(kind: str) -> tuple[Any, np.ndarray]:
    array = np.random.default_rng(5).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
    return volume_node(array, affine_of(kind)), array


def world_by_slicer(node: Any, index: tuple[int, int, int]) -> np.ndarray:
    """Where Slicer shows a voxel: its own matrix, then its own transform nodes, one after the other."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    point = matrix.MultiplyPoint((*index, 1.0))[:3]
    above = node.GetParentTransformNode()
    if above is None:
        return np.array(point)
    whole = vtk.vtkGeneralTransform()
    above.GetTransformToWorld(whole)
    return np.array(whole.TransformPoint(point))


@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("above", [(), (TURN,), (STRETCH,), (TURN, STRETCH)], ids=["plain", "turned", "stretched", "two transforms"])
def test_each_voxel_lies_where_slicer_shows_it(kind: str, above: tuple[np.ndarray, ...]) -> None:
    node, array = scan(kind)
    lowest = node
    for matrix in above:
        lowest = transform(lowest, matrix)
    volume = volume_from(node, "CT", "HU")
    assert volume.geometry.shape == (7, 6, 5)
    for index in PROBES:
        np.testing.assert_allclose(volume.geometry.index_to_world(index), world_by_slicer(node, index), atol=1e-6)
        assert volume.array[index] == array[index[::-1]]
    scale = np.prod([abs(np.linalg.det(matrix[:3, :3])) for matrix in above])
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(abs(np.linalg.det(affine_of(kind)[:3, :3])) * scale, rel=1e-9)
    assert volume.geometry.is_left_handed == bool(np.linalg.det(affine_of(kind)[:3, :3]) * np.prod([np.linalg.det(m) for m in above]) < 0)


def test_a_volume_is_the_memory_of_its_node() -> None:
    node, _ = scan("oblique")
    volume = volume_from(node)
    node.GetImageData().SetScalarComponentFromDouble(1, 2, 3, 0, 777)
    assert volume.array[1, 2, 3] == 777


def test_hardening_the_transform_changes_nothing() -> None:
    node, _ = scan("oblique left-handed")
    transform(node, TURN)
    before = volume_from(node).geometry
    node.HardenTransform()
    assert node.GetParentTransformNode() is None
    assert volume_from(node).geometry.matches(before, tolerance_mm=1e-6)


def test_a_tilted_scan_as_a_shear_above_a_straight_one() -> None:
    """Slicer may hold a gantry tilt as a transform above right-angled slices: it is the same grid as the sheared matrix."""
    array = np.zeros((5, 6, 7), np.int16)
    straight = np.diag([0.8, 1.1, 2.5, 1.0])
    shear = np.eye(4)
    shear[:3, :3] = TILT
    node = volume_node(array, straight)
    transform(node, shear)
    sheared = volume_node(array, shear @ straight)
    first, second = volume_from(node).geometry, volume_from(sheared).geometry
    assert first.matches(second, tolerance_mm=1e-9)
    assert first.shear_degrees == pytest.approx(18.5, abs=1e-6)


def test_a_dicom_ct_loaded_by_slicer_is_the_one_medseg_reads(shared_data: Path) -> None:
    """Voxel for voxel in the patient: the two may store the slices in another order."""
    folder = shared_data / "ct_totalseg_dicom" / "dicom"
    ours, theirs = read(folder), volume_from(load_volume(*sorted(folder.iterdir())), "CT", "HU")
    assert theirs.geometry.voxel_volume_mm3 == pytest.approx(ours.geometry.voxel_volume_mm3, rel=1e-6)
    index = np.stack(np.meshgrid(*(np.arange(0, n, step) for n, step in zip(ours.geometry.shape, (37, 41, 1), strict=True))), -1).reshape(
        -1, 3
    )
    found = theirs.geometry.world_to_index(ours.geometry.index_to_world(index))
    rounded = np.rint(found).astype(int)
    assert np.abs(found - rounded).max() < 1e-3
    np.testing.assert_array_equal(theirs.array[tuple(rounded.T)], ours.array[tuple(index.T)])
    assert sorted(theirs.geometry.shape) == sorted(ours.geometry.shape)


def test_a_tilted_dicom_head_keeps_its_shear_in_slicer(shared_data: Path) -> None:
    """What medseg reads goes into a node and comes back with the tilt that makes its volumes right."""
    ours = read(shared_data / "dicom_ct_gantry_tilt_phantom" / "dicom")
    assert abs(ours.geometry.shear_degrees) == pytest.approx(18.5, abs=0.1)
    node = volume_node(ours.array.T, np.array(ours.geometry.affine))
    back = volume_from(node, "CT", "HU")
    assert back.geometry.matches(ours.geometry, tolerance_mm=1e-6)
    assert back.geometry.voxel_volume_mm3 == pytest.approx(ours.geometry.voxel_volume_mm3, rel=1e-12)
    np.testing.assert_array_equal(back.array, ours.array)


@pytest.mark.parametrize("kind", [kind for kind in DIRECTIONS if "tilt" not in kind])
@pytest.mark.parametrize("suffix", [".nrrd", ".nii.gz"])
def test_what_slicer_writes_medseg_reads_on_the_same_grid(kind: str, suffix: str, tmp_path: Path) -> None:
    node, array = scan(kind)
    ours = read(write_node(node, tmp_path / f"scan{suffix}", "vtkMRMLVolumeArchetypeStorageNode"))
    theirs = volume_from(node)
    assert sorted(ours.geometry.shape) == sorted(theirs.geometry.shape)
    index = np.argwhere(np.ones(theirs.geometry.shape, bool))
    found = ours.geometry.world_to_index(theirs.geometry.index_to_world(index))
    np.testing.assert_allclose(found, np.rint(found), atol=1e-3)
    np.testing.assert_array_equal(ours.array[tuple(np.rint(found).astype(int).T)], theirs.array[tuple(index.T)])
    assert array.dtype == ours.array.dtype

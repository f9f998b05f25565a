"""Views as Slicer itself draws them: segments lie where numpy says, in their colours; the pictures are kept to be looked at."""

from __future__ import annotations

import numpy as np
import pytest
import qt
import slicer
import slicer.util
import vtk

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def save(pixels: np.ndarray, path) -> None:
    height, width, _ = pixels.shape
    image = qt.QImage(pixels.tobytes(), width, height, 3 * width, qt.QImage.Format_RGB888)
    assert image.save(str(path))


def affine_of(volume) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def sampled(mask: np.ndarray, volume, to_ras: np.ndarray, size: int) -> np.ndarray:
    """What numpy says of every pixel: whether the nearest voxel (k,j,i) is in the mask."""
    x, y = np.meshgrid(np.arange(size), np.arange(size)[::-1])
    ras = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=-1) @ to_ras.T
    index = np.rint(ras @ np.linalg.inv(affine_of(volume)).T)[..., :3].astype(int)[..., ::-1]
    inside = ((index >= 0) & (index < mask.shape)).all(axis=-1)
    found = np.zeros(inside.shape, bool)
    found[inside] = mask[tuple(index[inside].T)]
    return found


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.fixture
def two_segments(scene, sample_ct_node):
    """The ball in two halves, red and blue."""
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "S")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(sample_ct_node)
    ball = slicer.util.arrayFromVolume(sample_ct_node) == 60
    halves = [ball & (np.arange(64) < 32), ball & (np.arange(64) >= 32)]
    for name, half, colour in zip(("left", "right"), halves, (RED, BLUE), strict=True):
        node.GetSegmentation().AddEmptySegment(name, name, colour)
        slicer.util.updateSegmentBinaryLabelmapFromArray(half.astype(np.uint8), node, name, sample_ct_node)
    return node, halves


def coloured(pixels: np.ndarray, channel: int) -> np.ndarray:
    others = [other for other in range(3) if other != channel]
    return pixels[..., channel].astype(int) - pixels[..., others].max(axis=-1) > 60


@pytest.mark.parametrize("view", ["Red", "Yellow", "Green"])
def test_segments_lie_where_numpy_says_in_their_colours(view, two_segments, sample_ct_node, slice_picture, artefacts):
    node, halves = two_segments
    node.GetDisplayNode().SetOpacity2DFill(1.0)
    node.GetDisplayNode().SetVisibility2DOutline(False)
    centre = affine_of(sample_ct_node) @ np.array([32.4, 24.2, 10.3, 1.0])
    pixels, to_ras = slice_picture(sample_ct_node, tuple(centre[:3]), view)
    save(pixels, artefacts / f"slice_{view}.png")
    for half, channel in zip(halves, (0, 2), strict=True):
        expected = sampled(half, sample_ct_node, to_ras, 400)
        assert expected.sum() > 500
        assert dice(coloured(pixels, channel), expected) > 0.97
    node.GetDisplayNode().SetVisibility(False)
    hidden, _ = slice_picture(sample_ct_node, tuple(centre[:3]), view)
    assert not coloured(hidden, 0).any()


def test_the_scan_is_drawn_in_its_window(sample_ct_node, slice_picture):
    display = sample_ct_node.GetDisplayNode()
    display.SetAutoWindowLevel(False)
    display.SetWindowLevel(200, 0)
    display.SetInterpolate(False)
    centre = affine_of(sample_ct_node) @ np.array([32.4, 24.2, 10.3, 1.0])
    pixels, to_ras = slice_picture(sample_ct_node, tuple(centre[:3]))
    ball = sampled(slicer.util.arrayFromVolume(sample_ct_node) == 60, sample_ct_node, to_ras, 400)
    grey = pixels[..., 0].astype(float)
    assert np.median(grey[ball]) == pytest.approx(255 * 160 / 200, abs=2)
    assert dice(grey > 150, ball) > 0.97


def test_surfaces_are_drawn_in_their_colours(two_segments, solid_picture, artefacts):
    node, _ = two_segments
    pixels = solid_picture(node)
    save(pixels, artefacts / "surfaces.png")
    red, blue = coloured(pixels, 0), coloured(pixels, 2)
    assert red.sum() > 2000
    assert blue.sum() > 2000
    # seen from the front, the patient's right (greater R, here greater i: blue) is on the viewer's left
    assert np.nonzero(blue)[1].mean() < np.nonzero(red)[1].mean() - 20

"""Where voxels lie: the scan's grid, the world (RAS mm) and the grid of the segmentation that is edited."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from MedSegLib import nodes
from MedSegLib.nodes import orientedImage

BINARY_LABELMAP = "Binary labelmap"
SAME_LATTICE_VOXELS = 0.01  # grids whose voxels lie nearer than this share them; file formats round affines more finely
EMPTY_EXTENT = (0, -1, 0, -1, 0, -1)


@dataclass(frozen=True, eq=False)
class MaskPart:
    """A part of a grid: `array` (k,j,i), uint8, and where it lies, `extent` (i0, i1, j0, j1, k0, k1), ends included."""

    array: np.ndarray
    extent: tuple[int, int, int, int, int, int]

    @property
    def isEmpty(self):
        """Whether nothing is marked."""
        return not self.array.any()


def worldFromParent(node):
    """Return the matrix (4, 4) of the transforms above a node; raises JobError where one of them bends the space."""
    matrix = nodes.parentToWorld(node)
    return np.eye(4) if matrix is None else matrix


def shifted(index):
    """Return the matrix (4, 4) that moves voxel (0, 0, 0) to another one."""
    matrix = np.eye(4)
    matrix[:3, 3] = index
    return matrix


def voxelMm3(toWorld):
    """Return the volume of a voxel of a grid."""
    return float(abs(np.linalg.det(np.asarray(toWorld)[:3, :3])))


def imageMatrix(image):
    """Return the matrix (4, 4) from the voxels of a vtkOrientedImageData to its space."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def imageArray(image):
    """Return the voxels (k,j,i) of an oriented image as a view; none where it is empty."""
    if isEmptyExtent(image.GetExtent()) or image.GetPointData().GetScalars() is None:
        return np.zeros((0, 0, 0), np.uint8)
    return nodes.imageArray(image)


def croppedMask(array, extent=None):
    """Return what is marked in an array (k,j,i) that lies at an extent (None: from 0) as a MaskPart."""
    start = (0, 0, 0) if extent is None else (extent[4], extent[2], extent[0])
    held = _held(array)
    if held is None:
        return MaskPart(np.zeros((0, 0, 0), np.uint8), EMPTY_EXTENT)
    part = np.asarray(array[tuple(slice(low, high + 1) for low, high in held)] != 0).view(np.uint8)
    (k0, k1), (j0, j1), (i0, i1) = ((low + first, high + first) for (low, high), first in zip(held, start, strict=True))
    return MaskPart(part, (i0, i1, j0, j1, k0, k1))


def _held(array):
    """The first and last marked index of each axis; None where nothing is marked."""
    if 0 in array.shape:
        return None
    slabs = np.flatnonzero([slab.any() for slab in array])  # slab by slab: no mask of the whole scan is made
    if not len(slabs):
        return None
    low, high = int(slabs[0]), int(slabs[-1])
    rows = np.zeros(array.shape[1], bool)
    columns = np.zeros(array.shape[2], bool)
    for slab in array[low : high + 1]:
        marked = slab != 0
        rows |= marked.any(axis=1)
        columns |= marked.any(axis=0)
    return (low, high), *((int(at[0]), int(at[-1])) for at in map(np.flatnonzero, (rows, columns)))


def unionExtent(first, second):
    """Return the extent that holds both; an empty one holds nothing."""
    if isEmptyExtent(first):
        return tuple(second)
    if isEmptyExtent(second):
        return tuple(first)
    return tuple((min, max)[n % 2](a, b) for n, (a, b) in enumerate(zip(first, second, strict=True)))


def commonExtent(first, second):
    """Return the extent that both hold, or the empty one."""
    common = tuple((max, min)[n % 2](a, b) for n, (a, b) in enumerate(zip(first, second, strict=True)))
    return EMPTY_EXTENT if isEmptyExtent(common) else common


def isEmptyExtent(extent):
    """Whether an extent holds no voxel."""
    return any(extent[axis] > extent[axis + 1] for axis in (0, 2, 4))


def extentArray(array, extent, wanted):
    """Return the voxels of an array (k,j,i) at an extent as an array over another extent, 0 where it has none."""
    if tuple(extent) == tuple(wanted):
        return array
    shape = tuple(wanted[axis + 1] - wanted[axis] + 1 for axis in (4, 2, 0))
    out = np.zeros(shape, array.dtype)
    common = commonExtent(extent, wanted)
    if not isEmptyExtent(common):
        out[_slices(common, wanted)] = array[_slices(common, extent)]
    return out


def _slices(part, whole):
    return tuple(slice(part[axis] - whole[axis], part[axis + 1] - whole[axis] + 1) for axis in (4, 2, 0))


def extentAround(points, reachMm, toWorld, size):
    """Return the voxels of a grid of `size` (I, J, K) within a distance of points (RAS mm); None where that is the whole grid."""
    toIndex = np.linalg.inv(toWorld)
    index = (np.c_[np.asarray(points, float), np.ones(len(points))] @ toIndex.T)[:, :3]
    voxels = np.ceil(reachMm * np.linalg.norm(toIndex[:3, :3], axis=1))  # the planes of an axis lie that close, on sheared grids too
    low, high = np.floor(index.min(axis=0) - voxels), np.ceil(index.max(axis=0) + voxels)
    whole = tuple(n for length in size for n in (0, length - 1))
    extent = commonExtent(tuple(int(n) for pair in zip(low, high, strict=True) for n in pair), whole)
    return None if extent == whole or isEmptyExtent(extent) else extent


def endsAt(extent, box, size):
    """Whether an extent reaches a face of a box (None: the whole grid) that is no face of the grid."""
    if box is None or isEmptyExtent(extent):
        return False
    faces = [n for length in size for n in (0, length - 1)]
    return any(extent[at] == box[at] != faces[at] for at in range(6))


def latticeShift(fromMatrix, toMatrix, extent):
    """Return the whole voxels (i,j,k) between two grids that share their voxels over an extent; None where they do not."""
    step = np.linalg.inv(toMatrix) @ fromMatrix
    shift = np.rint(step[:3, 3])
    corners = np.array([[extent[0 + a], extent[2 + b], extent[4 + c], 1] for a in (0, 1) for b in (0, 1) for c in (0, 1)], float)
    away = np.abs(corners @ step.T - corners - np.append(shift, 0)).max()
    return tuple(int(n) for n in shift) if away < SAME_LATTICE_VOXELS else None


def onReference(part, fromWorld, segmentationNode, reference):
    """Return a mask on the grid of the segmentation, as the editor takes it, and how many of its voxels lie outside that grid.

    `fromWorld` is the matrix from the mask's voxels to the world. Where both grids share their voxels, these are moved, not
    resampled; else the nearest one is taken.
    """
    matrix = imageMatrix(reference)
    local = np.linalg.inv(worldFromParent(segmentationNode)) @ fromWorld
    whole = reference.GetExtent()
    if isEmptyExtent(part.extent):
        return orientedImage(np.zeros((0, 0, 0), np.uint8), EMPTY_EXTENT, matrix), 0
    shift = latticeShift(local, matrix, part.extent)
    if shift is None:
        return _resampled(part, local, reference), 0
    extent = tuple(part.extent[n] + shift[n // 2] for n in range(6))
    kept = commonExtent(extent, whole)
    if kept == tuple(extent):
        return orientedImage(part.array, extent, matrix), 0
    if isEmptyExtent(kept):
        return orientedImage(np.zeros((0, 0, 0), np.uint8), EMPTY_EXTENT, matrix), int(np.count_nonzero(part.array))
    array = extentArray(part.array, extent, kept)
    return orientedImage(array, kept, matrix), int(np.count_nonzero(part.array) - np.count_nonzero(array))


def _resampled(part, local, reference):
    """The mask at the nearest voxels of another grid, cut to what is marked."""
    found = slicer.vtkOrientedImageData()
    # one voxel of background around it: the resampling repeats what lies at the border
    wider = tuple(n + (-1, 1)[at % 2] for at, n in enumerate(part.extent))
    given = orientedImage(extentArray(part.array, part.extent, wider), wider, local)
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(given, reference, found, False, False)
    cut = croppedMask(imageArray(found), found.GetExtent())
    return orientedImage(cut.array, cut.extent, imageMatrix(reference))


def padded(image, extent):
    """Return an image over the extent of both, 0 where it had none."""
    wanted = unionExtent(image.GetExtent(), extent)
    if wanted == image.GetExtent():
        return image
    return orientedImage(extentArray(imageArray(image), image.GetExtent(), wanted), wanted, imageMatrix(image))


def segmentExtent(segmentationNode, segmentId, reference):
    """Return the extent on the reference grid that holds a segment's voxels; the whole grid where the segment has another one."""
    labelmap = segmentationNode.GetSegmentation().GetSegment(segmentId).GetRepresentation(BINARY_LABELMAP)
    if labelmap is None or isEmptyExtent(labelmap.GetExtent()):
        return EMPTY_EXTENT
    if slicer.vtkOrientedImageDataResample.DoGeometriesMatch(labelmap, reference):
        return tuple(labelmap.GetExtent())
    return tuple(reference.GetExtent())

"""One structure cut out of a scan: the cheapest surface by intensities and edges, found exactly."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from medseg.core.errors import ParameterError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, Number, PointRAS
from medseg.segmentation.classical.marks import MarkParams, Marks, mark, touching
from medseg.segmentation.classical.result import label_map_on

_UNITS = 1000.0  # costs are whole numbers: so many to one
_DEAREST = 1 << 25  # cost of an edge or of an intensity, at most: a mark outweighs all six edges of its voxel
_MARKED = 1 << 28
_BINS = 1024
_HELD = 0.01  # share of the surface on the border of the reach from which on it is told: noise touches it here and there
_TOLD = 10  # names of structures in a message
_SURPRISE = 0.01  # share of any intensity in a model: none is impossible


class GraphCutParams(MarkParams):
    """Parameters of `graph-cut`."""

    seeds: list[PointRAS] = Field([], description="Points inside the structure: all belong to one segment", unit="mm RAS")
    label: str = Field("region", description="Name of the segment of the seeds", min_length=1)
    model: Literal["histogram", "gaussian", "none"] = Field(
        "histogram", description="How likely an intensity is inside and outside, learnt from the marks; none: only edges count"
    )
    model_weight: Number = Field(1.0, description="Weight of the intensities against the surface", ge=0, le=1e3)
    smoothness_mm: Number = Field(
        5.0,
        description="Cost of a mm² of surface where there is no edge; larger gives smoother and smaller surfaces",
        unit="mm",
        ge=0,
        le=1e4,
    )
    connected: bool = Field(True, description="Keep only what is connected to the marks; else every region cheaper inside")
    contrast: Number | None = Field(
        None,
        description="Difference of intensity that makes surface cheap; empty: the mean difference of neighbours in the smoothed scan",
        unit="image",
        gt=0,
    )


@method("graph-cut", stage=Stage.SEGMENT, reference="doi:10.1109/ICCV.2001.937505; flow: doi:10.1109/TPAMI.2004.60")
def graph_cut(volume: Volume, params: GraphCutParams) -> LabelMap:
    """Cut one structure out of a scan where intensities and edges together cost least (Boykov and Jolly).

    A voxel costs -ln of how likely its intensity is on its side, learnt from the marks; two neighbours on different sides
    cost smoothness_mm / distance in mm · exp(-(difference / contrast)² / 2), distance on any grid (oblique, sheared). The
    answer is the best of all, in steps of 1/1000; of equally good ones the smallest. All seeds belong to one segment,
    markers may hold one structure and background. NaN and infinity are never inside. The finding CONTOUR_AT_REACH tells
    where the cut lies on the border of `reach_mm`. Raises ParameterError for a point outside the scan, marks of several
    structures, or nothing marked as background (by seeds, markers, reach_mm or background_beyond), InputError where no mark
    is left, GeometryMismatchError where the markers lie on another grid.

    >>> from medseg.core.geometry import Geometry
    >>> scan = Volume(np.array([[[0, 1, 0, 9, 9, 8, 9]]], np.int16), Geometry((1, 1, 7), np.eye(4)))
    >>> chosen = GraphCutParams(seeds=[(0, 0, 0)], background_seeds=[(0, 0, 6)], sigma_mm=0)
    >>> graph_cut(scan, chosen).array.ravel().tolist()
    [1, 1, 1, 0, 0, 0, 0]
    """
    from medseg.kernels.min_cut import min_cut

    marks = mark(volume, params, "graph-cut", one_structure=True)
    if len(marks.segments) != 1:
        names = ", ".join(segment.label for segment in marks.segments[:_TOLD]) + (", ..." if len(marks.segments) > _TOLD else "")
        raise ParameterError(f"graph-cut divides one structure from background, the marks hold {names}; use random-walker for several")
    if not marks.background:
        raise ParameterError("graph-cut: nothing is marked as background; give background_seeds, reach_mm or background_beyond")
    box = marks.box()
    terminal = _terminal(marks, params, box)
    lengths = np.linalg.norm(volume.geometry.affine[:3, :3], axis=0)[::-1]
    finite = None if marks.finite is None else marks.finite[box]
    edges = _edges(marks.image[box], finite, lengths, params.smoothness_mm, marks.step(params.contrast))
    mask, _ = min_cut(terminal, edges)
    if params.connected:
        mask = touching(mask, marks.array[box] == marks.segments[0].number)
    labels = np.zeros(marks.array.shape, marks.array.dtype)
    labels[box] = mask * marks.array.dtype.type(marks.segments[0].number)
    findings = (
        [] if marks.far is None else _at_reach(mask, marks.far[box] if finite is None else marks.far[box] & finite.view(bool), params)
    )
    return label_map_on(volume, labels, marks.segments, findings)


def _at_reach(mask: npt.NDArray[np.uint8], far: npt.NDArray[np.bool_], params: GraphCutParams) -> list[Finding]:
    """The finding CONTOUR_AT_REACH where a hundredth of the surface (faces of voxels) or more lies on what is beyond `reach_mm`."""
    inside, faces, held = mask > 0, 0, 0
    for axis in range(3):
        one, other = np.moveaxis(inside, axis, 0), np.moveaxis(far, axis, 0)
        faces += int((one[1:] != one[:-1]).sum())
        held += int((one[1:] & other[:-1]).sum()) + int((one[:-1] & other[1:]).sum())
    if not held or held < _HELD * faces:
        return []
    share = held / faces
    message = (
        f"{100 * share:.0f} % of the surface lies where reach_mm ({params.reach_mm:g} mm) ends: nothing else held it there, the volume "
        "follows from the reach; raise reach_mm if the structure goes on, else mark background beside it"
    )
    return [Finding("CONTOUR_AT_REACH", Severity.WARNING, message, {"share": share, "reach_mm": params.reach_mm})]


def _terminal(marks: Marks, params: GraphCutParams, box: tuple[slice, slice, slice]) -> npt.NDArray[np.int32]:
    """What each voxel of the box costs outside (> 0) or inside (< 0), (k,j,i)."""
    array = marks.array[box]
    out = np.zeros(array.shape, np.int32)
    if params.model != "none":
        place = np.minimum((np.clip(marks.image[box], 0, 1) * _BINS).astype(np.int32), _BINS - 1)
        gain = params.model_weight * _UNITS * _likelier(marks, params.model)
        out[...] = np.clip(np.rint(gain), -_DEAREST, _DEAREST).astype(np.int32)[place]
    out[array == marks.segments[0].number] = _MARKED
    out[array == marks.background] = -_MARKED
    if marks.finite is not None:
        out[marks.finite[box] == 0] = -_MARKED
    return out


def _likelier(marks: Marks, model: str) -> npt.NDArray[np.float64]:
    """Ln of how much likelier each of the levels of intensity is inside than outside."""
    from scipy.ndimage import gaussian_filter1d

    logarithms = []
    levels = (np.arange(_BINS) + 0.5) / _BINS
    for number in (marks.segments[0].number, marks.background):
        values = np.clip(marks.image[marks.array == number].astype(np.float64), 0, 1)
        spread = max(float(values.std()) if values.size else 0.0, marks.contrast, 1 / _BINS)
        if not values.size:  # every mark of background lies on NaN: nothing is known about it
            share = np.full(_BINS, 1 / _BINS)
        elif model == "gaussian":
            share = np.exp(-0.5 * ((levels - values.mean()) / spread) ** 2)
        else:
            counts = np.bincount(np.minimum((values * _BINS).astype(np.int64), _BINS - 1), minlength=_BINS)
            share = gaussian_filter1d(counts.astype(np.float64), max(marks.contrast * _BINS, 1.0), mode="constant")
        share = (1 - _SURPRISE) * share / share.sum() + _SURPRISE / _BINS
        logarithms.append(np.log(share))
    return np.asarray(logarithms[0] - logarithms[1])


def _edges(
    image: npt.NDArray[np.float32],
    finite: npt.NDArray[np.uint8] | None,
    lengths: npt.NDArray[np.float64],
    smoothness_mm: float,
    step: float,
) -> npt.NDArray[np.int32]:
    """Cost of a cut between each voxel and the next along k, j, i: (3,k,j,i)."""
    out = np.zeros((3, *image.shape), np.int32)
    for axis in range(3):
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        one, other = tuple(before), tuple(after)
        plain = min(smoothness_mm / float(lengths[axis]) * _UNITS, _DEAREST)
        likeness = np.exp(-0.5 * np.square((image[one] - image[other]) / np.float32(step))) if step else np.float32(1)
        part = out[axis]
        part[one] = np.rint(plain * likeness)
        if finite is not None:
            part[one] *= np.logical_and(finite[one], finite[other])
    return out

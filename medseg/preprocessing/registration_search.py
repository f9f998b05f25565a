"""The search of a registration: many starts on large voxels, the best few optimised, the best one refined."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.core.errors import InputError
from medseg.preprocessing.registration_images import Level, Pyramid

FloatArray = npt.NDArray[np.float64]

BINS = 32
TURN_DEGREES = 15.0
SHIFT_STEP_MM = 24.0  # along the body, where fields of view differ
LEAST_IN_VIEW = 0.35  # part of the smaller body that both scans must see at a start
LEVER_MM = 100.0  # a radian counts as this many mm when steps are made: half the width of a body
OPTIMISED_STARTS = 4
SAMPLES = 60_000  # points looked at on fine voxels
COARSE_SAMPLES = 15_000  # and on coarse ones, where a place within a few mm is enough
COARSE_MM = 5.0  # voxels from here on are coarse
WHOLE_BODY_MM = 250.0
PERTURBATION = (8.0, -6.0, 7.0), (4.0, -3.0, 5.0)  # mm and degrees by which the way back starts off


@dataclass(frozen=True)
class Found:
    """The rigid matrix (fixed to moving, RAS+ mm) and the mutual information (larger is better) before and after."""

    matrix: FloatArray
    metric_before: float | None
    metric_after: float


def search(still: Pyramid, moved: Pyramid, seed: int) -> Found:
    """Return the best rigid registration; raises InputError where no start lets the scans overlap."""
    coarse, other = still.levels[0], moved.levels[0]
    starts = [(metric_at(coarse, other, matrix, seed), matrix) for matrix in _starts(still, moved)]
    ranked = _ranked(starts)
    if not ranked:
        raise InputError(
            "the scans show no common part of the body at any start of the registration: check that they are of one region; "
            "where both already lie in one frame, say --registration none"
        )
    turned = [(metric_at(coarse, other, m, seed), m) for _, best in ranked[:2] for m in _turned(best, still.body_centre_mm)]
    ranked = _ranked([*ranked, *turned])
    optimised = []
    for _, start in _distinct(ranked, still)[:OPTIMISED_STARTS]:
        matrix, metric = optimise(coarse, other, start, still.body_centre_mm, seed)
        if in_view(still, moved, matrix) >= LEAST_IN_VIEW:
            optimised.append((metric, matrix))
    if not optimised:
        raise InputError("the registration left the scans without a common part of the body: check that they are of one region")
    matrix = _ranked(optimised)[0][1]
    for level, to in zip(still.levels[1:], _partners(still, moved), strict=True):
        matrix, _ = optimise(level, to, matrix, still.body_centre_mm, seed)
    finest = still.levels[-1], moved.levels[-1]
    return Found(matrix, metric_at(*finest, np.eye(4), seed), metric_at(*finest, matrix, seed) or 0.0)


def back_again(still: Pyramid, moved: Pyramid, matrix: FloatArray, seed: int) -> FloatArray:
    """Register the moving scan to the fixed one, from a start that is off by about 12 mm and 7° (less in a small field), down to 4 mm."""
    centre = moved.body_centre_mm
    wide = min(float(np.ptp(cloud.body_points_mm, axis=0).min()) for cloud in (still, moved))
    shift, degrees = (np.asarray(part) * min(1.0, wide / WHOLE_BODY_MM) for part in PERTURBATION)
    start = about(centre, euler(degrees), shift) @ np.linalg.inv(matrix)
    for level, to in list(zip(moved.levels, _partners_all(moved, still), strict=True))[:2]:
        start, _ = optimise(level, to, start, centre, seed)
    return start


def _partners(still: Pyramid, moved: Pyramid) -> list[Level]:
    return _partners_all(still, moved)[1:]


def _partners_all(still: Pyramid, moved: Pyramid) -> list[Level]:
    """The level of the other scan for each of ours: the finest where it has fewer."""
    return [moved.levels[min(n, len(moved.levels) - 1)] for n in range(len(still.levels))]


def _starts(still: Pyramid, moved: Pyramid) -> Iterator[FloatArray]:
    """Positions as they are, grids on each other, bodies on each other, and bodies shifted along each other."""
    shifts = [np.zeros(3), moved.centre_mm - still.centre_mm, moved.body_centre_mm - still.body_centre_mm]
    points, other = still.body_points_mm, moved.body_points_mm
    reach = (np.ptp(points[:, 2]) + np.ptp(other[:, 2])) / 2
    middle = np.median(other, axis=0) - np.median(points, axis=0)
    for step in np.arange(-np.floor(reach / SHIFT_STEP_MM), np.floor(reach / SHIFT_STEP_MM) + 1):
        shifts.append(middle + np.array([0.0, 0.0, step * SHIFT_STEP_MM]))
    for shift in shifts:
        matrix = np.eye(4)
        matrix[:3, 3] = shift
        if in_view(still, moved, matrix) >= LEAST_IN_VIEW:
            yield matrix


def _turned(matrix: FloatArray, centre_mm: FloatArray) -> Iterator[FloatArray]:
    for axis, sign in itertools.product(range(3), (-1, 1)):
        degrees = [0.0, 0.0, 0.0]
        degrees[axis] = sign * TURN_DEGREES
        yield matrix @ about(centre_mm, euler(degrees), np.zeros(3))


def _ranked(tried: list[tuple[float | None, FloatArray]]) -> list[tuple[float, FloatArray]]:
    return sorted(((metric, matrix) for metric, matrix in tried if metric is not None), key=lambda one: -one[0])


def _distinct(ranked: list[tuple[float, FloatArray]], still: Pyramid) -> list[tuple[float, FloatArray]]:
    """Starts that differ by a step at least: optimising one twice tells nothing new."""
    points = still.levels[0].geometry.corners_mm()
    kept: list[tuple[float, FloatArray]] = []
    for metric, matrix in ranked:
        place = points @ matrix[:3, :3].T + matrix[:3, 3]
        near = (np.linalg.norm(points @ m[:3, :3].T + m[:3, 3] - place, axis=1).mean() < SHIFT_STEP_MM / 2 for _, m in kept)
        if not any(near):
            kept.append((metric, matrix))
    return kept


def in_view(still: Pyramid, moved: Pyramid, matrix: FloatArray) -> float:
    """Part of the smaller body that both scans see."""
    points, other = still.body_points_mm, moved.body_points_mm
    inverse = np.linalg.inv(matrix)
    forth = moved.levels[0].geometry.contains(moved.levels[0].geometry.world_to_index(points @ matrix[:3, :3].T + matrix[:3, 3]))
    back = still.levels[0].geometry.contains(still.levels[0].geometry.world_to_index(other @ inverse[:3, :3].T + inverse[:3, 3]))
    return float(max(forth.mean(), back.mean()))


def euler(degrees: Any) -> FloatArray:
    """Return the rotation about R, then A, then S."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix())


def about(centre_mm: FloatArray, rotation: FloatArray, shift_mm: FloatArray) -> FloatArray:
    """Return the 4×4 matrix that turns about a point and then shifts."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = centre_mm - rotation @ centre_mm + shift_mm
    return matrix


def _method(still: Level, moved: Level, seed: int) -> Any:
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetMetricFixedMask(still.mask)
    # smoothed gradients point past the cut edges of a field of view
    method.MetricUseFixedImageGradientFilterOff()
    method.MetricUseMovingImageGradientFilterOff()
    method.SetNumberOfThreads(1)  # sums in another order would give another result
    samples = COARSE_SAMPLES if max(still.geometry.spacing_mm) > COARSE_MM else SAMPLES
    share = samples / max(1, still.array.size)
    if share < 1:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, seed)
    return method


def metric_at(still: Level, moved: Level, matrix: FloatArray, seed: int) -> float | None:
    """Return the mutual information at a place (larger is better), None where the scans do not overlap."""
    method = _method(still, moved, seed)
    method.SetInitialTransform(_transform(matrix))
    try:
        return -float(method.MetricEvaluate(still.image, moved.image))
    except RuntimeError:  # all points map outside: not an error of the search
        return None


def optimise(still: Level, moved: Level, matrix: FloatArray, centre_mm: FloatArray, seed: int) -> tuple[FloatArray, float | None]:
    """Climb from a start on one level by Powell's method (doi:10.1093/comjnl/7.2.155).

    Returns the matrix and its mutual information, None where the scans lost each other.
    """
    import SimpleITK as sitk

    step = min(max(still.geometry.spacing_mm), 8.0)
    transform = sitk.Euler3DTransform()
    transform.SetCenter(centre_mm.tolist())
    transform.SetMatrix(matrix[:3, :3].ravel().tolist(), 1e-6)
    transform.SetTranslation((matrix[:3, 3] - centre_mm + matrix[:3, :3] @ centre_mm).tolist())
    method = _method(still, moved, seed)
    # by line searches: the derivative of mutual information is misled by the cut edges of a field of view
    fine = step <= COARSE_MM
    method.SetOptimizerAsPowell(
        numberOfIterations=30,
        maximumLineIterations=30,
        stepLength=step / 2,
        stepTolerance=step * (5e-3 if fine else 2e-2),
        valueTolerance=1e-5 if fine else 1e-4,
    )
    method.SetOptimizerScales([LEVER_MM] * 3 + [1.0] * 3)
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(still.image, moved.image)
    except RuntimeError:
        return matrix, None
    rotation = np.asarray(transform.GetMatrix()).reshape(3, 3)
    found = about(np.asarray(transform.GetCenter()), rotation, np.asarray(transform.GetTranslation()))
    return found, metric_at(still, moved, found, seed)


def deform(still: Pyramid, moved: Pyramid, matrix: FloatArray, control_spacing_mm: float, seed: int) -> tuple[Any, float]:
    """Return a B-spline (fixed points to fixed points, before the matrix) and the mutual information it reaches."""
    import SimpleITK as sitk

    one, two = still.levels[0], moved.levels[0]
    extent = np.asarray(one.geometry.shape) * one.geometry.spacing_mm
    mesh = [max(1, round(float(length) / control_spacing_mm)) for length in extent]
    bent = sitk.BSplineTransformInitializer(one.image, mesh, order=3)
    method = _method(one, two, seed)
    method.SetMetricSamplingStrategy(method.NONE)  # all voxels: a thinned metric is too rough for so many parameters
    method.SetMovingInitialTransform(_transform(matrix))
    method.SetInitialTransform(bent, inPlace=True)
    # the accuracy is relative to the length of all displacements together: a larger one stops at once
    method.SetOptimizerAsLBFGS2(solutionAccuracy=1e-6, numberOfIterations=60, deltaConvergenceTolerance=1e-6)
    try:
        method.Execute(one.image, two.image)
    except RuntimeError as err:
        raise InputError("the deformable registration lost the overlap of the scans: use the rigid one (--registration rigid)") from err
    both = sitk.CompositeTransform([_transform(matrix), bent])
    fine = _method(still.levels[-1], moved.levels[-1], seed)
    fine.SetInitialTransform(both)
    return bent, -float(fine.MetricEvaluate(still.levels[-1].image, moved.levels[-1].image))


def folding(bent: Any, still: Pyramid) -> float:
    """Return the part of the body whose neighbourhood a deformation turns inside out (Jacobian determinant not above 0)."""
    import SimpleITK as sitk

    level = still.levels[0]
    image = level.image
    field = sitk.TransformToDisplacementField(
        bent, sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    )
    jacobian = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).T
    return float((jacobian[level.body] <= 0).mean())


def _transform(matrix: FloatArray) -> Any:
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform

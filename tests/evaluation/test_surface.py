"""Surface distances: their definitions written out on small masks, published values, and what must not change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from medseg.core.errors import GeometryMismatchError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.evaluation import surface as surface_module
from medseg.evaluation.surface import SurfaceScore, surface_scores
from medseg.kernels.surfels import surfel_areas_mm2


def label_map(array: NDArray[Any], affine: NDArray[Any]) -> LabelMap:
    array = array.astype(np.uint16)
    numbers = [int(number) for number in np.unique(array) if number]
    return LabelMap(array, Geometry(array.shape, affine), tuple(Segment(number, f"organ {number}") for number in numbers))


def scored(reference: NDArray[Any], prediction: NDArray[Any], affine: NDArray[Any], **options: Any) -> SurfaceScore:
    return surface_scores(label_map(reference, affine), label_map(prediction, affine), {1: (1, 1)}, **options)[1]


def row(score: SurfaceScore) -> dict[str, float]:
    return {name: value for name, value in score.to_dict().items() if name != "surface_reason" and value is not None}


def blob(rng: np.random.Generator, shape: tuple[int, int, int] = (9, 8, 7)) -> NDArray[np.bool_]:
    """A ragged mask, sometimes of several pieces, that may touch the border."""
    coarse = rng.random([-(-length // 2) for length in shape])
    return (np.kron(coarse, np.ones((2, 2, 2)))[tuple(map(slice, shape))] + 0.3 * rng.random(shape)) > 0.75


def surfels(mask: NDArray[np.bool_], affine: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places in mm and areas of the surfels, by shifting the padded mask (axes (i, j, k))."""
    padded = np.pad(mask, 1).astype(np.int64)
    ends = [length - 1 for length in padded.shape]
    cells = np.zeros(ends, np.int64)
    for n in range(8):
        i, j, k = n & 1, n >> 1 & 1, n >> 2
        cells |= padded[i : i + ends[0], j : j + ends[1], k : k + ends[2]] << n
    on_surface = (cells > 0) & (cells < 255)
    return (np.argwhere(on_surface) - 0.5) @ affine[:3, :3].T, surfel_areas_mm2(affine)[cells[on_surface]]


def directed(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.linalg.norm(first[:, None] - second[None], axis=2).min(axis=1)


def percentile(distances: NDArray[np.float64], areas: NDArray[np.float64], share: float) -> float:
    order = np.argsort(distances)
    return float(distances[order][np.searchsorted(np.cumsum(areas[order]) / areas.sum(), share - 1e-9)])


@pytest.mark.parametrize("seed", range(6))
def test_every_definition_written_out(affine: NDArray[Any], seed: int) -> None:
    """The table at the head of the module, term by term, on every kind of grid."""
    rng = np.random.default_rng(seed)
    masks = blob(rng), blob(rng)
    (points_r, areas_r), (points_p, areas_p) = (surfels(mask, affine) for mask in masks)
    d_r, d_p = directed(points_r, points_p), directed(points_p, points_r)
    score = scored(*masks, affine, tolerances_mm=(0.5, 2.0), percentile=90)
    pooled = scored(*masks, affine, percentile=90, definition="pooled")
    mean_r, mean_p = (d_r * areas_r).sum() / areas_r.sum(), (d_p * areas_p).sum() / areas_p.sum()
    near = {
        "hd_mm": max(d_r.max(), d_p.max()),
        "hd_percentile_mm": max(percentile(d_r, areas_r, 0.9), percentile(d_p, areas_p, 0.9)),
        "assd_mm": ((d_r * areas_r).sum() + (d_p * areas_p).sum()) / (areas_r.sum() + areas_p.sum()),
        "masd_mm": (mean_r + mean_p) / 2,
        "mean_from_reference_mm": mean_r,
        "mean_from_prediction_mm": mean_p,
        "reference_area_mm2": areas_r.sum(),
        "prediction_area_mm2": areas_p.sum(),
    }
    assert {name: getattr(score, name) for name in near} == pytest.approx(near, rel=1e-9)
    both = np.concatenate([d_r, d_p]), np.concatenate([areas_r, areas_p])
    assert pooled.hd_percentile_mm == pytest.approx(percentile(*both, 0.9), rel=1e-9)
    for tau in (0.5, 2.0):
        within_r, within_p = areas_r[d_r <= tau].sum(), areas_p[d_p <= tau].sum()
        recall, precision = within_r / areas_r.sum(), within_p / areas_p.sum()
        assert score.nsd[tau] == pytest.approx((within_r + within_p) / (areas_r.sum() + areas_p.sum()), rel=1e-9)
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert score.boundary_f1[tau] == pytest.approx(f1, rel=1e-9)
    centres = [np.argwhere(mask).mean(axis=0) @ affine[:3, :3].T for mask in masks]
    assert score.centre_distance_mm == pytest.approx(np.linalg.norm(centres[0] - centres[1]), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32),
    st.permutations([0, 1, 2]),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from(["surfels", "voxels"]),
)
def test_order_and_direction_of_the_axes_and_the_sides_change_nothing(
    seed: int, order: list[int], flips: tuple[bool, ...], shear: float, kind: str
) -> None:
    """The same masks stored with other axes are the same surfaces; reference and prediction may swap."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.diag([0.7, 1.3, 2.9])
    affine[1, 2] = shear
    masks = blob(rng), blob(rng)
    flipped = tuple(axis for axis in range(3) if flips[axis])
    turned = [np.flip(mask, flipped).transpose(order) for mask in masks]
    steps = affine.copy()
    steps[:3, :3] = (affine[:3, :3] * np.where(flips, -1, 1))[:, order]
    score = row(scored(*masks, affine, surface=kind))
    assert row(scored(*turned, steps, surface=kind)) == pytest.approx(score, rel=1e-9)
    swapped = row(scored(masks[1], masks[0], affine, surface=kind))
    if kind == "surfels":
        swapped |= {"reference_area_mm2": swapped["prediction_area_mm2"], "prediction_area_mm2": swapped["reference_area_mm2"]}
    assert swapped == pytest.approx(score, rel=1e-9)


@pytest.mark.parametrize("kind", ["surfels", "voxels"])
@pytest.mark.parametrize("axis", range(3))
def test_a_moved_box_is_as_far_away_as_it_was_moved(affine: NDArray[Any], axis: int, kind: str) -> None:
    """Along an axis that meets the others at right angles the faces lie apart by the move, and so do the centres."""
    array = np.zeros((20, 20, 20), bool)
    array[6:14, 5:13, 7:12] = True
    moved = np.roll(array, 3, axis)
    score = scored(array, moved, affine, tolerances_mm=(0.0, 50.0), surface=kind)
    step_mm = 3 * np.linalg.norm(affine[:3, axis])
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if np.allclose(np.delete(directions.T @ directions[:, axis], axis), 0):
        assert score.hd_mm == pytest.approx(step_mm)
        assert score.hd95_mm == pytest.approx(step_mm)
    else:  # no surface can move further than its points
        assert score.hd95_mm <= score.hd_mm <= step_mm + 1e-9
    assert score.centre_distance_mm == pytest.approx(step_mm)
    assert 0 < score.nsd[0.0] < 1
    assert score.nsd[50.0] == score.boundary_f1[50.0] == 1


def test_equal_masks_are_0_mm_apart_and_fill_the_volume_or_touch_its_border(affine: NDArray[Any]) -> None:
    """The face where the volume ends is surface: a mask that fills it has the area of the six sides, cut at edges."""
    full = np.ones((12, 10, 8), bool)
    for kind in ("surfels", "voxels"):
        score = scored(full, full, affine, surface=kind)
        assert (score.hd_mm, score.hd95_mm, score.assd_mm, score.masd_mm) == (0, 0, 0, 0)
        assert score.nsd == score.boundary_f1 == {1.0: 1.0}
    i, j, k = affine[:3, :3].T
    sides = 2 * sum(np.linalg.norm(np.cross(u, v)) * a * b for u, v, a, b in ((i, j, 12, 10), (i, k, 12, 8), (j, k, 10, 8)))
    assert 0.85 * sides < scored(full, full, affine).reference_area_mm2 < sides
    half = full.copy()
    half[6:] = False
    step = np.linalg.norm(affine[:3, 0])
    apart = scored(full, half, affine)
    assert apart.hd_mm <= 6 * step + 1e-9
    inverse = np.linalg.inv(affine[:3, :3])
    assert apart.hd_mm >= 6 / np.linalg.norm(inverse[0]) - 1e-9  # the planes at both ends are this far apart


def test_a_lesion_of_one_voxel() -> None:
    array = np.zeros((9, 9, 9), bool)
    array[4, 4, 4] = True
    other = np.roll(array, 2, axis=2)
    affine = np.diag([1.0, 1.0, 2.5, 1])
    score = scored(array, other, affine)
    assert (score.hd_mm, score.centre_distance_mm) == (5.0, 5.0)
    # eight corner triangles: the octahedron through the middles of the faces
    assert score.reference_area_mm2 == pytest.approx(8 * np.linalg.norm(np.cross((0.5, -0.5, 0), (0.5, 0, -1.25))) / 2)
    assert scored(array, other, affine, surface="voxels").assd_mm == 5.0


def test_an_empty_side_is_none_with_a_reason_never_0_and_never_infinite() -> None:
    """A missed tumour is no perfect score (0 mm), and an infinite one would vanish from a mean."""
    array = np.zeros((6, 6, 6), bool)
    array[2:4, 2:4, 2:4] = True
    affine = np.eye(4)
    sides = label_map(array, affine), label_map(array & False, affine)
    pairs = {1: (1, 1), 2: (1, None), 3: (None, 1), 4: (7, 7)}
    missed, invented = surface_scores(sides[0], sides[1], pairs), surface_scores(sides[1], sides[0], pairs)
    for score in (*missed.values(), *invented.values()):
        assert score.to_dict()["surface_reason"]
        assert row(score) == {}
    assert "a miss" in missed[1].reason
    assert "the reference has no voxel" in invented[1].reason
    assert "neither" in missed[4].reason
    assert list(missed) == [1, 2, 3, 4]


def test_pairs_may_join_any_numbers_and_any_number_of_times(organs: LabelMap) -> None:
    """Lesions that were merged or split: a segment stands in several rows."""
    pairs = {1: (1, 2), 2: (1, 1), 3: (5, 1), 9: (2, 1)}
    found = surface_scores(organs, organs, pairs)
    for number, (a, b) in pairs.items():
        masks = [label_map(organs.array == side, organs.geometry.affine) for side in (a, b)]
        alone = surface_scores(masks[0], masks[1], {number: (1, 1)})[number]
        assert row(found[number]) == pytest.approx(row(alone), rel=1e-12)


def test_labels_are_worked_off_in_groups_with_the_same_result(organs: LabelMap, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = organs.with_array(np.roll(organs.array, (1, 2, 0), (0, 1, 2)))
    whole = surface_scores(organs, moved)
    monkeypatch.setattr(surface_module, "_POINTS_AT_ONCE", 5000)
    assert surface_scores(organs, moved) == whole


def test_a_tolerance_of_whole_steps_holds_in_spite_of_rounded_spacings() -> None:
    """Five steps of 0.6 mm, stored as float32, are 3.0000001 mm: within 3 mm."""
    step = float(np.float32(0.6))
    array = np.zeros((20, 6, 6), bool)
    array[3:9, 1:5, 1:5] = True
    score = scored(array, np.roll(array, 5, axis=0), np.diag([step, 1, 1, 1]), tolerances_mm=(3.0, 2.9999))
    assert score.nsd[3.0] == 1
    assert score.nsd[2.9999] < 1


def test_names_say_what_the_number_is() -> None:
    array = np.zeros((6, 6, 6), bool)
    array[2:4, 2:4, 2:4] = True
    affine = np.eye(4)
    assert {"hd95_mm", "nsd_1mm", "boundary_f1_1mm"} < set(scored(array, array, affine).to_dict())
    assert "hd95_pooled_mm" in scored(array, array, affine, definition="pooled").to_dict()
    other = scored(array, array, affine, percentile=90, tolerances_mm=(0.5,))
    assert {"hd90_mm", "nsd_0.5mm"} < set(other.to_dict())
    assert "hd95_mm" not in other.to_dict()
    assert other.hd95_mm is None


def test_what_cannot_be_measured_is_refused() -> None:
    array = np.ones((4, 4, 4), bool)
    first, second = label_map(array, np.eye(4)), label_map(array, np.diag([1, 1, 1.01, 1]))
    with pytest.raises(GeometryMismatchError, match="resample"):
        surface_scores(first, second)
    for options in ({"tolerances_mm": (-1.0,)}, {"percentile": 0}, {"percentile": 101}, {"definition": "mean"}, {"surface": "mesh"}):
        with pytest.raises(ParameterError):
            surface_scores(first, first, **options)  # type: ignore[arg-type]


def published(expected: dict[str, Any], score: SurfaceScore, voxels: SurfaceScore, pooled: SurfaceScore) -> None:
    block = expected["deepmind_surface_distance"]
    ours = (score.hd_mm, score.hd95_mm, score.mean_from_reference_mm, score.mean_from_prediction_mm, *score.nsd.values())
    names = ("hausdorff100", "hausdorff95", "avg_ref_to_pred", "avg_pred_to_ref", "surface_dice_1mm", "surface_dice_2mm")
    assert ours == pytest.approx([block[name] for name in names], abs=1e-6)
    block = expected["voxel_border_6conn"]
    ours = (voxels.hd_mm, voxels.hd95_mm, pooled.hd95_mm, voxels.assd_mm, voxels.mean_from_reference_mm)
    names = ("hausdorff", "hd95_max_of_percentiles", "hd95_pooled", "assd_pooled", "asd_ref_to_pred")
    assert ours == pytest.approx([block[name] for name in names], abs=1e-6)


def read(path: Path, geometry: Geometry | None = None) -> LabelMap:
    image = nibabel.load(path)
    return label_map(np.asarray(image.dataobj), image.affine if geometry is None else geometry.affine)


def all_three(reference: LabelMap, prediction: LabelMap) -> list[dict[int, SurfaceScore]]:
    kinds: list[dict[str, Any]] = [{}, {"surface": "voxels"}, {"surface": "voxels", "definition": "pooled"}]
    return [surface_scores(reference, prediction, tolerances_mm=(1.0, 2.0), **kind) for kind in kinds]


def test_published_values_of_the_prostate_masks(shared_data: Path) -> None:
    folder = shared_data / "metrics_prostate_masks"
    metrics = json.loads((folder / "expected.json").read_text())["metrics"]
    reference = read(folder / metrics["ref"])
    cases = {name: values for name, values in metrics.items() if isinstance(values, dict) and "voxel_border_6conn" in values}
    assert len(cases) >= 3
    for name, values in cases.items():
        published(values, *(scores[1] for scores in all_three(reference, read(folder / name))))
    missed = surface_scores(reference, read(folder / "seg_empty.nii.gz"))[1]
    assert missed.hd_mm is None
    assert missed.reason


def test_published_values_of_the_spine(shared_data: Path) -> None:
    """Every label, and all labels together; the two grids differ by the last digits of the header."""
    folder = shared_data / "metrics_spine_semantic"
    metrics = json.loads((folder / "expected.json").read_text())["metrics"]
    reference = read(folder / "ref.nii.gz")
    prediction = read(folder / "pred.nii.gz", reference.geometry)
    scores = all_three(reference, prediction)
    blocks = {int(number): values for number, values in metrics["per_label"].items() if "voxel_border_6conn" in values}
    assert len(blocks) > 10
    for number, values in blocks.items():
        published(values, *(some[number] for some in scores))
    whole = [label_map(some.array > 0, reference.geometry.affine) for some in (reference, prediction)]
    published(metrics["foreground"], *(some[1] for some in all_three(whole[0], whole[1])))


def test_published_values_of_the_organs(shared_data: Path) -> None:
    folder = shared_data / "ct_totalseg_organs"
    document = json.loads((folder / "expected.json").read_text())
    blocks = document["metrics_fast_vs_full"]["per_label"]
    scores = all_three(read(folder / "labels_full.nii.gz"), read(folder / "labels_fast.nii.gz"))
    by_voxels = {values["ref_voxels"]: values for values in blocks.values()}
    array = read(folder / "labels_full.nii.gz").array
    found = [int(number) for number in np.unique(array) if number and int((array == number).sum()) in by_voxels]
    assert len(found) >= 5
    for number in found:
        published(by_voxels[int((array == number).sum())], *(some[number] for some in scores))

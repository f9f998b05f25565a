"""Regions that edges enclose: the volume of a ball, gaps, leaks, nested and cut regions."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.core.errors import InputError, ParameterError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.segmentation.classical.edge_surfaces import EdgeSurfacesParams, edge_surfaces

SHAPE = (48, 38, 18)
BALL_MM3 = 4 / 3 * np.pi * 12.0**3


def ball(affine: np.ndarray, noise: float = 3.0) -> Volume:
    geometry = Geometry(SHAPE, affine)
    away = away_mm(geometry, (23.3, 18.6, 8.8))
    array = 100 * np.clip(12.5 - away, 0, 1) + np.random.default_rng(0).normal(0, noise, SHAPE)
    return Volume(array.astype(np.float32), geometry, "CT", "HU")


def away_mm(geometry: Geometry, index: tuple[float, float, float]) -> np.ndarray:
    place = geometry.index_to_world(np.stack(np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij"), axis=-1))
    return np.linalg.norm(place - geometry.index_to_world(index), axis=-1)


def seen_mm3(radius_mm: float, sigma_mm: float = 0.7) -> float:
    """Volume inside the steepest slope of a blurred ball: the blur (with voxels of 1 mm and differences over two) draws it in."""
    seen_mm = radius_mm - (sigma_mm**2 + 1 / 12 + 1 / 3) / radius_mm
    return 4 / 3 * np.pi * seen_mm**3


def balls(*parts: tuple[tuple[float, float, float], float, float]) -> Volume:
    """Balls (centre, radius, intensity) in 0 with partial volumes, voxels of 1 mm."""
    geometry = Geometry((40, 21, 21), np.eye(4))
    array = sum(value * np.clip(radius + 0.5 - away_mm(geometry, centre), 0, 1) for centre, radius, value in parts)
    return Volume(np.asarray(array, np.float32), geometry)


def test_the_region_in_a_ball_has_its_volume_on_every_grid(affine: np.ndarray) -> None:
    scan = ball(affine)
    centre = tuple(scan.geometry.index_to_world((23, 18, 8)))
    for params in ({"seeds": [centre]}, {}):
        found = edge_surfaces(scan, EdgeSurfacesParams(sigma_mm=1, lower=8, upper=15, gap_mm=3, **params))
        volume_mm3 = int(found.array.astype(bool).sum()) * scan.geometry.voxel_volume_mm3
        assert volume_mm3 == pytest.approx(BALL_MM3, rel=0.05)


def test_two_seeds_give_two_segments_and_one_without_a_closed_edge_a_finding() -> None:
    scan = balls(((10, 10, 10), 6, 100), ((28, 10, 10), 6, 60))
    chosen = EdgeSurfacesParams(seeds=[(10, 9, 9), (28, 9, 9), (1, 1, 1)], sigma_mm=0.7, lower=5, upper=10, gap_mm=1)
    found = edge_surfaces(scan, chosen)
    assert [segment.label for segment in found.segments] == ["region_1", "region_2", "region_3"]
    counts = [int((found.array == n).sum()) for n in (1, 2, 3)]
    assert counts == [
        pytest.approx(seen_mm3(6), rel=0.04),
        pytest.approx(seen_mm3(6), rel=0.04),
        0,
    ]
    (leak,) = [finding for finding in found.findings if finding.code == "EDGE_LEAK"]
    assert leak.details["point_mm"] == [1, 1, 1]


def test_a_gap_is_closed_when_wide_enough_and_leaks_when_not() -> None:
    shell = np.abs(away_mm(Geometry((40, 40, 40), np.eye(4)), (20, 20, 20)) - 12) < 1.5
    shell[19:22, 19:22, 25:] = False  # a hole of 3 voxels
    scan = Volume(np.where(shell, 100, 0).astype(np.int16), Geometry(shell.shape, np.eye(4)))
    # the inner wall of the shell: its slope points outwards
    values = {"seeds": [(20, 20, 20)], "sigma_mm": 0.7, "lower": 15, "upper": 25}
    inside = edge_surfaces(scan, EdgeSurfacesParams(gap_mm=6, **values))
    assert int(inside.array.sum()) == pytest.approx(4 / 3 * np.pi * 10.5**3, rel=0.08)
    with pytest.raises(InputError, match="gap wider than 0 mm"):
        edge_surfaces(scan, EdgeSurfacesParams(gap_mm=0, **values))


def test_an_organ_cut_by_the_scan_needs_touching_border() -> None:
    scan = balls(((14, 10, -0.5), 8, 100))  # the lower half lies outside
    values = {"seeds": [(14, 10, 2)], "sigma_mm": 0.7, "lower": 5, "upper": 10, "gap_mm": 1}
    with pytest.raises(InputError, match="touching_border"):
        edge_surfaces(scan, EdgeSurfacesParams(**values))
    found = edge_surfaces(scan, EdgeSurfacesParams(**values, touching_border=True))
    assert int(found.array.sum()) == pytest.approx(seen_mm3(8) / 2, rel=0.05)


def test_every_region_gets_a_number_the_largest_first() -> None:
    scan = balls(((8, 10, 10), 5, 100), ((28, 10, 10), 8, 60))
    values = {"sigma_mm": 0.7, "lower": 5, "upper": 10, "gap_mm": 1}
    found = edge_surfaces(scan, EdgeSurfacesParams(separate=True, **values))
    assert [int((found.array == n).sum()) for n in (1, 2)] == [pytest.approx(seen_mm3(8), rel=0.04), pytest.approx(seen_mm3(5), rel=0.04)]
    few = edge_surfaces(scan, EdgeSurfacesParams(least_volume_mm3=1000, **values))
    assert int(few.array.sum()) == int((found.array == 1).sum())


def test_nothing_enclosed_is_said() -> None:
    flat = Volume(np.full((8, 8, 8), 20, np.int16), Geometry((8, 8, 8), np.eye(4)))
    found = edge_surfaces(flat, EdgeSurfacesParams())
    assert not found.array.any()
    assert "SEGMENT_EMPTY" in [finding.code for finding in found.findings]


def test_touching_border_without_seeds_is_refused() -> None:
    with pytest.raises(ParameterError, match="needs seeds"):
        edge_surfaces.build({"touching_border": True})


def test_a_second_seed_in_a_region_and_regions_beyond_the_most_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = balls(((10, 10, 10), 6, 100), ((28, 10, 10), 6, 60))
    chosen = {"sigma_mm": 0.7, "lower": 5, "upper": 10, "gap_mm": 1}
    found = edge_surfaces(scan, EdgeSurfacesParams(seeds=[(10, 9, 9), (11, 10, 10), (28, 10, 10)], **chosen))
    told = [item for item in found.findings if item.code == "SEEDS_IN_ONE_REGION"]
    assert [(item.details["segment"], item.details["held_by"]) for item in told] == [(2, 1)]
    assert np.unique(found.array).tolist() == [0, 1, 3]
    every = edge_surfaces(scan, EdgeSurfacesParams(separate=True, **chosen))
    assert [item.code for item in every.findings] == ["EDGE_LIMITS"]
    monkeypatch.setattr("medseg.segmentation.classical.edge_surfaces.MOST_REGIONS", 1)
    fewer = edge_surfaces(scan, EdgeSurfacesParams(separate=True, **chosen))
    assert fewer.array.max() == 1
    assert [item.details["dropped"] for item in fewer.findings if item.code == "REGIONS_DROPPED"] == [1]

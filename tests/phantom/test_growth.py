"""The growing patient: volumes by formula against Monte Carlo, masks and motions against the truth document."""

from __future__ import annotations

import json

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.phantom.growth import PLANS, GrowthStudy, make_growth, union_volume_mm3
from medseg.postprocessing.components import KeepLargestParams, keep_largest


@pytest.fixture(scope="module")
def study() -> GrowthStudy:
    return make_growth(1, spacings_mm=((3.0, 3.0, 3.0), (2.5, 2.5, 4.0)), noise_hu=0.0, blur_mm=0.0)


@pytest.mark.parametrize(
    ("diameters", "apart"), [((20.0, 14.0), 9.0), ((20.0, 14.0), 16.9), ((20.0, 14.0), 40.0), ((20.0, 6.0), 2.0), ((9.0, 0.0), 5.0)]
)
def test_the_volume_of_two_spheres_is_that_of_a_million_random_points(diameters, apart):
    random = np.random.default_rng(1)
    points = random.uniform((-12, -12, -12), (50, 12, 12), (1_000_000, 3))
    inside = np.linalg.norm(points, axis=1) < diameters[0] / 2
    inside |= np.linalg.norm(points - (apart, 0, 0), axis=1) < diameters[1] / 2
    assert union_volume_mm3(diameters, apart) == pytest.approx(inside.mean() * 62 * 24 * 24, rel=0.02)


def test_the_masks_have_the_volumes_of_the_formulas(study):
    for n, scan in enumerate(study.scans):
        expected = sum(lesion["volume_ml"][n] for lesion in study.truth["lesions"])
        found = np.count_nonzero(scan.label_map.array) * scan.label_map.geometry.voxel_volume_mm3 / 1000
        # a voxel belongs to what fills most of it: round bodies of few voxels (25 mm³ in 0.3 to 7 ml) come out a little small
        assert 0.92 * expected < found < 1.02 * expected


def test_lesions_lie_where_the_truth_says(study):
    for n, scan in enumerate(study.scans):
        for lesion in study.truth["lesions"]:
            for centre, diameters in zip(lesion["centres_ras_mm"][n], lesion["diameters_mm"], strict=True):
                index = np.rint(scan.label_map.geometry.world_to_index(centre)).astype(int)
                assert scan.label_map.array[tuple(index)] == (1 if diameters[n] > 0 else 0), lesion["name"]


def test_the_whole_body_moves_with_the_matrix(study):
    """The liver of the second scan has its centre of mass where the matrix takes that of the first."""
    centres = []
    for scan in study.scans:
        liver = keep_largest(scan.organs, KeepLargestParams(segments=["liver"])).mask("liver")
        centres.append(scan.organs.geometry.index_to_world(np.argwhere(liver).mean(axis=0)))
    matrix = study.scans[1].matrix
    assert np.linalg.norm(matrix[:3, :3] @ matrix[:3, :3].T - np.eye(3)) < 1e-12
    assert matrix[:3, :3] @ centres[0] + matrix[:3, 3] == pytest.approx(centres[1], abs=0.7)
    assert np.linalg.norm(centres[0] - centres[1]) > 10


def test_all_events_are_there(study):
    changes = {lesion["name"]: lesion["percent_change_from_base"][1] for lesion in study.truth["lesions"]}
    assert changes["grown"] == pytest.approx(100, abs=0.01)
    assert (changes["stable"], changes["gone"], changes["new"]) == (0.0, -100.0, None)
    assert changes["shrunk"] == pytest.approx(-50.4, abs=0.1)
    assert {plan.name for plan in PLANS} == set(changes)
    json.dumps(study.truth, allow_nan=False)


def test_too_many_scans_are_refused():
    with pytest.raises(ParameterError, match="1 to 3 scans"):
        make_growth(0, spacings_mm=((3.0, 3.0, 3.0),) * 4)

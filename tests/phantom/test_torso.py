"""The torso: its organs lie where they belong and never touch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.phantom.anatomy import Anatomy, Structure, distance_mm
from medseg.phantom.catalog import TORSO_FIELD_MM, TORSO_MIDDLE_MM, TORSO_ORGANS
from medseg.phantom.solids import Solid
from medseg.phantom.torso import GAP_MM, LUNG_GAP_MM, SEGMENTS, torso_anatomy

ORGANS = TORSO_ORGANS[:6]
SEEDS = (0, 7, 100_003, 900_001)


@pytest.fixture(scope="module", params=SEEDS)
def torso(request):
    return torso_anatomy(request.param)


def test_gaps_between_organs(torso):
    for first, second in itertools.combinations(ORGANS, 2):
        assert distance_mm(torso[first].solid, torso[second].solid) > GAP_MM - 1.0, (first, second)


def test_gaps_to_everything_of_like_density(torso):
    names = {structure.name for structure in torso.structures}
    soft = names & {"heart", "vena cava", "aorta", "stomach", "psoas right", "psoas left", "pancreas", "gallbladder", "cavity"}
    soft |= {name for name in names if name.startswith(("bowel", "ascending colon", "transverse")) and "gas" not in name}
    for organ, other in itertools.product(ORGANS, soft):
        least = LUNG_GAP_MM if organ.startswith("lung") else GAP_MM
        assert distance_mm(torso[organ].solid, torso[other].solid) > least - 1.2, (organ, other)


def test_organs_lie_in_the_cavity_and_the_tumour_in_the_liver(torso):
    for name in ORGANS:
        assert torso["cavity"].solid.contains(torso[name].solid.surface_cloud()).all()
    liver, tumour = torso["liver"].solid, torso["tumour"].solid
    assert liver.contains(tumour.surface_cloud()).all()
    assert distance_mm(liver, tumour) > 3
    assert torso["liver"].hu - torso["tumour"].hu >= 40


def test_sides(torso):
    """+x is the patient's right, +y front, +z head."""
    place = {name: np.array(torso[name].solid.centroid_mm) for name in TORSO_ORGANS}
    assert place["liver"][0] > 30
    assert place["spleen"][0] < -70
    assert place["kidney_right"][0] > 50 > -50 > place["kidney_left"][0]
    assert place["lung_right"][0] > 50 > -50 > place["lung_left"][0]
    assert place["kidney_right"][1] < place["liver"][1]  # kidneys lie behind
    assert place["kidney_right"][2] < place["kidney_left"][2] < place["spleen"][2] < place["lung_left"][2]
    assert torso["vertebrae"].solid.centre_mm[1] < place["kidney_right"][1]
    assert torso["heart"].solid.centre_mm[0] < 0


def test_volumes_are_of_anatomical_size():
    drawn = [torso_anatomy(seed) for seed in range(12)]
    limits = {
        "liver": (600, 1500),
        "spleen": (60, 250),
        "kidney_right": (70, 200),
        "kidney_left": (70, 200),
        "lung_right": (350, 2500),
        "lung_left": (300, 2500),
        "tumour": (15, 40),
    }
    for name, (low, high) in limits.items():
        volumes = np.array([anatomy[name].solid.volume_mm3 / 1000 for anatomy in drawn])
        assert ((volumes > low) & (volumes < high)).all(), name
        assert volumes.std() / volumes.mean() > 0.02, name
    assert len({len(anatomy.structures) for anatomy in drawn}) > 1  # bowel differs


def test_all_organs_and_the_width_of_the_body_fit_into_the_field_of_view():
    middle = np.array(TORSO_MIDDLE_MM)
    for seed in range(25):
        torso = torso_anatomy(seed)
        low, high = torso.box_mm(TORSO_ORGANS)
        assert high[2] - low[2] < TORSO_FIELD_MM[2] - 12
        skin = torso["body"].solid.surface_cloud()[:, :2]
        assert (np.abs(skin - middle) < np.array(TORSO_FIELD_MM[:2]) / 2).all()


def test_one_seed_one_torso():
    assert torso_anatomy(3) == torso_anatomy(3)
    assert torso_anatomy(3) != torso_anatomy(4)


def test_another_diameter_changes_the_tumour_alone():
    before, after = torso_anatomy(7), torso_anatomy(7, tumour_diameter_mm=25.0)
    assert after["tumour"].solid.volume_mm3 == pytest.approx(np.pi / 6 * 25**3)
    assert after["tumour"].solid.centre_mm == before["tumour"].solid.centre_mm
    assert [s for s in before.structures if s.label != "tumour"] == [s for s in after.structures if s.label != "tumour"]


@pytest.mark.parametrize("diameter_mm", [0, -3, 90])
def test_a_tumour_that_does_not_fit_raises(diameter_mm):
    with pytest.raises(ParameterError, match="does not fit"):
        torso_anatomy(7, tumour_diameter_mm=diameter_mm)


def test_distance_between_balls():
    first, second = Solid((0, 0, 0), (10, 10, 10)), Solid((30, 0, 0), (12, 12, 12))
    assert distance_mm(first, second) == pytest.approx(8, abs=0.3)
    assert distance_mm(first, Solid((15, 0, 0), (12, 12, 12))) == 0
    assert distance_mm(first, Solid((1, 0, 0), (4, 4, 4))) == pytest.approx(5, abs=0.3)


@pytest.mark.parametrize(
    "structures",
    [
        (Structure("a", Solid((0, 0, 0), (1, 1, 1)), 0.0),) * 2,
        (Structure("a", Solid((0, 0, 0), (1, 1, 1)), 0.0, "nothing"),),
        (Structure("a", Solid((0, 0, 0), (1, 1, 1)), 0.0, within="b"),),
    ],
)
def test_contradictory_anatomies_raise(structures):
    with pytest.raises(ParameterError):
        Anatomy("wrong", 0, structures, SEGMENTS)


def test_asking_for_an_unknown_structure_raises(torso):
    with pytest.raises(ParameterError, match="liver"):
        torso["third kidney"]

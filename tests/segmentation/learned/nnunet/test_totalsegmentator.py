from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.segmentation.learned.nnunet.totalsegmentator import coded, distinct_colour, find_task

PAIRED = ["kidney", "adrenal_gland", "lung_upper_lobe", "lung_lower_lobe", "kidney_cyst", "subclavian_artery", "common_carotid_artery"]
PAIRED += ["brachiocephalic_vein", "iliac_artery", "iliac_vena", "humerus", "scapula", "clavicula", "femur", "hip", "gluteus_maximus"]
PAIRED += ["gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas"]
SINGLE = ["spleen", "gallbladder", "liver", "stomach", "pancreas", "lung_middle_lobe_right", "esophagus", "trachea", "thyroid_gland"]
SINGLE += ["small_bowel", "duodenum", "colon", "urinary_bladder", "prostate", "sacrum", "heart", "aorta", "pulmonary_vein"]
SINGLE += ["brachiocephalic_trunk", "atrial_appendage_left", "superior_vena_cava", "inferior_vena_cava", "portal_vein_and_splenic_vein"]
SINGLE += ["spinal_cord", "brain", "skull", "sternum", "costal_cartilages", "vertebrae_S1"]
TOTAL = [*SINGLE, *(f"{name}_{side}" for name in PAIRED for side in ("left", "right"))]
TOTAL += [f"rib_{side}_{number}" for side in ("left", "right") for number in range(1, 13)]
TOTAL += [f"vertebrae_{part}{number}" for part, count in (("C", 7), ("T", 12), ("L", 5)) for number in range(1, count + 1)]


def test_total_has_117_structures() -> None:
    assert len(set(TOTAL)) == 117


@pytest.mark.parametrize("name", TOTAL)
def test_every_structure_of_total_has_a_code(name: str) -> None:
    segment = coded(Segment(1, name))
    assert segment.type is not None
    assert segment.type.scheme == "SCT"
    assert segment.category is not None
    words = name.split("_")
    side = words[1] if words[0] == "rib" else words[-1] if words[-1] in ("left", "right") else ""
    modifier = segment.modifier or segment.region_modifier
    assert (modifier.meaning.lower() if modifier else "") == side


def test_a_finding_lies_in_an_organ() -> None:
    cyst = coded(Segment(1, "kidney_cyst_left"))
    assert cyst.type.meaning == "Cyst"
    assert (cyst.region.meaning, cyst.region_modifier.meaning, cyst.modifier) == ("Kidney", "Left", None)


def test_unknown_names_have_no_code() -> None:
    assert coded(Segment(1, "class17")).type is None


def test_colours_stay_apart() -> None:
    colours = np.array([distinct_colour(number) for number in range(1, 118)], float)
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(colours, 2)]
    assert min(distances) >= 4
    neighbours = np.linalg.norm(np.diff(colours, axis=0), axis=1)
    assert neighbours.min() > 60


@pytest.mark.parametrize(
    ("name", "task", "modality"),
    [
        ("Dataset297_TotalSegmentator_total_3mm_1559subj", "total", "CT"),
        ("Dataset291_TotalSegmentator_part1_organs_1559subj", "total", "CT"),
        ("Dataset299_body_1559subj", "body", "CT"),
        ("Dataset852_TotalSegMRI_total_3mm_1088subj", "total_mr", "MR"),
        ("Dataset598_mri_body_6mm_139subj", "body_mr", "MR"),
        ("Dataset987_TotalSegmentator_new", "TotalSegmentator_new", "CT"),
    ],
)
def test_tasks_are_known_by_their_data_set(name: str, task: str, modality: str) -> None:
    found = find_task(name)
    assert (found.name, found.modality) == (task, modality)


@pytest.mark.parametrize("name", ["Dataset297_BoneMets", "Dataset008_Lymph", "Task251_TotalSegmentator", "", "Dataset299_anybody"])
def test_others_are_not_taken_for_one(name: str) -> None:
    assert find_task(name) is None


def test_scans_are_turned_to_ras_and_not_mirrored(write_model: Callable[..., Path], scan: Volume, dataset: dict[str, Any]) -> None:
    """The same scan stored the other way round gives the same labels in the patient, which a plain nnU-Net model does not."""
    pytest.importorskip("torch")
    from medseg.segmentation.learned.nnunet.model import NnunetModel
    from medseg.segmentation.learned.trained import Request

    turned = scan.with_array(scan.array[::-1, ::-1], scan.geometry.transformed(np.diag([-1, -1, 1]), (17, 14, 0), scan.geometry.shape))
    assert turned.geometry.orientation == "LPS"
    request = Request(device="cpu")
    for name, same in (("Dataset297_TotalSegmentator_total_3mm_1559subj", True), ("Dataset297_Mine", False)):
        model = NnunetModel.open(write_model(name=name, mirror=(0, 1, 2)))
        first, second = model.segment((scan,), request), model.segment((turned,), request)
        assert len(np.unique(first.labels)) > 1
        assert (second.labels.T[::-1, ::-1] == first.labels.T).all() == same
        assert first.record["mirror_axes"] == ([] if same else [0, 1, 2])
        assert (model.task is not None) == same

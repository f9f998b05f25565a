"""Models of TotalSegmentator: known by the name of their data set, their structures by SNOMED CT codes.

TotalSegmentator (doi:10.1148/ryai.230024) trains on scans turned to RAS and runs without mirrored passes. Codes beyond
those of `core.terminology` are the ones of its own published table; what neither knows gets a label only.
"""

from __future__ import annotations

import colorsys
import re
from dataclasses import dataclass, replace

from medseg.core.codes import ANATOMICAL_STRUCTURE, LEFT, MORPHOLOGICALLY_ABNORMAL_STRUCTURE, RIGHT, Code
from medseg.core.segment import Colour, Segment
from medseg.core.terminology import described
from medseg.segmentation.learned.nnunet.dataset import Labels

_DATASET = re.compile(r"Dataset(\d{3})_([A-Za-z0-9_.-]+)")
_FAMILY = re.compile(r"total_?seg", re.IGNORECASE)

# Number of a data set → task and a word of the data set's name: the numbers alone are free for everyone to use
_TASKS: dict[int, tuple[str, str]] = {
    8: ("liver_vessels", "HepaticVessel"),
    150: ("cerebral_bleed", "icb_v0"),
    258: ("lung_vessels", "lung_vessels"),
    260: ("hip_implant", "hip_implant"),
    291: ("total", "part1_organs"),
    292: ("total", "part2_vertebrae"),
    293: ("total", "part3_cardiac"),
    294: ("total", "part4_muscles"),
    295: ("total", "part5_ribs"),
    297: ("total", "total_3mm"),
    298: ("total", "total_6mm"),
    299: ("body", "body_1559subj"),
    300: ("body", "body_6mm"),
    301: ("heartchambers_highres", "heart_highres"),
    302: ("vertebrae_body", "vertebrae_body"),
    303: ("face", "face"),
    304: ("appendicular_bones", "appendicular_bones"),
    305: ("vertebrae_body", "vertebrae_discs"),
    315: ("pleural_pericard_effusion", "thoraxCT"),
    351: ("oculomotor_muscles", "oculomotor_muscles"),
    409: ("brain_structures", "neuro"),
    481: ("tissue_types", "tissue_1559subj"),
    485: ("tissue_4_types", "tissue_4types"),
    507: ("coronary_arteries", "coronary_arteries"),
    527: ("breasts", "breasts"),
    552: ("ventricle_parts", "ventricle_parts"),
    570: ("liver_segments", "ct_liver_segments"),
    576: ("liver_segments_mr", "mri_liver_segments"),
    597: ("body_mr", "mri_body"),
    598: ("body_mr", "mri_body_6mm"),
    756: ("vertebrae_mr", "mri_vertebrae"),
    775: ("head_glands_cavities", "head_glands_cavities"),
    776: ("headneck_bones_vessels", "headneck_bones_vessels"),
    777: ("head_muscles", "head_muscles"),
    778: ("headneck_muscles", "headneck_muscles_part1"),
    779: ("headneck_muscles", "headneck_muscles_part2"),
    789: ("kidney_cysts", "kidney_cyst"),
    850: ("total_mr", "TotalSegMRI_part1"),
    851: ("total_mr", "TotalSegMRI_part2"),
    852: ("total_mr", "TotalSegMRI_total_3mm"),
    853: ("total_mr", "TotalSegMRI_total_6mm"),
    855: ("appendicular_bones_mr", "TotalSegMRI_appendicular"),
    856: ("face_mr", "TotalSegMRI_face"),
    857: ("thigh_shoulder_muscles_mr", "TotalSegMRI_thigh"),
    913: ("lung_nodules", "lung_nodules"),
    920: ("aortic_sinuses", "aortic_sinuses"),
    925: ("tissue_types_mr", "MRI_tissue"),
}

# Label without side → SNOMED CT code, meaning
_STRUCTURES = {
    "autochthon": ("244849004", "Deep muscle of back"),
    "body_extremities": ("66019005", "Limb"),
    "body_trunc": ("22943007", "Trunk"),
    "carpal": ("83936004", "Carpus"),
    "coronary_arteries": ("41801008", "Coronary artery"),
    "face": ("89545001", "Face"),
    "gluteus_minimus": ("75297007", "Gluteus minimus muscle"),
    "iliopsoas": ("68455001", "Iliopsoas muscle"),
    "liver_vessels": ("59820001", "Blood vessel"),
    "lung_pleural": ("3120008", "Pleural membrane"),
    "lung_trachea_bronchia": ("110726009", "Trachea and bronchus"),
    "lung_vessels": ("59820001", "Blood vessel"),
    "metacarpal": ("36455000", "Metacarpal bones"),
    "metatarsal": ("53884002", "Metatarsal"),
    "phalanges_feet": ("28641004", "Phalanx structure"),
    "phalanges_hand": ("28641004", "Phalanx structure"),
    "radius": ("62413002", "Radius"),
    "ribs": ("113197003", "Rib"),
    "tarsal": ("108371006", "Tarsal bones"),
    "ulna": ("23416004", "Ulna"),
    "vertebrae_body": ("3572006", "Vertebral body"),
    "vertebrae_cervical": ("51282000", "Vertebra"),
    "vertebrae_lumbar": ("51282000", "Vertebra"),
    "vertebrae_thoracic": ("51282000", "Vertebra"),
}
_FINDINGS = {
    "intracerebral_hemorrhage": ("50960005", "Hemorrhage"),
    "kidney_cyst": ("367643001", "Cyst"),
    "liver_tumor": ("108369006", "Neoplasm"),
    "pericardial_effusion": ("41699000", "Effusion"),
    "pleural_effusion": ("41699000", "Effusion"),
}
_REGIONS = {
    "intracerebral_hemorrhage": ("12738006", "Brain"),
    "kidney_cyst": ("64033007", "Kidney"),
    "liver_tumor": ("10200004", "Liver"),
    "liver_vessels": ("10200004", "Liver"),
    "lung_vessels": ("39607008", "Lung"),
    "pericardial_effusion": ("25489000", "Pericardial cavity"),
    "pleural_effusion": ("91381003", "Pleural cavity"),
    "vertebrae_cervical": ("122494005", "Cervical spine"),
    "vertebrae_lumbar": ("122496007", "Lumbar spine"),
    "vertebrae_thoracic": ("122495006", "Thoracic spine"),
}
_SIDES = {"left": LEFT, "right": RIGHT}
_SHADES = ((0.70, 0.95), (0.45, 0.75), (0.95, 0.70), (0.30, 0.98))  # saturation and value, in turn


@dataclass(frozen=True)
class Task:
    """A task of TotalSegmentator, as it is called there."""

    name: str
    modality: str

    @property
    def title(self) -> str:
        """A line for people."""
        return f"TotalSegmentator, task {self.name} ({self.modality})"


def find_task(*names: str) -> Task | None:
    """Return the task a model is of, by the first of `names` that is a data set of TotalSegmentator; None for others.

    >>> find_task("Dataset297_TotalSegmentator_total_3mm_1559subj").name
    'total'
    >>> find_task("Dataset297_MyOwnThing") is None
    True
    """
    for name in names:
        match = _DATASET.fullmatch(name)
        if match is None:
            continue
        task, word = _TASKS.get(int(match[1]), ("", ""))
        if task and word in match[2]:
            return Task(task, _modality(task, match[2]))
        if _FAMILY.search(match[2]):
            return Task(match[2], _modality(match[2], match[2]))
    return None


def model_segments(labels: Labels, algorithm: str) -> tuple[Segment, ...]:
    """Return the segments of a model's labels: codes where the name is known, colours that differ.

    >>> liver, thing = model_segments(Labels({1: "liver", 2: "thing"}, (0, 1, 2)), "x")
    >>> liver.type.value, thing.type
    ('10200004', None)
    """
    return tuple(
        coded(Segment(number, label, colour=distinct_colour(number), algorithm=algorithm)) for number, label in sorted(labels.names.items())
    )


def coded(segment: Segment) -> Segment:
    """Return a segment with the codes of its label, where they are known."""
    name = re.sub(r"[\s\-]+", "_", segment.label.strip().lower())
    stem, _, last = name.rpartition("_")
    side = _SIDES.get(last)
    stem = stem if side is not None else name
    region = Code("SCT", *_REGIONS[stem]) if stem in _REGIONS else None
    if stem in _FINDINGS:
        kind = Code("SCT", *_FINDINGS[stem])
        return replace(segment, category=MORPHOLOGICALLY_ABNORMAL_STRUCTURE, type=kind, region=region, region_modifier=side)
    if stem in _STRUCTURES:
        return replace(segment, category=ANATOMICAL_STRUCTURE, type=Code("SCT", *_STRUCTURES[stem]), modifier=side, region=region)
    return described(segment)


def distinct_colour(number: int) -> Colour:
    """Return a colour for a number: hues a golden angle apart, in four shades, so that hundreds stay apart.

    >>> distinct_colour(1) != distinct_colour(2)
    True
    """
    saturation, value = _SHADES[(number - 1) % len(_SHADES)]
    r, g, b = colorsys.hsv_to_rgb((0.02 + 0.61803398875 * (number - 1)) % 1.0, saturation, value)
    return round(r * 255), round(g * 255), round(b * 255)


def _modality(task: str, dataset: str) -> str:
    return "MR" if task.endswith("_mr") or "MRI" in dataset else "CT"

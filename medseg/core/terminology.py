"""SNOMED CT terms for common segment names, so that other systems know what a segment is.

The side of a paired organ is always the modifier, never part of the type (DICOM PS3.3, C.8.20.4). Labels follow
TotalSegmentator, the body-composition tools and medseg's phantoms; only codes found in two independent sources are here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from medseg.core.codes import ANATOMICAL_STRUCTURE, LEFT, MORPHOLOGICALLY_ABNORMAL_STRUCTURE, RIGHT, RIGHT_AND_LEFT, TISSUE, Code
from medseg.core.segment import Segment

Terms = tuple[Code, Code, Code | None]

SUBSTANCE = Code("SCT", "105590001", "Substance")

# What a segment without a known name is said to be: some anatomical structure, which claims nothing false
GENERIC_TERMS: Terms = (ANATOMICAL_STRUCTURE, ANATOMICAL_STRUCTURE, None)

# Label without side: code and meaning. These have a left and a right one
_PAIRED = {
    "adrenal_gland": ("23451007", "Adrenal gland"),
    "atrial_appendage": ("68786006", "Auricular appendage"),
    "brachiocephalic_vein": ("8887007", "Brachiocephalic vein"),
    "clavicula": ("51299004", "Clavicle"),
    "common_carotid_artery": ("32062004", "Common carotid artery"),
    "femur": ("71341001", "Femur"),
    "fibula": ("87342007", "Fibula"),
    "gluteus_maximus": ("206007", "Gluteus maximus muscle"),
    "gluteus_medius": ("78333006", "Gluteus medius muscle"),
    "hip": ("29836001", "Hip"),
    "hippocampus": ("5366008", "Hippocampus"),
    "humerus": ("85050009", "Humerus"),
    "iliac_artery": ("73634005", "Common iliac artery"),
    "iliac_vena": ("46027005", "Common iliac vein"),
    "kidney": ("64033007", "Kidney"),
    "lung": ("39607008", "Lung"),
    "lung_lower_lobe": ("90572001", "Lower lobe of lung"),
    "lung_middle_lobe": ("40020002", "Middle lobe of lung"),
    "lung_upper_lobe": ("45653009", "Upper lobe of lung"),
    "patella": ("64234005", "Patella"),
    "rib": ("113197003", "Rib"),
    "scapula": ("79601000", "Scapula"),
    "subclavian_artery": ("36765005", "Subclavian artery"),
    "tibia": ("12611008", "Tibia"),
}

_RIBS = {
    1: ("48535007", "First rib"),
    2: ("78247007", "Second rib"),
    3: ("25888004", "Third rib"),
    4: ("25523003", "Fourth rib"),
    5: ("15339008", "Fifth rib"),
    6: ("59558009", "Sixth rib"),
    7: ("24915002", "Seventh rib"),
    8: ("5953002", "Eighth rib"),
    9: ("22565002", "Ninth rib"),
    10: ("77644006", "Tenth rib"),
    11: ("58830002", "Eleventh rib"),
    12: ("43993008", "Twelfth rib"),
}

# These are one of a kind; the chambers of the heart carry a side in their name, but are no pair
_SINGLE = {
    "aorta": ("15825003", "Aorta"),
    "body": ("38266002", "Entire body"),
    "brachiocephalic_trunk": ("12691009", "Brachiocephalic artery"),
    "brain": ("12738006", "Brain"),
    "colon": ("71854001", "Colon"),
    "costal_cartilages": ("50016007", "Costal cartilage"),
    "duodenum": ("38848004", "Duodenum"),
    "esophagus": ("32849002", "Esophagus"),
    "gallbladder": ("28231008", "Gallbladder"),
    "heart": ("80891009", "Heart"),
    "heart_atrium_left": ("82471001", "Left atrium"),
    "heart_atrium_right": ("73829009", "Right atrium"),
    "heart_myocardium": ("74281007", "Myocardium"),
    "heart_ventricle_left": ("87878005", "Left ventricle of heart"),
    "heart_ventricle_right": ("53085002", "Right ventricle of heart"),
    "inferior_vena_cava": ("64131007", "Inferior vena cava"),
    "liver": ("10200004", "Liver"),
    "pancreas": ("15776009", "Pancreas"),
    "portal_vein": ("32764006", "Portal vein"),
    "portal_vein_and_splenic_vein": ("110765007", "Portal vein and splenic vein"),
    "prostate": ("41216001", "Prostate"),
    "pulmonary_artery": ("81040000", "Pulmonary artery"),
    "pulmonary_vein": ("122972007", "Pulmonary vein"),
    "sacrum": ("54735007", "Sacrum"),
    "skeletal_muscle": ("127954009", "Skeletal muscle"),
    "skull": ("89546000", "Skull"),
    "small_bowel": ("30315005", "Small intestine"),
    "spinal_cord": ("2748008", "Spinal cord"),
    "spine": ("421060004", "Vertebral column"),
    "spleen": ("78961009", "Spleen"),
    "sternum": ("56873002", "Sternum"),
    "stomach": ("69695003", "Stomach"),
    "superior_vena_cava": ("48345005", "Superior vena cava"),
    "thyroid_gland": ("69748006", "Thyroid gland"),
    "trachea": ("44567001", "Trachea"),
    "urinary_bladder": ("89837001", "Urinary bladder"),
    "vertebrae": ("51282000", "Vertebra"),
}

_VERTEBRAE = {
    "c1": "14806007", "c2": "39976000", "c3": "113205007", "c4": "5329002", "c5": "36978003", "c6": "36054005", "c7": "87391001",
    "t1": "64864005", "t2": "53733008", "t3": "1626008", "t4": "73071006", "t5": "56401006", "t6": "45296009", "t7": "62487009",
    "t8": "11068009", "t9": "82687006", "t10": "7610001", "t11": "12989004", "t12": "23215003",
    "l1": "66794005", "l2": "14293000", "l3": "36470004", "l4": "11994002", "l5": "49668003", "s1": "65985001",
}  # fmt: skip

_TISSUES = {
    "bone": ("3138006", "Bone"),
    "fat": ("55603005", "Fat"),
    "subcutaneous_fat": ("67769002", "Subcutaneous fatty tissue"),
    "torso_fat": ("55603005", "Fat"),
    "visceral_fat": ("55603005", "Fat"),
}

_AIR = ("15158005", "Air")

_ABNORMAL = {
    "cyst": ("367643001", "Cyst"),
    "lesion": ("52988006", "Lesion"),
    "tumor": ("108369006", "Tumor"),
    "tumour": ("108369006", "Tumor"),
}

_OTHER_NAMES = {
    "bladder": "urinary_bladder",
    "bones": "bone",
    "clavicle": "clavicula",
    "gall_bladder": "gallbladder",
    "iliac_vein": "iliac_vena",
    "kidneys": "kidney",
    "lungs": "lung",
    "muscle": "skeletal_muscle",
    "oesophagus": "esophagus",
    "small_intestine": "small_bowel",
    "thyroid": "thyroid_gland",
    "vertebral_column": "spine",
}

_BOTH = frozenset({"kidneys", "lungs"})


def segment_terms(label: str) -> Terms | None:
    """Return category, type and side of a segment's name, None where the name is not known.

    Case, spaces and hyphens do not matter; the side may stand first or last.

    >>> category, type_, side = segment_terms("kidney_left")
    >>> type_.meaning, side.meaning
    ('Kidney', 'Left')
    >>> segment_terms("structure 7") is None
    True
    """
    name = re.sub(r"[\s\-]+", "_", label.strip().lower())
    if name in _SINGLE:
        return _terms(ANATOMICAL_STRUCTURE, _SINGLE[name])
    if name == "air":
        return _terms(SUBSTANCE, _AIR)
    for category, table in ((TISSUE, _TISSUES), (MORPHOLOGICALLY_ABNORMAL_STRUCTURE, _ABNORMAL)):
        found = table.get(_OTHER_NAMES.get(name, name))
        if found:
            return _terms(category, found)
    return _numbered(name) or _sided(name)


def described(segment: Segment) -> Segment:
    """Return the segment with category, type and side of its label; one that has a type is left as it is.

    >>> described(Segment(1, "liver")).type.value
    '10200004'
    """
    terms = segment_terms(segment.label)
    if segment.type is not None or terms is None:
        return segment
    category, type_, side = terms
    return replace(segment, category=category, type=type_, modifier=segment.modifier or side)


def _terms(category: Code, entry: tuple[str, str], side: Code | None = None) -> Terms:
    return category, Code("SCT", *entry), side


def _numbered(name: str) -> Terms | None:
    vertebra = re.fullmatch(r"vertebrae?_([ctls]\d+)", name)
    if vertebra and vertebra[1] in _VERTEBRAE:
        return _terms(ANATOMICAL_STRUCTURE, (_VERTEBRAE[vertebra[1]], f"{vertebra[1].upper()} vertebra"))
    rib = re.fullmatch(r"rib_(left|right)_(\d+)", name)
    if rib and int(rib[2]) in _RIBS:
        return _terms(ANATOMICAL_STRUCTURE, _RIBS[int(rib[2])], LEFT if rib[1] == "left" else RIGHT)
    return None


def _sided(name: str) -> Terms | None:
    """A paired organ with its side first or last, or an organ by another name."""
    match = re.fullmatch(r"(?:(left|right)_)?(.+?)(?:_(left|right))?", name)
    if match is None or (match[1] and match[3]):
        return None
    side = {"left": LEFT, "right": RIGHT}.get(match[1] or match[3] or "")
    stem = _OTHER_NAMES.get(match[2], match[2])
    if stem in _PAIRED:
        return _terms(ANATOMICAL_STRUCTURE, _PAIRED[stem], RIGHT_AND_LEFT if match[2] in _BOTH and side is None else side)
    if stem in _SINGLE and side is None:
        return _terms(ANATOMICAL_STRUCTURE, _SINGLE[stem])
    return None


@dataclass(frozen=True)
class KnownTerm:
    """A structure with a code: its label without side, its category and type, and whether there is one on either side."""

    label: str
    category: Code
    type: Code
    is_paired: bool = False


def known_terms() -> Iterator[KnownTerm]:
    """Return every structure that has a code here, each code once.

    >>> [(term.type.meaning, term.is_paired) for term in known_terms() if term.label in ("liver", "lung")]
    [('Lung', True), ('Liver', False)]
    """
    tables: list[tuple[Code, dict[str, tuple[str, str]], bool]] = [
        (ANATOMICAL_STRUCTURE, _PAIRED, True),
        (ANATOMICAL_STRUCTURE, {f"rib_{number}": entry for number, entry in _RIBS.items()}, True),
        (ANATOMICAL_STRUCTURE, _SINGLE, False),
        (ANATOMICAL_STRUCTURE, {f"vertebrae_{n.upper()}": (code, f"{n.upper()} vertebra") for n, code in _VERTEBRAE.items()}, False),
        (TISSUE, _TISSUES, False),
        (SUBSTANCE, {"air": _AIR}, False),
        (MORPHOLOGICALLY_ABNORMAL_STRUCTURE, _ABNORMAL, False),
    ]
    seen: set[str] = set()
    for category, table, is_paired in tables:
        for label, (value, meaning) in table.items():
            if value not in seen:
                seen.add(value)
                yield KnownTerm(label, category, Code("SCT", value, meaning), is_paired)

"""Body composition of a torso CT by ranges of Hounsfield units and the anatomy of the trunk's wall."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pydantic

from medseg.core.codes import TISSUE, Code
from medseg.core.errors import InputError
from medseg.core.finding import Finding, Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.method.method import Stage, method
from medseg.method.param import Field, MethodParams, Number
from medseg.method.settings import RunSettings
from medseg.segmentation.classical import body_composition_paint as painting
from medseg.segmentation.classical.body_composition_grid import CoarseGrid, Mask, coarse_grid
from medseg.segmentation.classical.body_composition_regions import Skeleton, body_mask, muscle_envelope, skeleton
from medseg.segmentation.classical.body_composition_rules import Rules
from medseg.segmentation.classical.body_composition_wall import wall_mask
from medseg.segmentation.classical.result import label_map_on

DENSE_BLUR_MM = 2.0  # over which tissue denser than muscle is looked for: costal cartilage is 10 mm thick
LEAST_SPREAD_HU = 15.0  # of muscle, however little noise the scan has
DENSE_SPREAD = 3.0  # robust standard deviations above the patient's own muscle: cartilage, enhanced vessels
LEAST_FAT_ML = 0.5  # smaller specks of fat inside organs are noise
HU_AIR, HU_SOFT = -200.0, 300.0  # a CT shows air below the first, and tissue between the two
LEAST_TISSUE = 0.02  # share of voxels between them where the file does not name its unit
TORSO_SECTION_CM2 = (150.0, 2500.0)  # of a trunk, from a child's chest to the largest patients
LEAST_ARMS_ML = 20.0  # less is a corner that the field of view cuts off
CUT_SHARE = 0.02  # share of the body's voxels on a side of the field of view that cuts the body


class BodyCompositionParams(MethodParams):
    """Parameters of `body-composition`: the ranges of Hounsfield units of doi:10.1111/apha.12224 and two lengths."""

    muscle_lower: Number = Field(-29, description="Lowest intensity of muscle", unit="HU")
    muscle_upper: Number = Field(150, description="Highest intensity of muscle", unit="HU")
    fat_lower: Number = Field(-190, description="Lowest intensity of fat", unit="HU")
    fat_upper: Number = Field(-30, description="Highest intensity of fat", unit="HU")
    bone_lower: Number = Field(150, description="Bone lies above; marrow within bone is added", unit="HU")
    air_upper: Number = Field(-300, description="Highest intensity of gas and aerated lung", unit="HU")
    envelope_mm: Number = Field(
        20, description="Gaps in the outer outline of the muscles are closed by this radius", unit="mm", ge=0, le=60
    )
    wall_mm: Number = Field(30, description="Greatest thickness of the abdominal wall", unit="mm", gt=0, le=100)

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> BodyCompositionParams:
        limits = (self.air_upper, self.fat_lower, self.fat_upper, self.muscle_lower, self.muscle_upper)
        if not all(low <= high for low, high in itertools.pairwise(limits)) or self.bone_lower < self.muscle_lower:
            raise ValueError("the ranges must rise from air over fat and muscle to bone and not overlap")
        return self


@method("body-composition", stage=Stage.SEGMENT, reference="doi:10.1111/apha.12224; doi:10.1152/jappl.1998.85.1.115")
def body_composition(volume: Volume, params: BodyCompositionParams, settings: RunSettings | None = None) -> LabelMap:
    """Part a torso CT into skeletal muscle, subcutaneous fat, torso fat, bone, air and the rest of the body.

    Every voxel of the body gets one segment; couch and arms apart from the trunk are left out. Muscle and fat are told by
    their Hounsfield units and by their place: muscle lies in the wall of the trunk (outside ribs and peritoneum, and beside
    the spine), subcutaneous fat outside the muscles, torso fat inside them (visceral and between muscles). `bone` is bone
    with its marrow, the spine with discs and canal; `air` is lung, bowel gas and airways; `body` is all else: organs,
    vessels, cartilage, skin. The wall's inner surface is measured where fat, lung or ribs show it and continued from there
    where an organ touches it; muscles inside the pelvis and the diaphragm count as `body`.

    Any orientation and spacing; the grid must lie within 45° of the patient's axes. Raises InputError for MR and other
    scans that are not in Hounsfield units. Findings: NO_BODY, NOT_A_TORSO, BODY_CUT, ARMS_LEFT_OUT, UNIT_ASSUMED.

    >>> from medseg.core.geometry import Geometry
    >>> air = Volume(np.full((8, 8, 8), -1000, np.int16), Geometry((8, 8, 8), np.diag([5.0, 5, 5, 1])), "CT", "HU")
    >>> empty = body_composition(air, BodyCompositionParams())
    >>> int(empty.array.max()), [finding.code for finding in empty.findings]
    (0, ['NO_BODY'])
    """
    rules = Rules(envelope_mm=params.envelope_mm, wall_mm=params.wall_mm)
    labels, findings = composition(volume, params, rules, settings or RunSettings())
    return label_map_on(volume, labels, _segments(), findings)


def composition(
    volume: Volume, params: BodyCompositionParams, rules: Rules, settings: RunSettings
) -> tuple[npt.NDArray[np.uint8], list[Finding]]:
    """Return labels (k,j,i) and findings under the given anatomical rules."""
    image = volume.array.T
    settings.progress("body", 0, 4)
    grid = coarse_grid(image, volume.geometry)
    findings = _check_scan(volume, grid)
    body, arms_ml = body_mask(grid, params.air_upper, rules)
    if not body.any():
        message = "no body found: nothing is denser than air; the label map is empty"
        return np.zeros(image.shape, np.uint8), [*findings, Finding("NO_BODY", Severity.WARNING, message)]
    findings += _check_cut(grid, body)
    box = _box(body)
    grid, body = grid.cropped(box), np.ascontiguousarray(body[box])
    settings.progress("bones and outline", 1, 4)
    envelope = muscle_envelope(grid, body, params.fat_upper, params.air_upper, rules)
    bones = skeleton(grid, body, envelope, params.bone_lower, rules)
    settings.progress("wall", 2, 4)
    fat = body & (grid.hu >= params.fat_lower) & (grid.hu <= params.fat_upper)
    soft = body & (grid.hu >= params.muscle_lower) & (grid.hu <= params.muscle_upper)
    tissue = {"envelope": envelope, "fat": fat, "gas": body & (grid.hu <= params.air_upper), "soft": soft}
    wall, shown = wall_mask(grid, tissue, bones, rules)
    findings += _check_torso(grid, body, bones, bool(shown.any()), arms_ml)
    settings.progress("tissues", 3, 4)
    regions = _regions(grid, body, tissue, bones, wall, params)
    return painting.paint(image, grid, regions, params, rules.mixture_mm), findings


def _regions(
    grid: CoarseGrid, body: Mask, tissue: dict[str, Mask], bones: Skeleton, wall: Mask, params: BodyCompositionParams
) -> painting.Regions:
    """What the voxels of the scan need to know, with the axes of the scan."""
    from medseg.kernels.components import remove_small
    from medseg.kernels.distance import dilate, erode

    block = 1.01 * max(grid.spacing_mm[1:])
    codes = dilate(body, block, grid.spacing_mm) * np.uint8(painting.SHELL)
    codes |= erode(body, block, grid.spacing_mm) * np.uint8(painting.INSIDE)
    near_bone = dilate(bones.dense, block, grid.spacing_mm)
    codes |= near_bone * np.uint8(painting.NEAR_BONE)
    codes |= _denser_than_muscle(grid, wall & ~near_bone.view(np.bool_), params).view(np.uint8) * np.uint8(painting.TOO_DENSE)
    inner = tissue["fat"] & tissue["envelope"]
    real = dilate(remove_small(inner, max(1, round(LEAST_FAT_ML / grid.voxel_ml)), 6), block, grid.spacing_mm).view(np.bool_)
    codes |= (tissue["envelope"] & ~wall & ~real).view(np.uint8) * np.uint8(painting.FAT_FREE)
    fields = [grid.in_scan_order(painting.signed_distance(mask, grid.spacing_mm)) for mask in (tissue["envelope"], wall, bones.solid)]
    return painting.Regions(grid.in_scan_order(codes), *fields)


def _denser_than_muscle(grid: CoarseGrid, wall: Mask, params: BodyCompositionParams) -> Mask:
    """Cartilage and enhanced vessels in the wall: denser than the patient's own muscle."""
    from medseg.kernels.filters import gaussian

    muscle = grid.hu[wall & (grid.hu >= params.muscle_lower) & (grid.hu <= params.muscle_upper)]
    if muscle.size == 0:
        return np.zeros_like(wall)
    median = float(np.median(muscle))
    spread = 1.4826 * float(np.median(np.abs(muscle - median)))
    blurred = gaussian(grid.hu, [DENSE_BLUR_MM / step for step in grid.spacing_mm])
    return np.asarray(wall & (blurred > median + DENSE_SPREAD * max(spread, LEAST_SPREAD_HU)))


def _box(mask: Mask) -> tuple[slice, slice, slice]:
    """The bounds of a mask with a margin of two blocks."""
    held = [np.flatnonzero(mask.any(axis=tuple(n for n in range(3) if n != axis))) for axis in range(3)]
    z, y, x = (slice(max(0, int(at[0]) - 2), min(length, int(at[-1]) + 3)) for at, length in zip(held, mask.shape, strict=True))
    return z, y, x


def _check_scan(volume: Volume, grid: CoarseGrid) -> list[Finding]:
    """Refuse what is not in Hounsfield units."""
    if volume.modality not in ("", "CT"):
        raise InputError(f"body-composition is for CT, this scan is {volume.modality}: its intensities are not Hounsfield units")
    if volume.unit == "HU":
        return []
    tissue = float(((grid.hu > HU_AIR) & (grid.hu < HU_SOFT)).mean())
    lowest = float(grid.lowest.min())
    if volume.unit or lowest > HU_AIR or tissue < LEAST_TISSUE:
        raise InputError(
            f"body-composition needs Hounsfield units, the scan is in {volume.unit or 'unknown units'} with a lowest value of {lowest:g} "
            f"and {tissue:.0%} of its voxels like soft tissue: give a CT in HU"
        )
    message = "the file does not name the unit of its intensities; they look like Hounsfield units and are taken for them"
    return [Finding("UNIT_ASSUMED", Severity.INFO, message, {"lowest": lowest, "tissue_share": round(tissue, 4)})]


def _check_cut(grid: CoarseGrid, body: Mask) -> list[Finding]:
    """Tell which sides of the field of view cut the body (not head and foot: every torso scan ends there)."""
    planes = {"posterior": body[:, 0], "anterior": body[:, -1], "left": body[:, :, 0], "right": body[:, :, -1]}
    shares = {side: float(plane.mean()) for side, plane in planes.items()}
    cut = {side: round(share, 3) for side, share in shares.items() if share > CUT_SHARE}
    if not cut:
        return []
    message = f"the field of view cuts the body at its {', '.join(cut)} side: fat and muscle beyond are missing from the volumes"
    return [Finding("BODY_CUT", Severity.WARNING, message, {"share_of_side": cut})]


def _check_torso(grid: CoarseGrid, body: Mask, bones: Skeleton, has_cavity: bool, arms_ml: float) -> list[Finding]:
    """Tell where the scan does not look like a trunk, and how much of the arms was left out."""
    findings = []
    areas = body.sum(axis=(1, 2)) * grid.spacing_mm[1] * grid.spacing_mm[2] / 100
    section = float(np.median(areas[areas > 0]))
    low, high = TORSO_SECTION_CM2
    signs = {
        f"its section is {section:.0f} cm²": not low <= section <= high,
        "there is no spine": bones.spine_y is None,
        "there is no cavity with fat, gas or lungs": not has_cavity,
    }
    missing = [sign for sign, is_seen in signs.items() if is_seen]
    if missing:
        message = f"this does not look like a torso: {'; '.join(missing)}. Muscle and fat may be wrong: look at the segmentation"
        findings.append(Finding("NOT_A_TORSO", Severity.WARNING, message, {"section_cm2": round(section, 1)}))
    if arms_ml > LEAST_ARMS_ML:
        message = f"{arms_ml:.0f} ml of arms that touch the trunk are left out"
        findings.append(Finding("ARMS_LEFT_OUT", Severity.INFO, message, {"volume_ml": round(arms_ml, 1)}))
    return findings


def _segments() -> list[Segment]:
    algorithm = "body-composition"
    plain = [
        Segment(painting.BODY, "body", colour=(150, 140, 130)),
        Segment(painting.MUSCLE, "skeletal_muscle", type=Code("SCT", "127954009", "Skeletal muscle"), colour=(192, 72, 72)),
        Segment(painting.SUBCUTANEOUS_FAT, "subcutaneous_fat", colour=(240, 214, 96)),
        Segment(painting.TORSO_FAT, "torso_fat", colour=(222, 160, 70)),
        Segment(painting.BONE, "bone", type=Code("SCT", "272673000", "Bone"), colour=(241, 236, 220)),
        Segment(painting.AIR, "air", colour=(110, 170, 220)),
    ]
    return [replace(segment, category=TISSUE, algorithm=algorithm) for segment in plain]

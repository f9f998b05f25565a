"""Every code the DICOM audit can give: its row in the catalogue of faults, how grave it is, and one line on what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from medseg.core.finding import Severity

_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO


@dataclass(frozen=True)
class FaultCode:
    """A code's catalogue rows ("" for none), its severity where nothing was decided by the user, and its meaning."""

    rows: str
    severity: Severity
    meaning: str


CODES: Mapping[str, FaultCode] = MappingProxyType(
    {
        "GANTRY_TILT": FaultCode("1", _W, "the stack leans from its normal; the grid keeps its shear"),
        "MISSING_SLICES": FaultCode("2", _E, "slices are missing between others"),
        "GAPS_INTERPOLATED": FaultCode("2", _W, "--allow-gaps: missing slices were interpolated on true positions"),
        "ENDS_MAY_BE_MISSING": FaultCode("3", _W, "the numbering says that slices before or after the stack are not there"),
        "DUPLICATE_SLICES": FaultCode("4 5", _W, "slices that repeat another bit for bit were dropped"),
        "REPEATED_UID": FaultCode("5", _E, "one SOP instance UID stands for different images"),
        "MIXED_SERIES": FaultCode("6 7", _E, "the series holds several stacks and none was chosen"),
        "AMBIGUOUS_SERIES": FaultCode("6 7", _E, "several slices at one place, or two combs, and no header field tells them apart"),
        "STACK_SELECTED": FaultCode("6 7", _I, "--select or --volume chose one of several stacks"),
        "SPLIT_BY_INSTANCE_NUMBER": FaultCode("6", _W, "time points were told apart by their instance numbers only"),
        "SPLIT_BY_ORDER": FaultCode("6", _W, "time points were told apart by the order of a field at each position"),
        "UNEVEN_SPACING": FaultCode("8", _W, "distances between slices differ; beyond 5 % the stack is resampled on true positions"),
        "SLICE_THICKNESS_DIFFERS": FaultCode("9", _W, "slices overlap or leave gaps; positions are used, never the thickness"),
        "SPACING_BETWEEN_SLICES_WRONG": FaultCode("10", _W, "the header's spacing between slices contradicts the positions"),
        "LOCALIZER": FaultCode("11", _I, "localizer images were left out"),
        "DERIVED_SLICES": FaultCode("12", _W, "derived or secondary images were left out"),
        "MIXED_IMAGE_TYPE": FaultCode("12", _W, "slices of different image types form one even stack and were kept together"),
        "OTHER_OBJECTS": FaultCode("12", _W, "images of another kind were left out"),
        "BURNED_IN_TEXT": FaultCode("12", _W, "the images have text burned into their pixels"),
        "SLICES_LEFT_OUT": FaultCode("6 7", _W, "a few slices that differ from a whole stack were left out"),
        "MIXED_PIXEL_SPACING": FaultCode("13", _E, "pixel spacing differs between slices"),
        "MIXED_SPACING_RESAMPLED": FaultCode("13", _W, "--resample-mixed: slices were resampled in plane onto one grid"),
        "MIXED_ORIENTATION": FaultCode("14", _E, "slices are turned against each other"),
        "MIXED_SIZE": FaultCode("15", _W, "slices of another size were left out; an error where none is the larger group"),
        "MIXED_FRAME_OF_REFERENCE": FaultCode("16", _E, "positions of the slices cannot be compared"),
        "RESCALE_PER_SLICE": FaultCode("17", _I, "each slice has its own rescale"),
        "MISSING_RESCALE": FaultCode("18", _E, "CT without Hounsfield scale"),
        "HU_ASSUMED": FaultCode("18", _W, "--assume-hu: stored values were taken as HU"),
        "BAD_RESCALE": FaultCode("19", _E, "rescale slope 0 or no number"),
        "PIXEL_PADDING": FaultCode("20", _I, "voxels outside the scan hold a padding value"),
        "PADDING_AS_AIR": FaultCode("20", _W, "padding brighter than the scan was read as the lowest value that is scanned"),
        "PADDING_SUSPECTED": FaultCode("21", _W, "the corners hold a value that looks like padding stored without its sign"),
        "PADDING_WRAPPED": FaultCode("21", _W, "a negative padding value was stored in unsigned pixels and was corrected"),
        "MONOCHROME1": FaultCode("24", _W, "viewers invert these images; intensities are kept"),
        "FRAMES_INCOMPLETE": FaultCode("25", _E, "a multi-frame file does not describe all of its frames"),
        "NO_GEOMETRY": FaultCode("25", _E, "frames that the file does not place in the patient"),
        "MOSAIC": FaultCode("26", _E, "a Siemens mosaic without the header that places its slices"),
        "MOSAIC_IN_NAME": FaultCode("26", _I, "plain slices that call themselves mosaics were read as slices"),
        "LOSSY_COMPRESSION": FaultCode("27", _W, "slices were compressed with loss"),
        "UNKNOWN_ENCODING": FaultCode("27", _E, "a transfer syntax that is not read"),
        "MISSING_GEOMETRY": FaultCode("31 32", _E, "slices without usable position or orientation"),
        "SPACING_GIVEN": FaultCode("31", _W, "--spacing: slices stacked by instance number, without a place in the patient"),
        "PATIENT_POSITION_ABSENT": FaultCode("35", _W, "the header does not say how the patient lay"),
        "QUADRUPED": FaultCode("35", _E, "positions in an animal's body axes"),
        "BAD_ORIENTATION": FaultCode("", _E, "row and column directions are not two unit vectors at a right angle"),
        "BAD_PIXEL_SPACING": FaultCode("", _E, "no usable pixel spacing"),
        "SIDEWAYS_SHIFT": FaultCode("", _E, "slices are shifted sideways one by one"),
        "TOO_FEW_SLICES": FaultCode("", _W, "2 or 3 slices; an error for one"),
        "COLOUR": FaultCode("", _E, "colour images"),
        "NO_INTENSITIES": FaultCode("", _E, "pixels of a kind that is not read"),
        "TRUNCATED_PIXELS": FaultCode("", _E, "files end before their pixels do"),
        "UNREADABLE_FILE": FaultCode("", _E, "broken files beside the series"),
        "MISSING_UID": FaultCode("", _W, "slices without SOP instance UID"),
        "INVALID_UID": FaultCode("", _W, "UIDs that are none; hashes stand for them"),
        "MISSING_SERIES_UID": FaultCode("", _W, "files that name no series"),
        "SEVERAL_FOLDERS": FaultCode("", _W, "the series lies in several folders"),
        "SERIES_CHOSEN": FaultCode("", _I, "--series chose one of several series"),
    }
)

"""What a finding means for a volume, and what to do about it: one entry a code, said as a colleague would say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from medseg.core.advice_batch import BATCH
from medseg.core.advice_classical import CLASSICAL
from medseg.core.advice_comparing import COMPARING
from medseg.core.advice_models import MODELS
from medseg.core.finding import Finding, Severity


@dataclass(frozen=True)
class Advice:
    """`effect`: what the fault does to a volume; `action`: what to do now."""

    effect: str
    action: str

    def to_dict(self) -> dict[str, str]:
        """Return the JSON form."""
        return {"effect": self.effect, "action": self.action}


def advice_on(finding: Finding) -> Advice:
    """Return the advice on a finding; empty texts for a code that has none.

    >>> advice_on(Finding("LOCALIZER", Severity.INFO, "3 localizers left out")).action
    'Nothing to do.'
    """
    if (finding.code, finding.severity) in ADVICE_BY_SEVERITY:
        return ADVICE_BY_SEVERITY[finding.code, finding.severity]
    if finding.code == "UNEVEN_SPACING" and finding.details.get("resampled"):
        return _RESAMPLED
    return ADVICE.get(finding.code, Advice("", ""))


_NONE = "None: volumes are right."
_NOTHING = "Nothing to do."
_UPRIGHT = "Measure here. A tool that cannot hold shear needs a copy on an upright grid: medseg convert IN OUT --like SCAN."
_COPY_AGAIN = "Copy the file again from its source and compare the sizes."

_DICOM = {
    "GANTRY_TILT": Advice(
        "None here: the volume of a voxel is the determinant of the sheared grid. Multiplied spacings give 1/cos(tilt) times as much.",
        _UPRIGHT,
    ),
    "MISSING_SLICES": Advice(
        "An organ across a gap loses what was not scanned, and what lies beyond the gap moves.",
        "Fetch the missing files: the places are listed below. Lost for good: --allow-gaps, which every result then records. "
        "--segmentation SEG prices the gap organ by organ.",
    ),
    "GAPS_INTERPOLATED": Advice(
        "The interpolated part of an organ was never scanned: it is a guess between its neighbours.",
        "State it beside the number; do not report a lesion that lies mainly in the gap (--segmentation SEG shows how much does).",
    ),
    "ENDS_MAY_BE_MISSING": Advice(
        "An organ that reaches the first or last slice goes on beyond it: its volume is a lower bound.",
        "Fetch the whole series if you can. Otherwise trust only segments that do not touch the ends (measure says which do).",
    ),
    "DUPLICATE_SLICES": Advice("None: the copies are left out. Counted twice, they would add a slice's volume each.", _NOTHING),
    "REPEATED_UID": Advice(
        "One of the images is not what it claims to be, so the stack may hold slices of two scans.",
        "Export the series again from the archive; the same identifier must never name two images.",
    ),
    "MIXED_SERIES": Advice(
        "Mixed into one stack, phases or echoes give a volume of neither.",
        "Choose one: --select 2, --select largest or --select Keyword=value as listed below, or --volume K from 0.",
    ),
    "AMBIGUOUS_SERIES": Advice(
        "Any stack would mix two acquisitions: the volume would be that of neither.",
        "Sort the files into one folder for each acquisition, or export them as separate series.",
    ),
    "STACK_SELECTED": Advice("None: only the chosen stack is read.", "Say in the methods which one it was."),
    "SERIES_CHOSEN": Advice("None: only the chosen series is read.", _NOTHING),
    "SPLIT_BY_INSTANCE_NUMBER": Advice(
        "Right if the numbers count time point after time point; otherwise slices of two times share a volume.",
        "Look at one volume for jumps between slices before you measure.",
    ),
    "SPLIT_BY_ORDER": Advice(
        "Right if the field rises with time at every position; otherwise slices of two times share a volume.",
        "Look at one volume for jumps between slices before you measure.",
    ),
    "UNEVEN_SPACING": Advice("Small: every slice lies within a few percent of its even place.", _NOTHING),
    "SLICE_THICKNESS_DIFFERS": Advice(
        "None here. A tool that takes SliceThickness for the spacing is wrong by their ratio.",
        "If another tool gives other volumes, check which of the two it used.",
    ),
    "SPACING_BETWEEN_SLICES_WRONG": Advice(
        "None here: positions decide. A tool that believes the tag is wrong by the ratio of the two.",
        "If another tool gives other volumes, look there first.",
    ),
    "LOCALIZER": Advice("None: planning images are no part of the volume.", _NOTHING),
    "DERIVED_SLICES": Advice("None: reformatted or captured images were left out.", "Check that the slices left out are not the scan."),
    "MIXED_IMAGE_TYPE": Advice(
        "None if all slices are of one reconstruction.", "Scroll through the stack once: noise or contrast must not jump."
    ),
    "OTHER_OBJECTS": Advice("None: images of another kind were left out.", _NOTHING),
    "BURNED_IN_TEXT": Advice(
        "Text counts as tissue wherever it lies, and it may name the patient.",
        "Look at the images before you measure or share them; medseg deid does not remove text in pixels.",
    ),
    "SLICES_LEFT_OUT": Advice("None if they are no part of the scan.", "Check the listed slices; --select reads them on their own."),
    "MIXED_PIXEL_SPACING": Advice(
        "With one spacing for all, slices of the other size are off by the square of the ratio.",
        "Most often two scans in one series: separate them. If it is one scan, --resample-mixed brings all slices onto one grid.",
    ),
    "MIXED_SPACING_RESAMPLED": Advice(
        "Edges move by less than a pixel; volumes hold.", "State it in the methods; draw masks on the resampled scan."
    ),
    "MIXED_ORIENTATION": Advice(
        "Slices turned against each other form no volume.", "Choose one direction with --select as listed below, or separate the files."
    ),
    "MIXED_SIZE": Advice(
        "Smaller by the slices left out, if they belonged to the scan.", "Check what was left out; --select reads the other group."
    ),
    "MIXED_FRAME_OF_REFERENCE": Advice(
        "The patient moved or the scanner was set anew: positions of the two parts do not fit together.",
        "Export each acquisition as its own series, and measure them apart.",
    ),
    "RESCALE_PER_SLICE": Advice("None: each slice is scaled by its own values (usual in PET).", _NOTHING),
    "MISSING_RESCALE": Advice(
        "Without the Hounsfield scale every threshold cuts elsewhere; volumes by threshold can be off tenfold.",
        "Export the CT again with rescale slope and intercept. If the stored values are HU: --assume-hu.",
    ),
    "HU_ASSUMED": Advice(
        "Right only if the stored values are HU.", "Check that air reads about -1000 and fat about -100 before you use a threshold."
    ),
    "BAD_RESCALE": Advice(
        "Intensities are unknown, so thresholds and models see nothing sensible.", "Export the series again from the scanner."
    ),
    "PIXEL_PADDING": Advice("None: what lies outside the scan is told from tissue.", _NOTHING),
    "PADDING_WRAPPED": Advice("None: the wrapped value was put right; unread, it counts as very dense bone.", _NOTHING),
    "PADDING_AS_AIR": Advice("None for organs: outside the scan now reads as air.", _NOTHING),
    "PADDING_SUSPECTED": Advice(
        "If the corners are padding, thresholds below them take the outside for tissue.",
        "Look at a corner of the image; crop it or set a lower limit if it is no air.",
    ),
    "MONOCHROME1": Advice("None: values are kept as stored; a viewer that inverts shows them the other way round.", _NOTHING),
    "FRAMES_INCOMPLETE": Advice("Frames without a place cannot be stacked.", "Export the file again, or as single-slice files."),
    "NO_GEOMETRY": Advice(
        "Without positions neither the distance of slices nor the volume of a voxel is known.",
        "Export the original series, not a copy from which fields were removed. If you know the spacing: --spacing I,J,K.",
    ),
    "MOSAIC": Advice(
        "Read as one picture, a mosaic gives a volume of no meaning.",
        "Use the original Siemens files (an anonymiser removed their private header), or convert with dcm2niix where they still have it.",
    ),
    "MOSAIC_IN_NAME": Advice("None: the images are single slices, only their type still says mosaic.", _NOTHING),
    "LOSSY_COMPRESSION": Advice(
        "Small for organs; textures, small lesions and exact HU suffer, and what is lost does not come back.",
        "Use the uncompressed original for anything but size; state it beside the number.",
    ),
    "UNKNOWN_ENCODING": Advice(
        "The pixels cannot be read.", "Convert the files to Explicit VR Little Endian in the archive or with dcmdjpeg."
    ),
    "MISSING_GEOMETRY": Advice(
        "A slice without a place can lie anywhere, so no distance and no volume is known.",
        "Export the series again. If no file has a position and you know the spacing: --spacing I,J,K (left and right are then a guess).",
    ),
    "SPACING_GIVEN": Advice(
        "Volumes are as right as the spacing that was given.", "State where the spacing comes from; do not report sides."
    ),
    "SPACING_NOT_USED": Advice("None: the file has a spacing of its own, and that one counts.", "Leave --spacing out."),
    "PATIENT_POSITION_ABSENT": Advice("None: positions are given in the patient's own axes.", _NOTHING),
    "QUADRUPED": Advice("None for volumes, but left, right, head and tail are an animal's.", "Use a tool for veterinary images."),
    "BAD_ORIENTATION": Advice(
        "Directions that are no right angle bend the grid and its volume.", "Export the series again from the scanner."
    ),
    "BAD_PIXEL_SPACING": Advice(
        "Without pixel size there is no area and no volume.", "Export again; if you know the spacing: --spacing I,J,K."
    ),
    "SIDEWAYS_SHIFT": Advice(
        "Slices beside each other are not slices above each other.", "Check whether slices of another scan were mixed in."
    ),
    "TOO_FEW_SLICES": Advice(
        "The two ends weigh too much: each stands for half a slice distance that nobody saw.",
        "Use the whole series; give the folder, not one file.",
    ),
    "COLOUR": Advice(
        "Colours are no intensities: nothing can be measured on them.", "Use the original CT or MR series, not a capture of it."
    ),
    "NO_INTENSITIES": Advice("The pixels hold something else than a scan.", "Give the folder of the scan."),
    "TRUNCATED_PIXELS": Advice("The rest of the slice would read as air.", _COPY_AGAIN),
    "UNREADABLE_FILE": Advice(
        "If the file is a slice, an organ there would lose it.", "Copy it again; move it away if it is no part of the scan."
    ),
    "MISSING_UID": Advice(
        "None, but a result cannot refer to the slices it was drawn on.", "Export again before you write DICOM SEG or SR."
    ),
    "MISSING_SERIES_UID": Advice("None if all files of the folder are one scan.", "Check that no second scan lies in the folder."),
    "INVALID_UID": Advice("None: the identifier was replaced.", "Export again before you send results to an archive."),
    "SEVERAL_FOLDERS": Advice("None: the parts were put together by their series.", "Check that they are not two versions of one scan."),
}

_RESAMPLED = Advice(
    "None here: the scan was read on its true positions. Stacked as if even, some parts are stretched and others squeezed.",
    "Nothing to do for scans. A mask drawn on the scanned slices: medseg measure MASK --image SERIES sums area × slice width.",
)

_FILES = {
    "UNREADABLE": Advice("Nothing can be measured.", _COPY_AGAIN),
    "UNSUPPORTED_FORMAT": Advice("Nothing can be measured.", "Convert it to DICOM, NIfTI or NRRD, or give the scan it was made from."),
    "SEVERAL_VOLUMES": Advice(
        "A file of several volumes has no single volume to measure.",
        "Choose one with --volume K, from 0; medseg convert IN OUT --volume all writes each as a file of its own.",
    ),
    "INPUT": Advice("The scan cannot be used as it is.", "Follow the message."),
    "INCONSISTENT_SERIES": Advice(
        "The slices describe no single volume.", "Follow the message; medseg inspect on the folder shows the slices."
    ),
    "GEOMETRY": Advice(
        "The file contradicts itself about where its voxels lie: one reading may be off by any factor, or mirrored.",
        "Find out which is right (compare with the DICOM files): --nifti-xform sform or qform; --spacing where there is none.",
    ),
    "SINGULAR_AFFINE": Advice("A voxel of no extent has no volume.", "Convert again from DICOM; if you know the spacing: --spacing I,J,K."),
    "GEOMETRY_MISMATCH": Advice(
        "On another grid every voxel lies elsewhere.", "Give the files that belong together, or resample with --like."
    ),
    "UNKNOWN_SEGMENT": Advice("What is not there cannot be measured.", "Choose one of the segments that the message names."),
    "SEGMENT": Advice("What cannot be told apart cannot be measured.", "Correct the label table or the file it names."),
    "OVERLAPPING_SEGMENTS": Advice(
        "None: each segment is measured in its own layer. Their sum counts shared voxels twice.",
        "They are read as layers by measure, inspect and convert; a format with one label a voxel (.nii.gz) cannot hold them.",
    ),
    "MISSING_DEPENDENCY": Advice("The pixels cannot be decoded here.", "Install what the message names, then run it again."),
    "NO_VOLUME": Advice("None: it is no image.", "Nothing to do; give the folder of the scan to measure."),
    "NOT_PRICED": Advice(
        "The cost of the faults is unknown.", "Give the segmentation that was drawn on this scan, or choose the scan with --series."
    ),
    "MASK_RESAMPLED": Advice(
        "Borders moved by up to half a voxel: small segments change most. Both volumes are given.",
        "Report the volume on the segmentation's own grid (measure it without --image) where intensities are not needed.",
    ),
    "NATIVE_SLICES": Advice(
        "Right: each slice counts for half of both gaps beside it. Voxels × spacing would be wrong.",
        "Keep this segmentation together with the DICOM scan: a NIfTI copy loses the positions.",
    ),
    "XFORM_CHOSEN": Advice(
        "As right as the choice: the other transform gives another place or volume.", "State which one you took, and why."
    ),
    "SPACING_MISMATCH": Advice(
        "None here: the transform counts. Tools that take pixdim give another volume.", "If another tool differs, look there."
    ),
    "NEGATIVE_SPACING": Advice("None: only lengths count; the sign was dropped.", _NOTHING),
    "UNUSUAL_SPACING": Advice(
        "If the unit is wrong, the volume is wrong by a factor of a thousand or more.", "Check one distance you know."
    ),
    "UNUSUAL_EXTENT": Advice(
        "If the spacing is wrong, the volume is wrong with it.", "Check one distance you know, such as a vertebra's height."
    ),
    "UNIT_CONVERTED": Advice("None: lengths were brought to mm.", "Check one distance you know."),
    "ORIENTATION_UNKNOWN": Advice("Volumes are right; left and right are a guess.", "Do not report sides, or convert again from DICOM."),
    "ORIGIN_UNKNOWN": Advice("Volumes are right; the place in the patient is not known.", "Do not overlay it on other scans by position."),
    "SHEARED_GRID": Advice("None here: the determinant counts. Tools that multiply spacings measure too much.", _UPRIGHT),
    "SINGLE_SLICE": Advice("The width of a single slice is a guess, and the volume with it.", "Use the whole scan, or report an area."),
    "SCALE_IGNORED": Advice("Intensities are the stored ones.", "Check a value you know, such as air in CT, before you use a threshold."),
    "BITPIX_MISMATCH": Advice("None: the data type decides.", "Rewrite the file with the program that made it if others fail on it."),
    "NON_FINITE_VOXELS": Advice(
        "Voxels that are no number are in no segment by threshold; means leave them out.", "Find out what put them there."
    ),
    "TRAILING_PADDING": Advice(_NONE, _NOTHING),
    "WRONG_SUFFIX": Advice("None: the content decides.", "Rename it before you give it to other tools."),
    "DUPLICATE_SEGMENT_NAMES": Advice("None: the names were made unique.", "Name each structure once in the program that drew it."),
    "MANY_LABELS": Advice(
        "None, if the numbers are labels; a scan taken for a label map measures nonsense.", "Check that this is a segmentation."
    ),
    "CROPPED_GRID": Advice(_NONE, "Give --image or --like to bring it onto the grid of the scan."),
    "CROPPING_UNDONE": Advice(_NONE, _NOTHING),
    "OUTSIDE_EXTENT": Advice(
        "What lies outside the stated extent is not drawn by 3D Slicer.", "Look at the segmentation in the program that drew it."
    ),
    "SEGMENTS_RENUMBERED": Advice(_NONE, "Go by the labels, not by the numbers of the other program."),
}

_SEGMENTS = {
    "FRACTIONAL_THRESHOLDED": Advice(
        "Voxels of half or more count whole: small or thin structures change by a few percent.",
        "State the threshold; for probabilities measure the sum of the fractions instead.",
    ),
    "FRAMES_LEFT_OUT": Advice(
        "None where the places are empty; where the scan has no slices there, volumes are too small.",
        "Give the scan: medseg measure SEG --image SERIES counts each slice with its width.",
    ),
    "OTHER_FRAME_OF_REFERENCE": Advice("None if both show the same patient and position.", "Look at the overlay once."),
    "SLICE_SPACING_IGNORED": Advice("None here: positions decide. A tool that believes the tag is wrong by the ratio.", _NOTHING),
    "SLICE_SPACING_UNSURE": Advice(
        "If the other spacing is right, all volumes change by the ratio of the two.", "Give the scan: --image SERIES."
    ),
    "UNDESCRIBED_SEGMENTS": Advice("None, but nobody knows what they are.", "Name them before you report them."),
    "CONTOURS_ACROSS_GRID": Advice(
        "Filled across the planes it was drawn on: edges move by up to a voxel.", "Give the series it was drawn on: --like."
    ),
    "CONTOURS_OFF_PLANES": Advice(
        "Filled on the nearest slice: the ends move by up to half a slice.", "Give the series it was drawn on: --like."
    ),
    "CONTOURS_OUTSIDE_GRID": Advice("What lies outside the grid is lost from the volume.", "Give the series it was drawn on: --like."),
    "CONTOURS_NOT_PARALLEL": Advice(
        "Contours in crossing planes enclose no volume.", "Draw or export the structure on the slices of one series."
    ),
    "CONTOUR_NOT_FLAT": Advice(
        "Its area is taken in the plane that fits best: a small error.", "Look at the contour in the planning system."
    ),
    "CONTOUR_GAPS": Advice(
        "Planes without a contour between others: filled or left out, the volume differs by them.",
        "Look whether they were forgotten (draw them) or the structure has two parts.",
    ),
    "CONTOUR_GAPS_FILLED": Advice(
        "Planes without a contour were filled from their neighbours: that part of the volume was never drawn.",
        "Look whether they were forgotten (draw them) or the structure has two parts.",
    ),
    "DEGENERATE_CONTOURS": Advice("None: they enclose nothing.", _NOTHING),
    "DUPLICATE_CONTOURS": Advice("None: copies count once; filled by the even-odd rule twice, they would vanish.", _NOTHING),
    "OPEN_CONTOURS": Advice("None is counted: a line has no area.", "If they were meant as outlines, close them in the planning system."),
    "OVERLAPPING_CONTOURS": Advice(
        "Where two overlap, the even-odd rule takes out what they share.", "Look whether a hole is meant; if not, unite them."
    ),
    "SELF_CROSSING_CONTOURS": Advice("The crossing part may count as outside.", "Look at the contour in the planning system."),
    "EMPTY_ROI": Advice("It has no volume, which is not a volume of 0.", "Draw it, or leave it out of the report."),
    "SINGLE_PLANE": Advice("The width of one contour is a guess, and the volume with it.", "Draw it on all slices, or report an area."),
    "POINT_CONTOURS": Advice("None: points have no volume.", _NOTHING),
    "POINT_COUNT": Advice("None: the points that are there count.", "Export again if the contour looks wrong."),
    "ORPHAN_CONTOURS": Advice("They belong to no structure and are not counted.", "Export the structure set again."),
    "UNKNOWN_CONTOUR_KIND": Advice("They are not filled and not counted.", "Check how they were exported."),
    "NO_ROIS": Advice("Nothing to measure.", "Export the structure set again."),
    "GRID_FROM_CONTOURS": Advice(
        "Volumes on this grid differ from the contours' by up to a few percent.", "Give the series: --like or --image."
    ),
    "VOLUME_ON_GRID": Advice(
        "The grid is coarse for this structure.", "Report the volume of the contours (medseg inspect), or take a finer grid."
    ),
    "ROIS_RENUMBERED": Advice(_NONE, "Go by the names."),
}

_RESULTS = {
    "CONSTANT_INTENSITY": Advice("Nothing can be told apart in an image of one value.", "Check that the right file was read."),
    "VOLUME_UNCERTAIN": Advice(
        "The volume is right on average, but another position of the patient on the same grid would give another one.",
        "Report the interval with the volume; use thinner slices for lesions of this size.",
    ),
    "FEATURES_LEFT_OUT": Advice(
        "None on volumes; the features are missing.",
        "Bring scan and segmentation onto an even grid (medseg convert), and say in the paper that they were resampled.",
    ),
    "VOLUMES_DIFFER": Advice(
        "Counting voxels and measuring the mesh are both in use; for small or thin segments they differ.",
        "Say in the paper which volume it is (volume_ml counts voxels), and use the same one throughout.",
    ),
    "NO_SEGMENTS": Advice("Nothing to measure, which does not mean that nothing is there.", "Check that this is the right file."),
    "SEGMENT_EMPTY": Advice(
        "A volume of 0 means not found; it does not mean not there.", "Look at the scan; check limits and the choice of segments."
    ),
    "LABELS_OUTSIDE_GRID": Advice(
        "What lies outside the grid is lost from the volume.", "Measure on the grid the segmentation was drawn on."
    ),
    "VOLUME_CHANGED": Advice("Smoothing moved the border.", "Report the volume from before smoothing, or smooth less."),
    "GROWN_LIMITS": Advice(
        "The region ends where the limits were put, not where the organ does.", "Look at the border; give limits by hand."
    ),
    "SEED_OUTSIDE_LIMITS": Advice("The seed is no part of what it should grow into.", "Move the seed or widen the limits."),
    "ARMS_LEFT_OUT": Advice("Body composition is that of the trunk.", "Compare only scans that were treated alike."),
    "BODY_CUT": Advice(
        "Fat and muscle outside the field of view are not counted: a lower bound.",
        "Report it with this remark, or use a scan that shows all.",
    ),
    "NOT_A_TORSO": Advice("The rules for the trunk do not hold here.", "Use a scan of the trunk."),
    "NO_BODY": Advice("No patient was found: all volumes are 0.", "Check that the scan is a CT in HU with air around the patient."),
    "UNIT_ASSUMED": Advice("Right only if the values are HU.", "Check that air reads about -1000."),
}

ADVICE: Mapping[str, Advice] = MappingProxyType(
    _DICOM | _FILES | _SEGMENTS | _RESULTS | {code: Advice(*texts) for code, texts in (BATCH | COMPARING | MODELS | CLASSICAL).items()}
)

# Where one code is graver at one time than at another, what it then means
ADVICE_BY_SEVERITY: Mapping[tuple[str, Severity], Advice] = MappingProxyType(
    {
        ("TOO_FEW_SLICES", Severity.ERROR): Advice("One position has no width, and so no volume.", "Give the folder of the whole series."),
        ("MIXED_SIZE", Severity.ERROR): Advice("Slices of different sizes form no grid.", "Choose one size with --select as listed below."),
        ("UNEVEN_SPACING", Severity.ERROR): Advice(
            "Stacked on even places, parts of the patient are stretched and others squeezed.",
            "Read the DICOM files with medseg, which uses the true positions.",
        ),
        ("OVERLAPPING_SEGMENTS", Severity.ERROR): Advice(
            "One label a voxel cannot hold them: each would lose what it shares.", "Write .seg.nrrd or DICOM SEG, which hold layers."
        ),
        ("MODALITY_UNKNOWN", Severity.INFO): Advice("None if it is what it was taken for.", _NOTHING),
    }
)

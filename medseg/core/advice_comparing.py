"""Advice on what is found while lesions are measured and followed, segmentations scored and readers compared: (effect, action)."""

from __future__ import annotations

COMPARING: dict[str, tuple[str, str]] = {
    "AGREEMENT_FEW_SUBJECTS": ("None on the figures; their intervals are wide.", "Report the intervals, and measure more subjects."),
    "AGREEMENT_NOT_NORMAL": (
        "The limits of agreement may hold more or less than 95 % of the differences.",
        "Look at the figure; try --scale log.",
    ),
    "AGREEMENT_PROPORTIONAL_BIAS": ("One bias for all sizes is wrong for small and for large structures.", "Use --scale percent or log."),
    "AGREEMENT_ROWS_NOT_INDEPENDENT": (
        "Intervals are too narrow: rows of one case are alike.",
        "Compare one row a case, or say --by label.",
    ),
    "AGREEMENT_SPREAD_GROWS": ("Absolute limits are too wide for small structures and too narrow for large ones.", "Use --scale log."),
    "AGREEMENT_STRUCTURES_POOLED": (
        "ICC is high because structures differ in size, not because readers agree.",
        "Compare each structure by itself.",
    ),
    "AGREEMENT_UNITS_DIFFER": ("Bias and limits mean nothing.", "Bring both tables to one unit (1 ml is 1000 mm³)."),
    "DAYS_UNKNOWN": ("None on volumes; doubling times are missing.", "Give --date for each scan, or --days for each follow-up."),
    "DEFORMATION_REJECTED": (
        "None on volumes; lesions are matched on the rigid registration.",
        "Look at the pictures of what is new or gone.",
    ),
    "DIFFERENT_PATIENTS": ("Changes between two people mean nothing.", "Check that all scans are of one person."),
    "EMPTY_SEGMENTS": ("None: a segment without voxels has no lesion.", "Nothing to do, unless one was expected there."),
    "LABELS_NOT_MATCHED": ("Each unmatched segment counts as missed or false.", "Pair them with --map PREDICTION=REFERENCE."),
    "LESION_SEGMENTS_CHOSEN": ("None.", "Choose with --segment if other segments are the lesions."),
    "LESION_SEGMENTS_UNNAMED": ("Organs may be listed as lesions.", "Choose the lesions with --segment."),
    "MATCHED_BY_NUMBER": (
        "Wrong where the two files number their segments differently.",
        "Check the pairs, or give --map PREDICTION=REFERENCE.",
    ),
    "NOT_REGISTERED": (
        "None on volumes; where the patient lay differently, lesions look new and gone.",
        "Give --image for each scan, or --registration none where they lie in one frame.",
    ),
    "NO_LESION": ("Nothing to measure, which does not mean that there is no lesion.", "Check the segments and the least volume."),
    "NO_PICTURES": ("None on numbers.", "Install medseg[report] for pictures."),
    "PICTURES_LEFT_OUT": ("None on numbers.", "Ask for more with --pictures."),
    "PREDICTION_RESAMPLED": (
        "Scores hold for the resampled mask; its volumes are said before and after.",
        "Segment on the reference's grid.",
    ),
    "REGISTRATION_FAILED": (
        "Lesions must not be matched on it.",
        "Check that both scans show the same part of one patient, or say --registration none.",
    ),
    "REGISTRATION_UNCERTAIN": (
        "None on volumes; matches may be wrong.",
        "Look at the pictures before you trust a lesion that is new or gone.",
    ),
    "SAME_FRAME_OF_REFERENCE": ("None: positions are compared as they are.", "Nothing to do, unless the patient moved between the scans."),
    "SEGMENTATION_CHANGED": (
        "The table speaks of another segmentation than the one in the folder: pictures and numbers do not belong together.",
        "Measure the segmentation again, then make the report again.",
    ),
    "SMALL_PARTS_LEFT_OUT": ("The volumes of the parts left out are in no row.", "Lower --at-least to list them."),
}

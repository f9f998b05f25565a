"""Advice on what is found by classical methods: (effect, action)."""

from __future__ import annotations

CLASSICAL: dict[str, tuple[str, str]] = {
    "SMOOTHED": ("Volumes changed by the share it says, surfaces by more.", "Measure surfaces and diameters before smoothing."),
    "GROWN_PAST_SCAN": (
        "The grown segment ends at the border of the scan: its volume is a lower bound.",
        "Use a scan that shows more around it, or a smaller margin.",
    ),
    "SMOOTHING_TOO_FINE": (
        "None: surfaces stay as they are along the coarsest axis.",
        "Give a sigma_mm of about the coarsest spacing, or leave smoothing out.",
    ),
    "BRAIN_IMPLAUSIBLE": (
        "The volume is not that of a brain: a part is missing, or scalp, neck or eyes are taken in.",
        "Look at it in three planes; give another bridge_mm, or a scan of the whole head; ignore it for a child or after surgery.",
    ),
    "WINDOW_FOR_CT": (
        "None on volumes; intensities were cut where the window for CT lies, which means nothing here.",
        "Give centre and width, or use normalise.",
    ),
    "HELD_BY_OTHERS": (
        "The segment is smaller than the operation says by what other segments hold.",
        "Give over_others if those voxels should change hands.",
    ),
    "OUTSIDE_CONSTRAINT": (
        "The segment lost the volume it says.",
        "Look at the place: a metastasis outside the organ is real; give margin_mm if the organ was drawn too small.",
    ),
    "CONSTRAINT_EMPTY": ("None: nothing was removed.", "Segment the organ first, or give the label map that holds it as organs."),
    "BOUNDARY_REFINED": ("Volumes changed by what it says.", "Look at the new borders where the change is large, or use a narrower band."),
    "NO_NOISE_FOUND": ("None: the scan was left as it is.", "Give the noise, the edge or sigma_intensity to filter it all the same."),
    "BIAS_FIELD": (
        "None on volumes; intensities are comparable across the scan now.",
        "Look at the corrected scan: a lesion or fat that covers much of it can be taken for a part of the field.",
    ),
    "CROPPED": ("None: every voxel keeps its place, and labels go back to the whole grid.", "Nothing to do."),
    "FOREGROUND_THRESHOLD": (
        "The border of the body moves with it, by less than a voxel where the edge is sharp.",
        "Give threshold yourself where the table is taken in or skin is left out.",
    ),
    "INSTANCES_SPLIT": (
        "The number of lesions and the size of each depend on where they were cut; their sum does not.",
        "Look at the cuts; raise least_waist_mm if one lesion was cut in two.",
    ),
    "LEAK_STOPPED": (
        "The region ends at the passage that is told; the volume it says was left out.",
        "Look at that place. If what lies behind belongs to the structure, put a seed there or lower neck_mm.",
    ),
    "NESTED_REGIONS": (
        "The volume depends on the limit, by what the curve says.",
        "Look at the curve: where it is flat the volume hardly depends on the limit; where it leaps the region breaks out.",
    ),
    "TOO_LARGE": (
        "There is no result: the scan has more voxels or parts than the method can number.",
        "Crop the scan or bring it onto a coarser grid first; where noise makes the parts, smooth it or raise the tolerance.",
    ),
    "EVERYTHING_TAKEN": (
        "The volume is that of the scan, air and table included.",
        "Mark background: background_seeds beside the structure, or a segment called background in markers; or give limits.",
    ),
    "CONTOUR_AT_REACH": (
        "The volume follows from the reach, not from the structure.",
        "Raise reach_mm if the structure goes on there; else give an edge, limits or marks of background that hold the surface.",
    ),
    "REGION_LEAKED": (
        "The volume probably holds other structures too.",
        "Look at the region; use leak-guarded-growing, which closes narrow passages, or narrower limits.",
    ),
    "REGIONS_DROPPED": (
        "The smallest regions are missing from the result.",
        "Raise least_volume_mm3, sigma_mm or the slopes until fewer regions are left.",
    ),
    "SEEDS_IN_ONE_REGION": (
        "The segment of the later seed is empty; that of the first holds both structures.",
        "Lower the slopes so that an edge parts the seeds, widen gap_mm, or leave one seed out.",
    ),
    "CONTOUR_VANISHED": ("There is no volume.", "Start from a larger region (at least 2.5 voxels in radius), or smooth less."),
    "CONTOUR_NOT_AT_REST": (
        "The volume depends on when the steps ran out.",
        "Raise iterations, or smooth more; look where the surface goes back and forth.",
    ),
    "EDGE_LIMITS": ("Fainter edges than these are not seen.", "Give the slopes yourself where edges are missing or noise is marked."),
    "EDGE_LEAK": (
        "The structure around the seed is missing from the result.",
        "Lower the slopes, widen gap_mm, or set touching_border where the scan cuts the organ off.",
    ),
    "CLASSIFIER_TRAINED": (
        "Segments with few scribbled voxels are learned badly.",
        "Scribble where the result is wrong, and run it again; spread the scribbles over the scan.",
    ),
    "HISTOGRAM_THRESHOLD": (
        "None: it tells where the intensities were parted. Another scan is parted elsewhere.",
        "Give the threshold beside the volume; for one border in all scans of a study use threshold with fixed limits.",
    ),
    "CLASS_MEANS": (
        "None: it tells which intensities the classes stand for.",
        "Check that each class is one tissue; give more classes, or lower and mask to leave air out.",
    ),
    "CLASSES_NOT_SETTLED": (
        "Borders between classes depend on when the rounds ran out, mostly by little.",
        "Raise iterations and compare the volumes.",
    ),
    "CLICK_LESION": ("None: it tells what was found under the click.", "Look at the border in three planes before you report the volume."),
    "LESION_EDGE_WEAK": (
        "Where the lesion looks like what surrounds it the border is a smooth guess, and the volume with it.",
        "Look at the border; click beside the lesion where it has run out (background_seeds), or use another sequence or PET.",
    ),
    "CLICK_NOT_FOLLOWED": (
        "The result leaves out a click that was marked inside, or holds one marked outside.",
        "Click nearer to the middle of the lesion, lower stiffness, or mark the lesion as two.",
    ),
    "WATERSHED_BASINS": (
        "Each basin is a region of its own: noise gives many small ones.",
        "Raise depth (or sigma_mm) where one structure falls into several, lower it where several are one.",
    ),
}

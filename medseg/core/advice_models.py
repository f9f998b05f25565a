"""Advice on what is found while trained networks run: (effect, action)."""

from __future__ import annotations

MODELS: dict[str, tuple[str, str]] = {
    "MODALITY_UNKNOWN": ("None if it is what it was taken for.", "Give DICOM files where you can: NIfTI does not say what was scanned."),
    "MODALITY_FORCED": (
        "A model on another kind of scan finds the wrong borders, or nothing.",
        "Look at every slice before you report a number.",
    ),
    "INTENSITIES_NOT_HU": (
        "Thresholds and models for CT cut elsewhere.",
        "Check that air reads about -1000; export the CT again if it does not.",
    ),
    "MODEL_OUTPUTS_OVERLAP": (
        "Structures of the model lie within one another and a voxel holds one label: larger ones lose the volume under smaller ones.",
        "Add the volumes of the inner structures to the outer one where the whole is meant.",
    ),
    "BUNDLE_LABELS_NEAREST": ("None: label numbers are not interpolated, as the bundle asks.", "Nothing to do."),
    "SPACING_FAR_FROM_MODEL": (
        "Small structures are lost between slices; volumes of thin organs are off.",
        "Use a thinner series of the same study, or a model made for this spacing; check every slice.",
    ),
    "SINGLE_SLICE_IN_3D_MODEL": ("A 3D model sees no neighbours: its labels are a guess.", "Give the whole series."),
    "SHEARED_GRID_IN_MODEL": (
        "Labels follow the sheared slices and volumes stay right, but the model was trained on upright scans.",
        "Compare with a copy on an upright grid: medseg convert IN OUT --like SCAN.",
    ),
    "NOTHING_FOUND": ("There is no volume where the prompts lie.", "Put a point well inside the structure, or add a box."),
    "PROMPT_NOT_FOLLOWED": (
        "The result leaves out a point that was marked inside, or holds one marked outside.",
        "Add points there, or choose a method made for the structure.",
    ),
    "NON_FINITE_REPLACED": ("None for organs if the voxels lie outside the patient.", "Look where they are."),
    "LESS_MEMORY_THAN_WANTED": ("None: only slower.", "Nothing to do."),
}

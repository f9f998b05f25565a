"""The built-in methods: name → "module:attribute". Pure data; nothing is imported until asked for."""

from __future__ import annotations

BUILTIN_METHODS: dict[str, str] = {
    # preprocess
    "reorient": "medseg.preprocessing.orientation:reorient",
    "resample": "medseg.preprocessing.resample:resample",
    "clip": "medseg.preprocessing.intensity:clip",
    "normalise": "medseg.preprocessing.intensity:normalise",
    "gaussian": "medseg.preprocessing.denoise:gaussian",
    "median": "medseg.preprocessing.denoise:median",
    # segment
    "threshold": "medseg.segmentation.classical.threshold:threshold",
    "otsu": "medseg.segmentation.classical.threshold:otsu",
    "multi-otsu": "medseg.segmentation.classical.threshold:multi_otsu",
    "region-growing": "medseg.segmentation.classical.region_growing:region_growing",
    "confidence-connected": "medseg.segmentation.classical.region_growing:confidence_connected",
    "watershed": "medseg.segmentation.classical.watershed:watershed",
    "body-composition": "medseg.segmentation.classical.body_composition:body_composition",
    "model": "medseg.segmentation.learned.model:model",
    "prompt": "medseg.segmentation.learned.prompt.method:prompt",
    # postprocess
    "keep-largest": "medseg.postprocessing.components:keep_largest",
    "remove-small": "medseg.postprocessing.components:remove_small",
    "fill-holes": "medseg.postprocessing.holes:fill_holes",
    "smooth": "medseg.postprocessing.smoothing:smooth",
    "snap-to-edges": "medseg.postprocessing.edges:snap_to_edges",
}

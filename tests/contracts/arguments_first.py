"""The least arguments of the methods that came first; CORNER is the place of voxel (0,0,0)."""

CORNER = (3.0, -4.0, 5.0)
ARGUMENTS = {
    "reorient": {},
    "resample": {"spacing_mm": 2.0},
    "clip": {"lower": 0, "upper": 50},
    "normalise": {},
    "gaussian": {},
    "median": {},
    "threshold": {"lower": 10},
    "otsu": {},
    "multi-otsu": {},
    "region-growing": {"seeds": [CORNER], "lower": -100, "upper": 200},
    "confidence-connected": {"seeds": [CORNER]},
    "watershed": {"seeds": [CORNER]},
    "body-composition": {},
    "model": {"force": True},
    "prompt": {"points": [CORNER]},
    "keep-largest": {},
    "remove-small": {},
    "fill-holes": {},
    "smooth": {},
    "snap-to-edges": {"reach_mm": 1.0},
}
BY_INTENSITY = {"threshold", "otsu", "multi-otsu", "region-growing", "confidence-connected", "watershed"}

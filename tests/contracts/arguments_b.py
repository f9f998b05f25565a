"""The least arguments of the region growing family; CORNER is the place of voxel (0,0,0)."""

CORNER = (3.0, -4.0, 5.0)
ARGUMENTS = {
    "neighbourhood-connected": {"seeds": [CORNER], "lower": -100, "upper": 200, "radius_mm": 0.3},
    "leak-guarded-growing": {"seeds": [CORNER]},
    "competitive-growing": {"seeds": [CORNER]},
    "nested-growing": {"seeds": [CORNER]},
}
BY_INTENSITY = set(ARGUMENTS)

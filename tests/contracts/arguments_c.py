"""The least arguments of `click-lesion`; CORNER is the place of voxel (0,0,0)."""

CORNER = (3.0, -4.0, 5.0)
ARGUMENTS = {"click-lesion": {"seeds": [CORNER]}}
BY_INTENSITY = {"click-lesion"}

"""The least arguments of the methods that divide a scan between marks or move a contour."""

CORNER = (3.0, -4.0, 5.0)
ARGUMENTS = {
    "grow-from-seeds": {"seeds": [CORNER]},
    "random-walker": {"seeds": [CORNER]},
    "graph-cut": {"seeds": [CORNER], "reach_mm": 2.0},
    "geodesic-active-contour": {"seeds": [CORNER]},
    "chan-vese": {"seeds": [CORNER]},
    "threshold-level-set": {"seeds": [CORNER], "lower": 0, "upper": 100},
}
BY_INTENSITY = {"grow-from-seeds", "random-walker", "graph-cut", "geodesic-active-contour", "chan-vese", "threshold-level-set"}

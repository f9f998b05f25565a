"""The least arguments of watershed, graph and superpixel methods."""

ARGUMENTS = {
    "auto-watershed": {},
    "split-merge": {"tolerance": 20},
    "felzenszwalb": {"scale": 100},
    "superpixels": {},
}
BY_INTENSITY = {"auto-watershed", "split-merge", "felzenszwalb", "superpixels"}

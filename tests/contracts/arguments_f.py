"""The least arguments of the preprocessing methods, and of the masks made by the same means."""

ARGUMENTS = {
    "anisotropic-diffusion": {},
    "bilateral": {},
    "non-local-means": {},
    "window": {"centre": 40, "width": 400},
    "equalise": {},
    "histogram-matching": {"reference_quantiles": [0, 10, 100]},
    "nyul": {"landmarks": [0, 9, 19, 29, 39, 50, 60, 70, 80, 90, 100]},
    "bias-field": {},
    "crop-foreground": {"threshold": 10},
    "skull-strip": {},
    "foreground": {"threshold": 10},
    "brain": {},
}
BY_INTENSITY: set[str] = set()

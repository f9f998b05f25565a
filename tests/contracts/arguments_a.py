"""The least arguments of histogram thresholds, local thresholds and clustering."""

ARGUMENTS = {
    "li": {},
    "yen": {},
    "triangle": {},
    "maximum-entropy": {},
    "kittler": {},
    "local-threshold": {},
    "hysteresis-threshold": {"strong": 40, "weak": 10},
    "k-means": {},
    "fuzzy-c-means": {},
    "gaussian-mixture": {},
    "mean-shift": {"bandwidth": 15.0},
}
BY_INTENSITY = set(ARGUMENTS)

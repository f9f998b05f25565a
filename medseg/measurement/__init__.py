"""How much there is of each segment, and how certain that is."""

"""Scans with answers known from formulas: solids, an anatomy made of them, a scanner that images it, and the truth."""

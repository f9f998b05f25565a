"""What the 3D Slicer extension needs and Slicer does not: arrays, terminology, rows of tables, and jobs for a child process.

`arrays`, `terminology`, `rows`, `jobs`, `client` and `paths` run inside Slicer's own Python: they import the standard library,
numpy and `medseg.core`, nothing else. Heavy work is done by `python -m medseg.slicer_bridge.worker`.
"""

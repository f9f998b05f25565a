"""MONAI bundles, read as data and run by medseg's engine."""

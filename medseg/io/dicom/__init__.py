"""DICOM in and out: find series, sort and audit their slices, decode pixels, write series and segmentations."""

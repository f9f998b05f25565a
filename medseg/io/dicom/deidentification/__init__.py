"""De-identified copies of DICOM files (PS3.15, Annex E)."""

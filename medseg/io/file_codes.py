"""Every code that NIfTI, NRRD and MetaImage files can give, and every refusal, by their rows in the catalogue of faults."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from medseg.core.errors import GeometryError, MedsegError, SegmentError, SeveralVolumesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.finding import Severity
from medseg.io.dicom.fault_codes import FaultCode

_W, _I = Severity.WARNING, Severity.INFO

CODES: Mapping[str, FaultCode] = MappingProxyType(
    {
        "XFORM_CHOSEN": FaultCode("N1", _W, "--nifti-xform: sform and qform contradict each other and one was chosen"),
        "ORIENTATION_UNKNOWN": FaultCode("N2 N15", _W, "the file does not say how the patient lies; volumes are right, sides are a guess"),
        "SHEARED_GRID": FaultCode("N3 N13", _W, "the axes are not at right angles; the volume of a voxel is the determinant"),
        "SPACING_MISMATCH": FaultCode("N3", _W, "pixdim and the affine give different spacings; the affine was used"),
        "UNIT_CONVERTED": FaultCode("N4", _I, "the file is not in millimetres; its grid was converted"),
        "UNUSUAL_SPACING": FaultCode("N4", _W, "a spacing outside 0.05 to 20 mm"),
        "UNUSUAL_EXTENT": FaultCode("N4", _W, "a grid longer than a patient"),
        "SCALE_IGNORED": FaultCode("N5", _W, "slope and intercept that make no scale; stored numbers were used"),
        "NEGATIVE_SPACING": FaultCode("N6", _W, "pixdim is negative; its size was used"),
        "SPACING_GIVEN": FaultCode("N6 N12", _W, "--spacing: the file has no usable spacing and the given one was used"),
        "SPACING_NOT_USED": FaultCode("N6 N12", _W, "--spacing differs from the sound spacing of the file, which was kept"),
        "NON_FINITE_VOXELS": FaultCode("N8", _W, "NaN or infinite voxels were set to the smallest value"),
        "BITPIX_MISMATCH": FaultCode("N9", _W, "the header contradicts itself on the size of a voxel; its type was used"),
        "TRAILING_PADDING": FaultCode("N10", _I, "meaningless bytes follow the voxels"),
        "WRONG_SUFFIX": FaultCode("N11", _I, "the name says gzip and the file is not, or the reverse"),
        "ORIGIN_UNKNOWN": FaultCode("N12", _W, "no space origin; the first voxel was put at 0, 0, 0"),
        "SINGLE_SLICE": FaultCode("B24", _W, "one slice only: a volume rests on the spacing alone"),
        "MANY_LABELS": FaultCode("B33", _W, "more labels than a label map usually has"),
        "DUPLICATE_SEGMENT_NAMES": FaultCode("", _I, "two segments had one name; the later got a number behind it"),
    }
)

REFUSALS: Mapping[str, tuple[type[MedsegError], str]] = MappingProxyType(
    {
        "N1": (GeometryError, "sform and qform contradict each other and none was chosen"),
        "N4": (GeometryError, "a unit that makes voxels no scan has"),
        "N6": (GeometryError, "pixdim 0, NaN or infinite, and no spacing was given"),
        "N7": (SeveralVolumesError, "several volumes and none was chosen"),
        "N8": (UnreadableFileError, "more than 1 % of the body is NaN or infinite"),
        "N9": (UnsupportedFormatError, "colours, complex numbers or single bits"),
        "N10": (UnreadableFileError, "cut short, a wrong checksum, foreign bytes at the end"),
        "N12": (GeometryError, "no spacing, and none was given"),
        "N14": (UnsupportedFormatError, "vectors or colours along an axis"),
        "L1": (SegmentError, "label values more than 1e-3 from a whole number, negative or not a number"),
        "B6": (UnreadableFileError, "more voxels than any scan has, or than the file can hold"),
        "B12": (UnreadableFileError, "an archive with paths out of itself, links, or too much in it"),
        "B34": (UnreadableFileError, "more memory needed than is free"),
    }
)

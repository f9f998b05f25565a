"""Headers that break the rules of the encoding but that pydicom still understands."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

from medseg.io.dicom.quiet import quiet

LARGEST_FILE = 1 << 28  # a broken header is given to pydicom only where the file is no larger

# What pydicom and struct raise on a broken header; the reader names the fault in its own words
_FOREIGN = (ArithmeticError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError, struct.error)


def lenient_elements(path: str, wanted: frozenset[int]) -> tuple[dict[int, bytes], str, bool, bool, int] | None:
    """Return (raw values, transfer syntax, is implicit, is big endian, position of the pixel element), None where it fails.

    Elements must come in the order of their tags, up to the pixels: else it was damage that was read, not a header. Sequences
    are left out: in a header that breaks the rules their bounds are not known.
    """
    import pydicom
    from pydicom.dataelem import RawDataElement
    from pydicom.errors import BytesLengthException, InvalidDicomError

    if os.path.getsize(path) > LARGEST_FILE:
        return None
    try:
        # from memory: pydicom reserves whatever length a broken element declares before it looks at the file
        with quiet(), io.BytesIO(Path(path).read_bytes()) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            at = stream.tell()
            tags = list(dataset.keys())
            if len(stream.read(12)) < 12 or tags != sorted(tags):
                return None
            values = {}
            for tag in wanted:
                element = dataset.get_item(tag) if tag in dataset else None
                if isinstance(element, RawDataElement) and element.VR != "SQ" and element.value is not None:
                    values[tag] = bytes(element.value)
            is_implicit, is_little = dataset.original_encoding
            syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
            return values, syntax, bool(is_implicit), is_little is False, at
    except (*_FOREIGN, BytesLengthException, InvalidDicomError):
        return None

"""Are these grey images of one patient's scan at all, and are all of their values there and known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from medseg.core.finding import Finding
from medseg.io.dicom.codecs import is_known_encoding, missing_pixel_bytes
from medseg.io.dicom.duplicates import identity
from medseg.io.dicom.fields import shown
from medseg.io.dicom.found import error, files_named, info, warning
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.split import is_colour

# Codes of these groups decide which error class a refused read raises
UNREADABLE_CODES = frozenset({"UNREADABLE_FILE", "TRUNCATED_PIXELS"})
UNSUPPORTED_CODES = frozenset({"MOSAIC", "COLOUR", "UNKNOWN_ENCODING", "NO_INTENSITIES"})

_PIXEL_DATA = 0x7FE00010


def kind(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Is this a stack of grey images that can be placed."""
    yield from _unusable(slices)
    colour = [header for header in slices if is_colour(header)]
    if colour:
        text = (
            f"{len(colour)} colour images ({shown(colour[0].photometric)}), not CT or MR intensities: no Hounsfield or signal value can be"
            " had from them; export the original grey images from the scanner or the archive"
        )
        yield error("COLOUR", text, photometric=shown(colour[0].photometric), count=len(colour))
    if any(header.pixels.tag != _PIXEL_DATA or header.bits_allocated not in (8, 16, 32) for header in slices):
        text = f"pixels of {slices[0].bits_allocated} bits or of floating-point numbers are not read; export the images as 16-bit numbers"
        yield error("NO_INTENSITIES", text, bits=slices[0].bits_allocated)
    unknown = sorted({header.transfer_syntax for header in slices if not is_known_encoding(header.transfer_syntax)})
    if unknown:
        text = f"transfer syntax {', '.join(map(shown, unknown))} is not read; decompress the files, for example with gdcmconv --raw"
        yield error("UNKNOWN_ENCODING", text, transfer_syntaxes=[shown(one) for one in unknown])


def remarks(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """What does not forbid reading grey images, but should be known."""
    if any(header.texts["anatomical_orientation_type"] == "QUADRUPED" for header in slices):
        text = (
            "positions are given in an animal's body axes, which would swap sides and directions if read as a patient's; there is no way on"
        )
        yield error("QUADRUPED", text)
    if any(header.photometric == "MONOCHROME1" for header in slices):
        yield warning("MONOCHROME1", "viewers show these images inverted; the intensities are kept as stored, high values stay high")
    lossy = sum(header.texts["lossy"] == "01" for header in slices)
    if lossy:
        text = f"{lossy} slice(s) were compressed with loss at some time: edges and intensities are not those that were scanned"
        yield warning("LOSSY_COMPRESSION", text, count=lossy)
    burned = sum(header.texts.get("burned_in", "").upper() == "YES" for header in slices)
    if burned:
        text = f"{burned} slice(s) have text burned into their pixels: it counts as tissue, and it may name the patient"
        yield warning("BURNED_IN_TEXT", text, count=burned)
    silent = sum(not header.texts["patient_position"] and header.frame_count == 1 and header.tile is None for header in slices)
    if silent:
        text = (
            f"{silent} of {len(slices)} slices do not say how the patient lay (PatientPosition); volumes do not depend on it, and left and"
            " right follow from the image orientation: check them once against a known side"
        )
        yield warning("PATIENT_POSITION_ABSENT", text, count=silent)


def storage(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Are all pixels there."""
    short = [(header, lack) for header in slices if (lack := missing_pixel_bytes(header))]
    if short:
        header, (there, needed) = short[0]
        count = len({one.path for one, _ in short})
        text = (
            f"{count} file(s) end early: {files_named([header])} has {there} of {needed} bytes of pixels; copy them again from their"
            " source, a volume without them would be too small"
        )
        yield error("TRUNCATED_PIXELS", text, count=count, bytes_there=there, bytes_needed=needed)


def rescale(slices: Sequence[SliceHeader], is_hu_assumed: bool) -> Iterable[Finding]:
    """Are the intensities known."""
    bad = [
        header
        for header in slices
        if (header.slope is not None and (not math.isfinite(header.slope) or header.slope == 0))
        or (header.intercept is not None and not math.isfinite(header.intercept))
    ]
    if bad:
        text = (
            f"{len(bad)} slice(s) have a rescale slope of 0 or no number ({files_named(bad)}): their intensities are unknown; export the"
            " series again"
        )
        yield error("BAD_RESCALE", text, count=len(bad))
    lacking = [header for header in slices if header.slope is None or header.intercept is None]
    if lacking and slices[0].modality == "CT":
        count = f"{len(lacking)} of {len(slices)} CT slices have no rescale slope and intercept ({files_named(lacking)})"
        if is_hu_assumed:
            text = f"{count}; their stored values are taken as HU, as --assume-hu asks: check that air is near -1000 and water near 0"
            yield warning("HU_ASSUMED", text, count=len(lacking))
        else:
            text = (
                f"{count}: the Hounsfield scale is unknown, and thresholds may be off by 1024 HU; export the series again, or use"
                " --assume-hu where the stored values are HU"
            )
            yield error("MISSING_RESCALE", text, count=len(lacking))
    kinds = {(header.slope, header.intercept) for header in slices}
    if len(kinds) > 1:
        yield info("RESCALE_PER_SLICE", f"{len(kinds)} different rescale values; each slice uses its own", count=len(kinds))


def identities(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Has every slice a name of its own, and do they say from which series they are."""
    nameless = sum(not header.sop_instance_uid for header in slices)
    if nameless:
        text = f"{nameless} slices have no SOP instance UID: a segmentation or report cannot refer to them"
        yield warning("MISSING_UID", text, count=nameless)
    invalid = sum(bool(header.texts.get("invalid_uids")) for header in slices)
    if invalid:
        text = f"{invalid} slices carry UIDs that are none (other signs than digits and dots); hashes stand for them in results"
        yield warning("INVALID_UID", text, count=invalid)
    if slices and not slices[0].series_uid:
        yield warning("MISSING_SERIES_UID", "the files name no series; those of one folder and study were taken together")


def repeated_uids(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Do different images of a series claim to be one; copies must have been dropped before."""
    keys = Counter(identity(header) for header in slices)
    repeated = [header for header in slices if header.sop_instance_uid and keys[identity(header)] > 1]
    if repeated:
        extra = len(repeated) - len({identity(header) for header in repeated})
        text = (
            f"{extra} slices repeat the SOP instance UID of another with other content ({files_named(repeated)}): two different images"
            " claim to be one; find out which is right and move the other away"
        )
        yield error("REPEATED_UID", text, count=extra)


def _unusable(slices: Sequence[SliceHeader]) -> Iterable[Finding]:
    """Frames and mosaics that their own header does not place."""
    unplaced = [header for header in slices if header.unusable]
    if not unplaced:
        return
    first = unplaced[0]
    why = f"{files_named([replace(first, frame_count=1)])}: {first.unusable.strip().rstrip('.')}"
    if any("MOSAIC" in header.image_type for header in unplaced):
        yield error("MOSAIC", f"{why}; do so before private fields are removed", count=len(unplaced))
        return
    text = f"{why}; or give the true --spacing to stack its frames in their order, without a place in the patient"
    yield error("NO_GEOMETRY", text, count=len(unplaced))

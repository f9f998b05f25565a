"""SEGs whose frames cannot be placed, or whose pixels are not there: each is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from made_segs import axial_seg, edited, groups_of, uneven
from made_series import numbered_volume
from pydicom.dataset import Dataset

from medseg.core.errors import GeometryError, MedsegError, UnreadableFileError, UnsupportedFormatError
from medseg.io.dicom.seg_read import read_seg, read_seg_layers


@pytest.fixture
def path(make_series, tmp_path: Path) -> Path:
    return axial_seg(make_series(numbered_volume((9, 7, 8))), tmp_path)


def no_position(dataset: Dataset) -> None:
    del groups_of(dataset, 3).PlanePositionSequence


def no_positions(dataset: Dataset) -> None:
    for group in dataset.PerFrameFunctionalGroupsSequence:
        del group.PlanePositionSequence


def nan_position(dataset: Dataset) -> None:
    groups_of(dataset, 3).PlanePositionSequence[0].ImagePositionPatient = ["nan", "0", "0"]


def no_orientation(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def zero_orientation(dataset: Dataset) -> None:
    dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [0] * 6


def no_spacing(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing


def turned(dataset: Dataset) -> None:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group["PlaneOrientationSequence"] = deepcopy(shared["PlaneOrientationSequence"])
        if number > 4:
            group.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def other_spacing(dataset: Dataset) -> None:
    shared = dataset.SharedFunctionalGroupsSequence[0]
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group["PixelMeasuresSequence"] = deepcopy(shared["PixelMeasuresSequence"])
        if number > 4:
            group.PixelMeasuresSequence[0].PixelSpacing = [1.4, 1.4]


def shifted(dataset: Dataset) -> None:
    x, y, z = groups_of(dataset, 3).PlanePositionSequence[0].ImagePositionPatient
    groups_of(dataset, 3).PlanePositionSequence[0].ImagePositionPatient = [float(x) + 0.7, y, z]


def far_away(dataset: Dataset) -> None:
    groups_of(dataset, 7).PlanePositionSequence[0].ImagePositionPatient = [0, 0, 25e6]


def tiled(dataset: Dataset) -> None:
    dataset.DimensionOrganizationType = "TILED_SPARSE"
    dataset.TotalPixelMatrixColumns = dataset.TotalPixelMatrixRows = 1000


def group_missing(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[7]


def groups_missing(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence


def no_segment_number(dataset: Dataset) -> None:
    del groups_of(dataset, 2).SegmentIdentificationSequence


def number_zero(dataset: Dataset) -> None:
    groups_of(dataset, 2).SegmentIdentificationSequence[0].ReferencedSegmentNumber = 0


def many_frames(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 100_000


def many_rows(dataset: Dataset) -> None:
    dataset.Rows = dataset.Columns = 65_535


def no_pixels(dataset: Dataset) -> None:
    del dataset.PixelData


def few_pixels(dataset: Dataset) -> None:
    dataset.PixelData = dataset.PixelData[:20]


def surface(dataset: Dataset) -> None:
    dataset.SegmentationType = "SURFACE"


def colours(dataset: Dataset) -> None:
    dataset.SamplesPerPixel = 3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (no_position, GeometryError, "1 of 8 frames have no position"),
        (no_positions, GeometryError, "8 of 8 frames have no position"),
        (nan_position, GeometryError, "1 of 8 frames have no position"),
        (no_orientation, GeometryError, "no usable orientation"),
        (zero_orientation, GeometryError, "no usable orientation"),
        (no_spacing, GeometryError, "no usable pixel spacing"),
        (turned, UnsupportedFormatError, "different orientations"),
        (other_spacing, UnsupportedFormatError, "different pixel spacings"),
        (shifted, UnsupportedFormatError, "shifted sideways against each other by up to 0.7 mm"),
        (uneven, UnsupportedFormatError, r"uneven distances \(2.5 to 3.6 mm\)"),
        (far_away, UnsupportedFormatError, "more than any patient"),
        (tiled, UnsupportedFormatError, "whole-slide"),
        (group_missing, UnreadableFileError, "8 frames, but 7 descriptions"),
        (groups_missing, UnreadableFileError, "8 frames, but 0 descriptions"),
        (no_segment_number, UnreadableFileError, "lacks attributes"),
        (number_zero, UnreadableFileError, "segments begin at 1"),
        (many_frames, UnreadableFileError, "100000 frames, but 8"),
        (many_rows, UnreadableFileError, "damaged"),
        (no_pixels, UnreadableFileError, "ends before its pixels"),
        (few_pixels, UnreadableFileError, "20 of 63 bytes"),
        (surface, UnsupportedFormatError, "type SURFACE"),
        (colours, UnsupportedFormatError, "3 sample"),
    ],
)
def test_what_has_no_place_or_no_pixels_is_refused_by_name(path: Path, change: Callable, error: type[MedsegError], message: str) -> None:
    edited(path, change)
    for read in (read_seg, read_seg_layers):
        with pytest.raises(error, match=message) as caught:
            read(path)
        assert caught.value.__cause__ is None

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from made_series import add_file, edit_files, numbered_volume
from pydicom.dataset import Dataset

from medseg.core.errors import InconsistentSeriesError, InputError, MedsegError, UnsupportedFormatError
from medseg.core.finding import Severity
from medseg.core.volume import Volume
from medseg.io.dicom.find import find_series
from medseg.io.dicom.header import read_header
from medseg.io.dicom.volume import inspect_series, read_series, read_series_volumes
from medseg.io.options import ReadOptions

WHOLE_SERIES = [
    ("ct_totalseg_dicom", "dicom", "dicom"),
    ("dicom_ct_gantry_tilt_phantom", "dicom", "dicom"),
    ("dicom_mr_sagittal_phantom", "dicom", "dicom"),
    ("dicom_mr_siemens_fieldmap_phase", "dicom", "dicom"),
    ("phantom_ibsi2_orientation", "dicom", "dicom"),
    ("dicom_seg_dcmqi_ct", "ct", "ct"),
    ("dicom_seg_dcmqi_small", "image", "image"),
    ("dicom_seg_qin_prostate", "adc", "adc"),
    *[("dicom_mr_oblique_headers", f"{vendor}/dicom", f"{vendor}/dicom") for vendor in ("ge", "philips", "siemens")],
    *[("dicom_bad_series", f"{name}/dicom", f"{name}/dicom") for name in ("gantry_tilt", "two_slices")],
    *[(f"tumour_sts_{n}", f"dicom/{kind}", f"{kind}/dicom") for n in ("002", "019", "025") for kind in ("CT", "MR_T1", "PET")],
]


def _expected(case: Path, keys: str) -> dict[str, Any]:
    document = json.loads((case / "expected.json").read_text())
    for key in keys.split("/"):
        document = document[key]
    return document[0] if isinstance(document, list) else document


def _assert_probes(volume: Volume, probes: list[dict[str, Any]], atol: float = 1e-3) -> None:
    assert probes
    for probe in probes:
        index = volume.geometry.world_to_index(probe["ras_mm"])
        assert np.abs(index - np.rint(index)).max() < 0.02  # positions are given with 4 digits
        value = float(volume.array[tuple(np.rint(index).astype(int))])
        assert value == pytest.approx(probe["value"], rel=1e-6, abs=atol)


@pytest.mark.parametrize(("case", "folder", "keys"), WHOLE_SERIES)
def test_real_series(shared_data: Path, case: str, folder: str, keys: str) -> None:
    expected = _expected(shared_data / case, keys)
    volume = read_series(shared_data / case / folder)
    assert volume.array.shape == (expected["columns"], expected["rows"], expected["n_slice_positions"])
    assert volume.array.T.flags.c_contiguous
    assert volume.modality == expected["modality"]
    assert volume.unit == ("HU" if volume.modality == "CT" else volume.unit)
    row_mm, column_mm = expected["pixel_spacing_mm_row_col"]
    np.testing.assert_allclose(volume.geometry.spacing_mm[:2], (column_mm, row_mm), rtol=1e-6)
    intensity = expected["intensity_after_rescale"]
    assert float(volume.array.min()) == pytest.approx(intensity["min"], abs=1e-4)
    assert float(volume.array.max()) == pytest.approx(intensity["max"], rel=1e-6)
    assert float(volume.array.mean(dtype=np.float64)) == pytest.approx(intensity["mean"], rel=1e-5)
    _assert_probes(volume, expected["probes"])
    for file, k in ((volume.source.files[0], 0), (volume.source.files[-1], volume.array.shape[2] - 1)):
        position = np.asarray(read_header(file).position) * (-1, -1, 1)
        np.testing.assert_allclose(volume.geometry.index_to_world([0, 0, k]), position, atol=1e-6)


REFERENCE_GRIDS = [
    ("ct_totalseg_dicom", "dicom", "dcm2niix_v1.0.20260724"),
    ("dicom_mr_sagittal_phantom", "dicom", "reference_image"),
    ("dicom_mr_siemens_fieldmap_phase", "dicom", "reference_image"),
    ("dicom_seg_dcmqi_ct", "ct", "liver_seg.nrrd"),
    ("dicom_seg_dcmqi_small", "image", "label.nrrd"),
    *[("dicom_mr_oblique_headers", f"{vendor}/dicom", f"{vendor}/reference_image") for vendor in ("ge", "philips", "siemens")],
    ("dicom_bad_series", "two_slices/dicom", "two_slices/reference_image"),
    *[(f"tumour_sts_{n}", f"dicom/{kind}", f"{kind}/reference_image") for n in ("002", "019", "025") for kind in ("CT", "MR_T1", "PET")],
]


@pytest.mark.parametrize(("case", "folder", "keys"), REFERENCE_GRIDS)
def test_the_grid_is_that_of_the_reference_converter_up_to_flips(shared_data: Path, case: str, folder: str, keys: str) -> None:
    """dcm2niix and others store some axes the other way round: the set of corners is what must agree."""
    expected = _expected(shared_data / case, keys)
    affine, shape = np.asarray(expected["affine_ras"]), expected["shape_ijk"]
    corners = np.array([[i, j, k] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)])
    world = corners @ affine[:3, :3].T + affine[:3, 3]
    volume = read_series(shared_data / case / folder)
    own = volume.geometry.corners_mm()
    distance = np.linalg.norm(own[:, None] - world[None], axis=2).min(axis=1)
    assert distance.max() < 1e-2 if case == "dicom_mr_oblique_headers" else distance.max() < 2e-3
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(abs(np.linalg.det(affine[:3, :3])), rel=2e-5)


def test_gantry_tilt_keeps_its_volume(shared_data: Path) -> None:
    expected = _expected(shared_data / "dicom_ct_gantry_tilt_phantom", "dicom")
    volume = read_series(shared_data / "dicom_ct_gantry_tilt_phantom")
    np.testing.assert_allclose(volume.geometry.affine, expected["sheared_affine_ras_col_row_slice"], atol=1e-3)
    assert volume.geometry.voxel_volume_mm3 == pytest.approx(expected["voxel_volume_mm3"], rel=1e-5)
    dense = int((volume.array > 300).sum())
    assert (volume.array > 300).sum(axis=(0, 1)).tolist() == expected["voxels_hu_gt_300_per_slice"]
    assert dense * volume.geometry.voxel_volume_mm3 / 1000 == pytest.approx(expected["volume_hu_gt_300_ml"], rel=1e-5)
    tilt = next(finding for finding in volume.findings if finding.code == "GANTRY_TILT")
    assert tilt.severity is Severity.WARNING
    assert tilt.details["degrees"] == pytest.approx(18.5, abs=0.01)


def test_missing_slices_of_a_real_series(shared_data: Path) -> None:
    missing = _expected(shared_data / "dicom_ct_missing_slices", "missing")
    with pytest.raises(InconsistentSeriesError, match="MISSING_SLICES") as caught:
        read_series(shared_data / "dicom_ct_missing_slices")
    finding = next(one for one in caught.value.findings if one.code == "MISSING_SLICES")
    found = [z for place in finding.details["gaps"] for z in place["positions_mm"]]
    np.testing.assert_allclose(found, missing["missing_z_mm"], atol=1e-3)
    assert finding.details["usual_gap_mm"] == pytest.approx(missing["nominal_gap_mm"])


@pytest.mark.parametrize(
    ("folder", "code", "error"),
    [
        ("dicom_bad_series/missing_slice", "MISSING_SLICES", InconsistentSeriesError),
        ("dicom_bad_series/same_position", "TOO_FEW_SLICES", InconsistentSeriesError),
        ("dicom_rgb_slices", "COLOUR", UnsupportedFormatError),
        ("dicom_12bit_in_16", "REPEATED_UID", InconsistentSeriesError),
        ("dicom_enhanced_mr_no_geometry", "NO_GEOMETRY", InconsistentSeriesError),
    ],
)
def test_real_series_that_must_be_refused(shared_data: Path, folder: str, code: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=code):
        read_series(shared_data / folder)
    report = inspect_series(find_series(shared_data / folder)[0])
    assert not report.is_readable
    assert code in [finding.code for finding in report.findings]


def test_two_orientations_are_named(shared_data: Path) -> None:
    with pytest.raises(InconsistentSeriesError, match="2 stacks that differ by ImageOrientationPatient") as caught:
        read_series(shared_data / "dicom_bad_series" / "two_orientations")
    assert caught.value.findings[0].code == "MIXED_ORIENTATION"


REFERENCES = [
    ("dicom_enhanced_legacy_ct", "enhanced.dcm", "reference_image.nii.gz"),
    *[("dicom_enhanced_mr_headers", vendor, f"{vendor}/reference.nii.gz") for vendor in ("philips", "siemens")],
    ("dicom_enhanced_mr_philips_asl", "", "reference/asl.nii.gz"),
    *[("dicom_mr_mosaic_orientations", f"{plane}/dicom", f"{plane}/reference.nii") for plane in ("axial", "coronal", "sagittal")],
    ("dicom_mr_prone", "dicom", "reference.nii.gz"),
    *[
        ("dicom_12bit_in_16", f"dicom/12bit{kind}.dcm", f"reference/12bit{kind}.nii")
        for kind in ("Unsigned", "Unsigned_0x0F0F", "Signed_0x0F0F")
    ],
    ("dicom_mr_ge_epi_4d", "dicom", "reference.nii"),
    ("dicom_mr_philips_oblique_phantom", "dicom", "reference.nii"),
    ("dicom_compressed_mr_volume", "compressed_jpegls", "reference.nii.gz"),
]


@pytest.mark.parametrize(("case", "folder", "reference"), REFERENCES)
def test_every_volume_lies_where_the_reference_has_it(shared_data: Path, case: str, folder: str, reference: str) -> None:
    """Voxels of ours are looked up by their place in the patient in what dcm2niix or dicom2nifti wrote (read by nibabel)."""
    theirs = nibabel.load(shared_data / case / reference)
    values = np.asarray(theirs.dataobj, dtype=np.float64)
    values = values.reshape(*values.shape[:3], -1)
    volumes = read_series_volumes(shared_data / case / folder)
    assert len(volumes) == values.shape[3]
    for t, volume in enumerate(volumes):
        index = np.random.default_rng(t).integers(0, volume.array.shape, (4000, 3))
        places = nibabel.affines.apply_affine(np.linalg.inv(theirs.affine), volume.geometry.index_to_world(index))
        assert np.abs(places - np.rint(places)).max() < 0.01
        ours = volume.array[tuple(index.T)].astype(np.float64)
        same = values[(*np.rint(places).astype(int).T, t)]
        if case == "dicom_mr_philips_oblique_phantom":  # dcm2niix applies Philips' private scale: the same up to one factor
            same *= ours.sum() / same.sum()
        np.testing.assert_allclose(ours, same, rtol=1e-5, atol=1e-4 * np.abs(same).max() / 100)
        assert volume.geometry.voxel_volume_mm3 == pytest.approx(abs(np.linalg.det(theirs.affine[:3, :3])), rel=1e-4)


def test_two_frames_of_the_nema_sample(shared_data: Path) -> None:
    expected = _expected(shared_data / "dicom_enhanced_ct_nema", "dicom")
    volume = read_series(shared_data / "dicom_enhanced_ct_nema" / "enhanced_ct.dcm")
    assert volume.array.shape == (512, 512, 2)
    assert [finding.code for finding in volume.findings] == ["TOO_FEW_SLICES"]
    _assert_probes(volume, expected["probes"])
    assert float(volume.array.mean(dtype=np.float64)) == pytest.approx(expected["intensity_after_rescale"]["mean"], rel=1e-6)


@pytest.mark.parametrize(
    ("case", "count", "field"),
    [("dicom_mr_philips_oblique_phantom", 3, "TemporalPositionIdentifier"), ("dicom_mr_ge_epi_4d", 10, "TimePoint")],
)
def test_time_points_need_a_choice(shared_data: Path, case: str, count: int, field: str) -> None:
    folder = shared_data / case / "dicom"
    with pytest.raises(InconsistentSeriesError, match=f"holds {count} stacks that differ by {field}"):
        read_series(folder)
    every = read_series_volumes(folder)
    for options in (ReadOptions(volume_index=2), ReadOptions(select="3"), ReadOptions(select=f"{field}=3")):
        volume = read_series(folder, options)
        np.testing.assert_array_equal(volume.array, every[2].array)
        assert "STACK_SELECTED" in [finding.code for finding in volume.findings]
    with pytest.raises(InputError, match=f"holds {count} volume"):
        read_series(folder, ReadOptions(volume_index=count))


def test_several_series_need_a_choice(shared_data: Path) -> None:
    folder = shared_data / "tumour_sts_002" / "dicom"
    with pytest.raises(InputError, match="3 series; choose one with --series") as caught:
        read_series(folder)
    for series in find_series(folder):
        assert f"{series.series_uid}  {series.modality}  {len(series.slices)} slices" in str(caught.value)
        assert read_series(folder, ReadOptions(series=series.series_uid)).modality == series.modality
    with pytest.raises(InputError, match=r"no series '9\.9'; there are"):
        read_series(folder, ReadOptions(series="9.9"))
    with pytest.raises(InputError, match="choose one"):
        read_series(folder, ReadOptions(series="1.3.6.1"))


def test_all_slices_of_two_folders_with_one_uid_are_compared(shared_data: Path) -> None:
    """JPEG-LS, RLE and JPEG 2000 copies of one series: what is the same when decoded is a copy."""
    folder = shared_data / "dicom_compressed_mr_volume"
    found = find_series(folder)
    assert [len(series.slices) for series in found] == [16]
    if importlib.util.find_spec("imagecodecs") is None:  # four files cannot be decoded, nor compared
        with pytest.raises(InconsistentSeriesError, match="REPEATED_UID: 4 slices"):
            read_series(folder)
        return
    volume = read_series(folder)
    assert volume.array.shape == (256, 256, 4)
    assert {finding.code for finding in volume.findings} >= {"DUPLICATE_SLICES"}


def test_inspect_says_what_read_gives(make_series) -> None:
    folder = make_series()
    report = inspect_series(find_series(folder)[0])
    volume = read_series(folder)
    assert report.geometry == volume.geometry
    assert (report.modality, report.unit, report.slice_count) == ("CT", "HU", 6)
    assert report.path == str(folder)
    assert report.is_readable
    assert report.to_dict()["series_uid"] == volume.source.series_uid


def test_units(make_series) -> None:
    for number, (modality, changes, unit) in enumerate(
        [
            ("CT", {}, "HU"),
            ("CT", {"RescaleType": "US"}, "HU"),
            ("CT", {"RescaleType": "Z_EFF"}, "Z_EFF"),
            ("MR", {}, ""),
            ("PT", {"Units": "BQML"}, "Bq/ml"),
        ]
    ):

        def edit(dataset: Dataset, _: int, modality: str = modality, changes: dict[str, str] = changes) -> None:
            dataset.Modality = modality
            for keyword, value in changes.items():
                setattr(dataset, keyword, value)

        assert read_series(make_series(edit=edit, name=f"s{number}")).unit == unit


def _named_patient(dataset: Dataset, _: int) -> None:
    dataset.PatientName = "ZZCANARY^NAME"
    dataset.PatientID = "ZZCANARY-ID"
    dataset.PatientBirthDate = "19011224"
    dataset.AccessionNumber = "ZZCANARY-ACC"
    dataset.ReferringPhysicianName = "ZZCANARY^DOCTOR"
    dataset.InstitutionName = "ZZCANARY HOSPITAL"


def _faults() -> list[Any]:
    def cut(folder: Path) -> None:
        file = folder / "slice_0002.dcm"
        file.write_bytes(file.read_bytes()[:-9])

    def cut_header(folder: Path) -> None:
        file = folder / "slice_0002.dcm"
        file.write_bytes(file.read_bytes()[:800])

    def twice(folder: Path) -> None:
        add_file(folder / "slice_0002.dcm", folder / "x", lambda dataset: setattr(dataset, "PixelData", bytes(70)))

    def change(**values: object) -> Any:
        def spoil(folder: Path) -> None:
            edit_files(sorted(folder.glob("*")), lambda dataset, k: [setattr(dataset, key, value) for key, value in values.items()])

        return spoil

    return [
        cut,
        cut_header,
        twice,
        lambda folder: (folder / "slice_0003.dcm").unlink(),
        change(PixelSpacing=[0, 0]),
        change(RescaleSlope=0),
        change(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"),
        change(NumberOfFrames=3),
        change(PhotometricInterpretation="RGB", SamplesPerPixel=3),
        change(BitsStored=20),
    ]


@pytest.mark.parametrize("fault", _faults())
def test_no_message_names_the_patient(make_series, fault, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_series(edit=_named_patient)
    fault(folder)
    with caplog.at_level(logging.DEBUG), pytest.raises(MedsegError) as caught:
        read_series(folder)
    said = [str(caught.value), *map(str, getattr(caught.value, "findings", ())), caplog.text, *capfd.readouterr()]
    cause: BaseException | None = caught.value
    while cause is not None:
        said.append(repr(cause))
        cause = cause.__cause__
    assert not any("ZZCANARY" in text or "19011224" in text for text in said)


def test_a_sound_volume_names_no_patient(make_series) -> None:
    folder = make_series(edit=_named_patient)
    volume = read_series(folder)
    report = inspect_series(find_series(folder)[0])
    assert "ZZCANARY" not in repr(volume.source) + repr(volume.findings) + repr(report.to_dict())


@pytest.mark.parametrize("shape", [(3, 4, 5), (5, 4, 3)])
def test_against_itk_on_an_oblique_left_handed_grid(make_series, shape: tuple[int, int, int]) -> None:
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("zyx", (20, -35, 50), degrees=True).as_matrix() @ np.diag([0.6, 1.1, -3.3])
    affine[:3, 3] = (12.5, -80.25, 33)
    folder = make_series(numbered_volume(shape, affine, "MR"))
    volume = read_series(folder)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    theirs = sitk.GetArrayFromImage(image)
    for index in np.ndindex(*shape):
        x, y, z = volume.geometry.index_to_world(index)
        i, j, k = image.TransformPhysicalPointToIndex((float(-x), float(-y), float(z)))
        assert theirs[k, j, i] == volume.array[index]
    assert not volume.geometry.is_left_handed

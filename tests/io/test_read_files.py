"""Reading exactly the files that were given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_studies import STUDY, write_object, write_slices

from medseg.core.errors import InconsistentSeriesError, InputError, SeveralVolumesError, UnreadableFileError, UnsupportedFormatError
from medseg.core.geometry import Geometry
from medseg.core.volume import Volume
from medseg.io.options import ReadOptions
from medseg.io.read import read, read_files
from medseg.io.write import write

PLAIN = ReadOptions()


def test_files_of_a_series_are_read_as_their_folder_is(tmp_path: Path) -> None:
    files = write_slices(tmp_path)
    expected = read(tmp_path)
    volume = read_files(files[::-1], PLAIN)
    np.testing.assert_array_equal(volume.array, expected.array)
    np.testing.assert_allclose(volume.geometry.affine, expected.geometry.affine)
    assert volume.source is not None
    assert expected.source is not None
    assert volume.source.sop_instance_uids == expected.source.sop_instance_uids


def test_what_lies_beside_them_is_not_looked_at(tmp_path: Path) -> None:
    files = write_slices(tmp_path)
    write_slices(tmp_path, first=5, count=2)
    write_slices(tmp_path, f"{STUDY}.2")
    (tmp_path / "broken.dcm").write_bytes(files[0].read_bytes()[:200])
    assert read_files(files, PLAIN).geometry.shape[2] == 5


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None])
def test_no_file_is_passed_over(tmp_path: Path, content: bytes | None) -> None:
    files = write_slices(tmp_path)
    odd = tmp_path / "0_odd.dcm"
    if content is None:
        write_object(odd, "1.2.840.10008.5.1.4.1.1.88.33", "SR")
    else:
        odd.write_bytes(content)
    for given in ([odd, *files], [*files, odd]):
        with pytest.raises(UnreadableFileError, match=r"0_odd\.dcm"):
            read_files(given, PLAIN)
    with pytest.raises(InputError, match=r"0_odd\.dcm"):
        read_files([odd], PLAIN)


def test_a_file_that_is_gone_is_said(tmp_path: Path) -> None:
    files = write_slices(tmp_path)
    files[1].unlink()
    with pytest.raises(UnreadableFileError, match=files[1].name):
        read_files(files, PLAIN)


def test_files_of_two_series_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InconsistentSeriesError, match="2 series"):
        read_files([*write_slices(tmp_path), *write_slices(tmp_path, f"{STUDY}.2")], PLAIN)


def test_image_files_and_their_choices(tmp_path: Path) -> None:
    array = np.arange(4 * 4 * 4, dtype=np.int16).reshape(4, 4, 4)
    path = write(Volume(array, Geometry((4, 4, 4), np.eye(4))), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_files([path], PLAIN).array, array)
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.stack([array, array + 1], axis=-1), np.eye(4)), tmp_path / "4d.nii")
    with pytest.raises(SeveralVolumesError):
        read_files([tmp_path / "4d.nii"], PLAIN)
    assert read_files([tmp_path / "4d.nii"], ReadOptions(volume_index=1)).array[0, 0, 0] == 1
    (tmp_path / "text.txt").write_text("no image")
    with pytest.raises(UnsupportedFormatError):
        read_files([tmp_path / "text.txt"], PLAIN)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UnreadableFileError):
        read_files([path], PLAIN)

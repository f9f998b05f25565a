from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest

from medseg.core.errors import ParameterError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.preprocessing.orientation import reoriented
from medseg.preprocessing.preprocess import preprocess

CODES = ["".join(code) for axes in itertools.permutations(("RL", "AP", "SI")) for code in itertools.product(*axes)]


def scan(affine: np.ndarray, shape: tuple[int, int, int] = (4, 5, 6)) -> Volume:
    rng = np.random.default_rng(3)
    return Volume(rng.integers(-1000, 1000, shape).astype(np.int16), Geometry(shape, affine, "1.2.3"), "CT", "HU")


def test_every_orientation_gives_what_nibabel_gives(affine: np.ndarray) -> None:
    volume = scan(affine)
    image = nibabel.Nifti1Image(volume.array, affine)
    now = nibabel.io_orientation(affine)
    assert len(set(CODES)) == 48
    for code in CODES:
        turned = preprocess(volume, "reorient", orientation=code)
        expected = image.as_reoriented(nibabel.orientations.ornt_transform(now, nibabel.orientations.axcodes2ornt(code)))
        assert turned.geometry.orientation == code
        assert np.array_equal(turned.array, np.asarray(expected.dataobj))
        assert np.allclose(turned.geometry.affine, expected.affine, atol=1e-12)


def test_there_and_back_is_the_identity(affine: np.ndarray) -> None:
    volume = scan(affine)
    for code in CODES:
        back = reoriented(reoriented(volume, code), volume.geometry.orientation)
        assert np.array_equal(back.array, volume.array)
        assert np.allclose(back.geometry.affine, affine, atol=1e-12)
        assert back.geometry.frame_of_reference_uid == "1.2.3"
        assert (back.modality, back.unit) == ("CT", "HU")


def test_a_voxel_keeps_its_place_in_the_patient(affine: np.ndarray) -> None:
    volume = scan(affine)
    turned = reoriented(volume, "SLP")
    for index in [(0, 0, 0), (3, 1, 2), (1, 4, 5)]:
        point = volume.geometry.index_to_world(index)
        there = tuple(np.rint(turned.geometry.world_to_index(point)).astype(int))
        assert turned.array[there] == volume.array[index]
        assert np.allclose(turned.geometry.index_to_world(there), point)


def test_a_label_map_turns_with_its_segments() -> None:
    labels = LabelMap(np.arange(6, dtype=np.uint8).reshape(1, 2, 3) % 2, Geometry((1, 2, 3), np.eye(4)), (Segment(1, "liver"),))
    turned = reoriented(labels, "IPL")
    assert turned.array.shape == (3, 2, 1)
    assert turned.segments == labels.segments
    assert int(turned.mask("liver").sum()) == 3


@pytest.mark.parametrize("code", ["", "RA", "RAR", "RLS", "XYZ", "RASI"])
def test_an_impossible_orientation_is_refused(code: str) -> None:
    with pytest.raises(ParameterError, match="one letter each of R/L, A/P and S/I"):
        preprocess(scan(np.eye(4)), "reorient", orientation=code)


def test_small_letters_are_understood() -> None:
    assert preprocess(scan(np.eye(4)), "reorient", orientation="lps").geometry.orientation == "LPS"

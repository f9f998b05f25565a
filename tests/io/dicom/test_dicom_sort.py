from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_series import numbered_volume
from scipy.spatial.transform import Rotation

from medseg.io.dicom.find import find_series
from medseg.io.dicom.header import SliceHeader
from medseg.io.dicom.series import write_series
from medseg.io.dicom.sort import is_sound_orientation, is_sound_position, is_sound_spacing, measure_stack, position_groups, stack_affine


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SliceHeader:
    folder = tmp_path_factory.mktemp("template") / "series"
    write_series(numbered_volume((4, 4, 2)), folder, seed="sort")
    return find_series(folder)[0].slices[0]


def _stack(template: SliceHeader, positions: np.ndarray, axes: np.ndarray) -> list[SliceHeader]:
    orientation = tuple(float(x) for x in axes[:, :2].T.ravel())
    return [replace(template, position=tuple(float(x) for x in point), orientation=orientation) for point in positions]


@settings(max_examples=60, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    gap=st.floats(0.3, 12),
    tilt=st.floats(-35, 35),
    count=st.integers(2, 30),
    seed=st.integers(0, 1 << 30),
)
def test_order_gap_tilt_and_affine_of_any_stack(template: SliceHeader, angles, gap: float, tilt: float, count: int, seed: int) -> None:
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    random = np.random.default_rng(seed)
    start = random.uniform(-300, 300, 3)
    step = gap * (axes[:, 2] + np.tan(np.radians(tilt)) * axes[:, 1])
    positions = start + np.arange(count)[:, None] * step
    shuffled = random.permutation(count)
    slices = _stack(template, positions[shuffled], axes)
    stack = measure_stack(slices)
    assert [int(shuffled[i]) for i in stack.order] == list(range(count))
    np.testing.assert_allclose(stack.gaps_mm, gap, atol=1e-9)
    np.testing.assert_allclose(stack.tilt_degrees, abs(tilt), atol=1e-4)
    assert max(stack.bend_mm) < 1e-9
    affine = stack_affine([slices[i] for i in stack.order])
    flip = np.diag([-1, -1, 1])
    rows, columns = template.pixel_spacing or (0, 0)
    np.testing.assert_allclose(affine[:3, 0], flip @ axes[:, 0] * columns, atol=1e-9)
    np.testing.assert_allclose(affine[:3, 1], flip @ axes[:, 1] * rows, atol=1e-9)
    np.testing.assert_allclose(affine[:3, 2], flip @ step, atol=1e-9)
    np.testing.assert_allclose(affine[:3, 3], flip @ start, atol=1e-9)
    # the volume of a voxel is that of the tilted box, base times height, whatever the tilt
    np.testing.assert_allclose(abs(np.linalg.det(affine[:3, :3])), rows * columns * gap, rtol=1e-9)


def test_slices_at_one_position_are_grouped(template: SliceHeader) -> None:
    axes = np.eye(3)
    z = [0, 2.5, 2.505, 5, 7.5, 7.5]
    groups = position_groups(_stack(template, np.array([[0, 0, value] for value in z]), axes))
    assert groups == [[0], [1, 2], [3], [4, 5]]


def test_uneven_gaps_of_a_tilted_stack_are_no_bend_across(template: SliceHeader) -> None:
    step = np.array([0, 0.3, 1.0])
    positions = np.array([0, 1, 2.2, 5, 6])[:, None] * step
    across, along = measure_stack(_stack(template, positions, np.eye(3))).bend_mm
    assert across < 1e-12
    assert along == pytest.approx(0.8)  # even places are 0, 1.5, 3, 4.5, 6


def test_one_slice_shifted_sideways_is_a_bend(template: SliceHeader) -> None:
    positions = np.array([[0, 0, k] for k in range(5)], dtype=float)
    positions[2, 0] = 3.0
    assert measure_stack(_stack(template, positions, np.eye(3))).bend_mm[0] == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("orientation", "is_sound"),
    [
        ((1, 0, 0, 0, 1, 0), True),
        ((0.99905, 0.0436194, 0, -0.0436194, 0.99905, 0), True),
        ((1, 0, 0, 0.01, 1, 0), False),
        ((1, 0, 0, 0, 1.01, 0), False),
        ((0, 0, 0, 0, 0, 0), False),
        ((1, 0, 0, 0, float("nan"), 0), False),
        ((1, 0, 0), False),
        (None, False),
    ],
)
def test_orientations(orientation, is_sound: bool) -> None:
    assert is_sound_orientation(orientation) is is_sound


def test_positions_and_spacings() -> None:
    assert is_sound_position((0, 1, 2))
    assert not is_sound_position((0, 1))
    assert not is_sound_position((0, 1, float("inf")))
    assert is_sound_spacing((0.5, 0.7))
    for bad in ((0, 1), (-1, 1), (1,), (float("nan"), 1), None):
        assert not is_sound_spacing(bad)


def test_real_tilted_stack(shared_data: Path) -> None:
    slices = find_series(shared_data / "dicom_ct_gantry_tilt_phantom")[0].slices
    stack = measure_stack(slices)
    assert stack.tilt_degrees == pytest.approx(18.5, abs=0.01)
    expected = [746.4368, 748.8076, 751.1784, 753.5492, 755.92, 758.2908, 760.6616, 763.0324, 765.4032, 767.7741, 770.1449]
    np.testing.assert_allclose(stack.positions_mm[:11], expected, atol=2e-4)

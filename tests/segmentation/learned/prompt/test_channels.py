"""What the click network is shown."""

from __future__ import annotations

import numpy as np
import pytest

from medseg.segmentation.learned.prompt.channels import CHANNELS, RegionPrompts, make_channels, scale_intensities


def _scene() -> np.ndarray:
    """Two equal bright balls in the dark, with some noise."""
    k, j, i = np.meshgrid(*(np.arange(32),) * 3, indexing="ij")
    image = np.random.default_rng(0).normal(0, 3, (32, 32, 32))
    for centre in ((16, 16, 8), (16, 16, 24)):
        image[(k - centre[0]) ** 2 + (j - centre[1]) ** 2 + (i - centre[2]) ** 2 < 36] += 100
    return image.astype(np.float32)


def test_a_click_marks_its_place_and_what_is_reached_from_it() -> None:
    """The spot is 1 at the click; the ball of the click is near, its twin far although it looks the same."""
    channels = make_channels(_scene(), RegionPrompts(np.array([[16.0, 16, 8]])))
    assert channels.shape == (len(CHANNELS), 32, 32, 32)
    assert channels[2, 16, 16, 8] == 1
    assert np.unravel_index(channels[2].argmax(), (32, 32, 32)) == (16, 16, 8)
    assert channels[4, 16, 16, 11] > 0.5 > channels[4, 16, 16, 24]
    assert abs(channels[1, 16, 16, 24]) < 0.9 < abs(channels[1, 16, 16, 16])
    assert not channels[[3, 5, 6, 7]].any()


def test_outside_clicks_boxes_and_masks_have_channels_of_their_own() -> None:
    """An outside click fills 3 and 5, boxes (several, cut at the region) 6, a previous mask 7 as -1 to 1."""
    boxes = np.array([[[2.0, 3, 4], [5, 6, 7]], [[28.0, 28, 28], [40, 40, 40]]])
    previous = np.zeros((32, 32, 32), np.float32)
    previous[16, 16, 8] = 1
    prompts = RegionPrompts(np.array([[16.0, 16, 8]]), np.array([[16.0, 16, 24]]), boxes, previous)
    channels = make_channels(_scene(), prompts)
    assert channels[3, 16, 16, 24] == 1
    assert channels[5, 16, 16, 22] > 0.5 > channels[5, 16, 16, 8]
    assert channels[6].sum() == 4**3 + 4**3
    assert channels[6, 2:6, 3:7, 4:8].all()
    assert channels[7, 16, 16, 8] == 1
    assert channels[7].min() == -1


@pytest.mark.parametrize("prompts", [{"boxes": np.array([[[10.0, 10, 2], [22, 22, 14]]])}, {"previous": None}])
def test_without_clicks_the_middle_of_the_box_or_mask_gives_the_contrast(prompts: dict[str, np.ndarray]) -> None:
    """Channel 4 is filled from the middle, but no click is drawn."""
    if "previous" in prompts:
        mask = np.zeros((32, 32, 32), np.float32)
        mask[14:19, 14:19, 6:11] = 1
        prompts = {"previous": mask}
    channels = make_channels(_scene(), RegionPrompts(**prompts))
    assert channels[4, 16, 16, 8] > 0.5 > channels[4, 16, 16, 24]
    assert not channels[2].any()


def test_scale_and_shift_of_the_intensities_change_nothing() -> None:
    """CT numbers and the arbitrary units of MR look alike."""
    prompts = RegionPrompts(np.array([[16.0, 16, 8]]), np.array([[3.0, 3, 3]]))
    np.testing.assert_allclose(make_channels(_scene() * 7 + 300, prompts), make_channels(_scene(), prompts), atol=2e-3)


def test_one_intensity_gives_finite_channels() -> None:
    """A region of one value (air, padding) is no error."""
    flat = np.full((16, 16, 16), -1000, np.float32)
    assert not scale_intensities(flat).any()
    assert np.isfinite(make_channels(flat, RegionPrompts(np.array([[8.0, 8, 8]])))).all()


def test_a_click_beyond_the_region_is_left_out() -> None:
    """It can say nothing about what is not shown."""
    channels = make_channels(_scene(), RegionPrompts(np.array([[16.0, 16, 8], [90.0, 0, 0]])))
    assert np.array_equal(channels, make_channels(_scene(), RegionPrompts(np.array([[16.0, 16, 8]]))))

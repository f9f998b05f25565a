"""Pictures with a palette: the colours that Pillow reads back are those that were given, or the nearest there are."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from medseg.reporting.palette_png import coded_png, empty_picture, indexed_png

NONE = np.zeros((0, 3), np.float32)


def _read(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_few_colours_come_back_as_they_were() -> None:
    random = np.random.default_rng(1)
    colours = random.integers(0, 32, (60, 3)) * 8 + 3  # each in a bin of its own
    colours = colours[np.ptp(colours, axis=1) >= 8]
    picture = colours[random.integers(0, len(colours), (40, 70))].astype(np.float32)
    np.testing.assert_array_equal(_read(indexed_png(picture, 16, NONE, {})), picture)


def test_greys_are_rounded_to_the_levels_there_are() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.float32), 3).reshape(1, 256, 3)
    for greys in (7, 32, 200):
        found = _read(indexed_png(ramp, greys, NONE, {}))
        assert len(np.unique(found)) == greys
        assert np.abs(found - ramp).max() <= 255 / (greys - 1) / 2 + 0.5


def test_kept_colours_are_in_the_palette_however_few_pixels_have_them() -> None:
    random = np.random.default_rng(2)
    picture = random.uniform(0, 255, (120, 120, 3)).astype(np.float32)
    kept = np.array([(255, 70, 58), (3, 250, 9)], np.float32)
    picture[5, 7], picture[50, 60] = kept
    found = _read(indexed_png(picture, 16, kept, {}))
    np.testing.assert_array_equal(found[[5, 50], [7, 60]], kept)


def test_more_colours_than_a_palette_has_get_the_nearest_entry() -> None:
    random = np.random.default_rng(3)
    picture = random.uniform(0, 255, (150, 150, 3)).astype(np.float32)
    image = Image.open(io.BytesIO(indexed_png(picture, 8, NONE, {})))
    palette = np.array(image.getpalette()).reshape(-1, 3).astype(float)
    assert len(palette) == 256
    best = np.sqrt(((picture[:, :, None] - palette) ** 2).sum(axis=-1).min(axis=2))
    given = np.sqrt(((picture - palette[np.asarray(image)]) ** 2).sum(axis=-1))
    # The nearest to the mean of a bin of 8 levels a channel: no farther from a pixel of it than the bin is wide
    assert (given <= best + 2 * np.sqrt(3) * 8).all()
    assert np.mean(given - best) < 3


def test_an_enlarged_picture_is_linear_between_its_pixels() -> None:
    small = np.zeros((2, 2, 3), np.float32)
    small[:, 1] = 200
    coded = empty_picture(40, 40, np.array([(10, 13, 18)], np.float32))
    coded.paint(small, 0, 40)
    line = coded.codes[20].astype(int)  # codes of grey are the levels
    assert line[:10].tolist() == [0] * 10
    assert line[30:].tolist() == [200] * 10
    np.testing.assert_allclose(line[10:30], 200 * (np.arange(20) + 0.5) / 20, atol=0.51)


def test_a_picture_that_is_too_large_gets_fewer_greys() -> None:
    random = np.random.default_rng(4)
    grey = np.repeat(random.uniform(0, 255, (100, 200, 1)), 3, axis=2).astype(np.float32)
    coded = empty_picture(100, 200, np.array([(10, 13, 18)], np.float32))
    coded.paint(grey, 0, 200)
    free, tight = coded_png(coded, (32, 10, 4), {}), coded_png(coded, (32, 10, 4), {}, 10_500)
    assert len(np.unique(_read(free))) == 32
    # Noise of 32, 10 and 4 levels has 5, 3.3 and 2 bits a pixel: 12 500, 8 300 and 5 000 bytes
    assert len(tight) <= 10_500 < len(free)
    assert len(np.unique(_read(tight))) == 10
    assert len(np.unique(_read(coded_png(coded, (32, 10, 4), {}, 100)))) == 4, "the smallest there is"

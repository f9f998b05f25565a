"""The Bland-Altman figure shows the points and the limits, in both formats, on every scale, and the same each time."""

from __future__ import annotations

import io

import numpy as np
import pytest

from medseg.evaluation.agreement import agreement
from medseg.reporting.agreement_figure import agreement_png, agreement_svg
from medseg.reporting.agreement_text import agreement_sentences

mpl_image = pytest.importorskip("matplotlib.image")


def example(scale="absolute", count=30, noise=5.0):
    rng = np.random.default_rng(0)
    return agreement(rng.uniform(50, 300, (count, 1)) + rng.normal(0, noise, (count, 2)), readers=("A", "B"), scale=scale)


@pytest.mark.parametrize("scale", ["absolute", "percent", "log"])
def test_a_picture_of_each_scale(scale):
    (one,) = example(scale).comparisons
    picture = mpl_image.imread(io.BytesIO(agreement_png(one, "volume (ml)", "liver", dpi=100)))
    assert picture.shape[:2] == (420, 630)
    dark = (picture[..., :3].max(axis=2) < 0.45).mean()
    assert 0.005 < dark < 0.2  # points and text, and not a black page
    svg = agreement_svg(one, "volume (ml)", "liver")
    assert svg.startswith("<?xml")
    assert svg.count("<use") > 30
    assert svg == agreement_svg(one, "volume (ml)", "liver")


@pytest.mark.parametrize(("count", "noise"), [(3, 5.0), (400, 5.0), (10, 0.0)])
def test_few_many_and_perfect_points(count, noise):
    (one,) = example(count=count, noise=noise).comparisons
    assert agreement_png(one, "volume", dpi=50).startswith(b"\x89PNG")


def test_undefined_figures_are_left_out_of_the_sentences():
    text = agreement_sentences(agreement(np.full((4, 2), 0.0)))
    assert "ICC" not in text
    assert "CV" not in text
    assert "nan" not in text.lower()
    assert "None" not in text
    assert "The repeatability coefficient (1.96 √2 within-subject SD) was 0.00" in text

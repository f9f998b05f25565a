"""RECIST 1.1 by worked examples: thresholds, nadir, the 5 mm rule, nodes, new lesions, what cannot be evaluated."""

from __future__ import annotations

import pytest

from medseg.core.errors import ParameterError
from medseg.measurement.recist import VOLUMETRIC, Around, Candidate, Target, choose_targets, responses


def one(base: float, *sizes: float | None, is_node: bool = False, reasons=()) -> Target:
    return Target("L1", "liver", is_node, base, sizes, reasons)


def overall(target: Target, *around: Around) -> list[str]:
    return [r.overall for r in responses([target], around or [Around()] * len(target.sizes))]


@pytest.mark.parametrize(
    ("base", "size", "category"),
    [
        (50.0, 35.0, "PR"),  # exactly 30 % less
        (50.0, 35.1, "SD"),
        (50.0, 60.0, "PD"),  # exactly 20 % more, and 10 mm
        (50.0, 59.9, "SD"),
        (20.0, 24.9, "SD"),  # 24.5 % more, but 4.9 mm only
        (20.0, 25.0, "PD"),
        (50.0, 0.0, "CR"),
    ],
)
def test_the_limits(base, size, category):
    assert overall(one(base, size)) == [category]


def test_progression_is_counted_from_the_smallest_sum():
    """50 → 20 → 26: 48 % below base, but 30 % and 6 mm above the nadir."""
    first, second = responses([one(50.0, 20.0, 26.0)], [Around(), Around()])
    assert (first.overall, second.overall) == ("PR", "PD")
    assert second.nadir == 20.0
    assert second.change_from_base_percent == pytest.approx(-48.0)
    assert (second.change_from_nadir_percent, second.change_from_nadir) == pytest.approx((30.0, 6.0))


def test_the_base_sum_counts_as_nadir_too():
    (response,) = responses([one(50.0, 61.0)], [Around()])
    assert (response.nadir, response.overall) == (50.0, "PD")


def test_a_lesion_that_comes_back_is_progression():
    assert overall(one(12.0, 0.0, 4.0)) == ["CR", "PD"]


def test_a_node_is_normal_below_10_mm():
    assert overall(one(18.0, 9.9, is_node=True)) == ["CR"]
    assert overall(one(18.0, 12.0, is_node=True)) == ["PR"]
    assert overall(one(18.0, 10.0, is_node=False)) == ["PR"]


def test_a_new_lesion_is_progression_whatever_the_sum():
    (response,) = responses([one(50.0, 10.0)], [Around(new=("L9",))])
    assert (response.target, response.overall, response.new_lesions) == ("PR", "PD", ("L9",))


def test_other_lesions_stand_in_the_way_of_a_complete_response():
    assert overall(one(12.0, 0.0), Around(present=("n",))) == ["PR"]
    assert overall(one(12.0, 0.0), Around(gone=("n",))) == ["CR"]
    assert overall(one(12.0, 0.0), Around(unseen=("n",))) == ["PR"]
    assert overall(one(50.0, 50.0), Around(present=("n",))) == ["SD"]


def test_a_target_that_cannot_be_seen_leaves_the_sum_open():
    targets = [one(30.0, None, reasons=("cut by the border",)), Target("L2", "lung", False, 20.0, (20.0,))]
    (response,) = responses(targets, [Around()])
    assert (response.overall, response.sum, response.change_from_base_percent) == ("NE", None, None)
    assert response.reasons == ("L1: cut by the border",)


def test_the_rest_alone_can_be_progressive():
    targets = [one(10.0, None, reasons=("cut",)), Target("L2", "lung", False, 20.0, (40.0,))]
    (response,) = responses(targets, [Around()])
    assert response.overall == "PD"
    assert response.sum is None


def test_no_target_at_all():
    assert [r.overall for r in responses([], [Around(present=("a",)), Around(gone=("a",)), Around(new=("b",)), Around()])] == [
        "non-CR/non-PD",
        "CR",
        "PD",
        "none",
    ]


@pytest.mark.parametrize(("base", "size", "category"), [(10.0, 6.5, "PR"), (10.0, 6.6, "SD"), (10.0, 15.5, "PD"), (10.0, 15.4, "SD")])
def test_the_volumetric_limits(base, size, category):
    (response,) = responses([one(base, size)], [Around()], VOLUMETRIC)
    assert response.overall == category


def test_a_small_volume_of_a_node_is_no_complete_response():
    (response,) = responses([one(3.0, 0.5, is_node=True)], [Around()], VOLUMETRIC)
    assert response.overall == "PR"


def candidates() -> list[Candidate]:
    sizes = {"a": ("liver", 40.0), "b": ("liver", 35.0), "c": ("liver", 30.0), "d": ("lung", 20.0), "e": ("lung", 18.0)}
    listed = [Candidate(name, organ, False, size, True) for name, (organ, size) in sizes.items()]
    return [*listed, Candidate("f", "brain", False, 12.0, True), Candidate("g", "bone", False, 60.0, False)]


def test_targets_are_the_largest_two_an_organ_and_five_in_all():
    assert [target.id for target in choose_targets(candidates())] == ["a", "b", "d", "e", "f"]
    assert [target.id for target in choose_targets(candidates(), ["f", "c"])] == ["f", "c"]


@pytest.mark.parametrize(("wanted", "words"), [(["z"], "no lesion 'z'"), (["g"], "not measurable"), (["a", "b", "c"], "3 lie in liver")])
def test_impossible_targets_are_refused(wanted, words):
    with pytest.raises(ParameterError, match=words):
        choose_targets(candidates(), wanted)

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.core.errors import ModelNotFoundError
from medseg.segmentation.learned.store.card import card_of, is_non_commercial


@pytest.mark.parametrize(
    "licence",
    [
        "CC-BY-NC-4.0",
        "CC BY-NC-SA 4.0",
        "cc-by-nc",
        "Non-commercial research licence",
        "noncommercial",
        "for research use only",
        "academic only",
    ],
)
def test_licences_without_commercial_use_are_told(licence: str) -> None:
    assert is_non_commercial(licence)


@pytest.mark.parametrize("licence", ["Apache-2.0", "CC-BY-SA-4.0", "CC0-1.0", "ENCODE", "unknown", "BSD-3-Clause", "CC-BY-4.0 (SYNC)"])
def test_other_licences_are_not(licence: str) -> None:
    assert not is_non_commercial(licence)


def test_the_card_of_a_built_in_model_says_it_all() -> None:
    card = card_of("ct-phantom")
    assert card.identity.kind == "medseg"
    assert len(card.segments) == 9
    assert card.bytes == (card.folder / "weights.safetensors").stat().st_size
    assert card.training["validation"]["dice_mean"]["liver"] > 0.9
    assert card.non_commercial == ()
    json.dumps(card.to_dict(), allow_nan=False)


def test_cards_of_other_kinds_come_from_their_folders(sound: dict[str, Path]) -> None:
    card = card_of(sound["nnunet"] / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    assert (card.identity.kind, [segment.label for segment in card.segments]) == ("nnunet", ["liver", "spleen"])
    assert card_of(sound["bundle"]).identity.kind == "monai-bundle"
    with pytest.raises(ModelNotFoundError):
        card_of("nowhere")


def test_non_commercial_weights_are_in_the_card(make_model: Callable[..., Path]) -> None:
    folder = make_model(licence={"code": "Apache-2.0", "weights": "CC-BY-NC-4.0", "data": "unknown"})
    assert card_of(folder).non_commercial == ("weights",)

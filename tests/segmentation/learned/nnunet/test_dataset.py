from __future__ import annotations

from typing import Any

import pytest

from medseg.core.errors import IncompatibleModelError
from medseg.segmentation.learned.nnunet.dataset import modality_of, parse_dataset, parse_labels


def test_labels_by_number() -> None:
    labels = parse_labels({"background": 0, "b": 2, "a": 1}, None)
    assert dict(labels.names) == {1: "a", 2: "b"}
    assert labels.heads == 3
    assert labels.foreground == (1, 2)


def test_the_ignore_label_is_no_channel() -> None:
    labels = parse_labels({"background": 0, "a": 1, "ignore": 2}, None)
    assert labels.heads == 2
    assert labels.ignore == 2
    assert 2 not in labels.names


def test_regions_are_named_by_what_stays_of_them() -> None:
    regions = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    labels = parse_labels(regions, [1, 2, 3])
    assert labels.heads == 3
    assert labels.region_order == (1, 2, 3)
    assert dict(labels.names) == {1: "whole tumor without tumor core", 2: "tumor core without enhancing tumor", 3: "enhancing tumor"}


@pytest.mark.parametrize(
    ("labels", "order", "words"),
    [
        ({"0": "background", "1": "liver"}, None, "v1"),
        ({"background": 0, "a": 2}, None, "without a gap"),
        ({"background": 0, "a": 1, "b": 1}, None, "share label 1"),
        ({"background": 0, "a": 1, "ignore": 5}, None, "ignore label must be 2"),
        ({"background": 0, "a": -1}, None, "no number"),
        ({"background": 0, "a": 1.5}, None, "no number"),
        ({"background": 0}, None, "no structure"),
        ({"background": 0, "a": [1, 2], "b": 2}, [1], "one number for each of the 2 regions"),
        ({"background": 0, "a": [1, 2], "b": 2}, None, "regions_class_order"),
        ({}, None, "no usable"),
        ([], None, "no usable"),
    ],
)
def test_faults_are_named(labels: Any, order: Any, words: str) -> None:
    with pytest.raises(IncompatibleModelError, match=words):
        parse_labels(labels, order)


def test_channels_must_be_numbered(dataset: dict[str, Any]) -> None:
    with pytest.raises(IncompatibleModelError, match="not numbered"):
        parse_dataset(dataset | {"channel_names": {"1": "CT"}})


@pytest.mark.parametrize(
    ("channel", "modality"),
    [("CT", "CT"), ("T1_gd", "MR"), ("FLAIR", "MR"), ("MRI", "MR"), ("PET", "PT"), ("noNorm", ""), ("contrast", "")],
)
def test_modality_of_a_channel(channel: str, modality: str) -> None:
    assert modality_of(channel) == modality

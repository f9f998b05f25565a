"""The record of a run."""

from __future__ import annotations

import io

import numpy as np
import pytest

pytest.importorskip("torch")

from medseg.training.logs import TrainingLog, read_log
from medseg.training.pictures import patch_pictures, side_by_side_png


def row(step: int, loss: float = 0.5) -> dict[str, object]:
    return {"step": step, "loss": loss, "learning_rate": 0.1, "seconds": "1.0"}


def test_rows_after_the_step_a_run_resumes_at_are_dropped(tmp_path):
    with TrainingLog(tmp_path, 0) as log:
        for step in (1, 2, 3, 4):
            log.add(row(step))
    with (tmp_path / "log.csv").open("a") as stream:
        stream.write("5,0.2")  # a line cut off by a kill
    with TrainingLog(tmp_path, 2) as log:
        log.add(row(3, 0.25))
    rows = read_log(tmp_path)
    assert [entry["step"] for entry in rows] == ["1", "2", "3"]
    assert rows[2]["loss"] == "0.25"


def test_a_process_that_does_not_write_writes_nothing(tmp_path):
    with TrainingLog(tmp_path, 0, writes=False) as log:
        log.add(row(1))
        log.pictures([np.zeros((4, 4, 3), np.uint8)], ["a"], 1)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_figures(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TrainingLog(tmp_path, 0) as log:
        log.add(row(1, 0.75))
        log.add(row(2) | {"validation_dice": 0.9})
    events = accumulators.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert events.Scalars("loss")[0].value == 0.75
    assert [(event.step, round(event.value, 6)) for event in events.Scalars("validation_dice")] == [(2, 0.9)]


def test_a_picture_shows_reference_and_prediction_in_their_places(tmp_path):
    pytest.importorskip("matplotlib")
    image = np.random.default_rng(0).normal(size=(6, 20, 16)).astype(np.float32)
    labels, found = np.zeros((2, 6, 20, 16), np.uint8)
    labels[3, 4:10, 4:12] = 1
    found[3, 4:10, 4:12] = 1
    found[3, 15:18, 2:6] = 1
    pictures = patch_pictures(image, labels, found, (2.0, 1.0, 1.0), ("organ",))
    assert pictures[0].shape == pictures[1].shape
    differs = (pictures[0] != pictures[1]).any(axis=2)
    height, width = differs.shape
    rows, columns = np.nonzero(differs)
    # only the false piece differs; its place on the page is seen from the front: patient right at the left, anterior above
    assert np.ptp(rows) < height * 6 / 20
    assert np.ptp(columns) < width * 7 / 16
    png = side_by_side_png(pictures, ("reference", "prediction"))
    assert png is not None
    from matplotlib.image import imread

    assert imread(io.BytesIO(png)).shape[1] == 2 * width + 8
    assert height > 300

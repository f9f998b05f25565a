"""The record of a run: log.csv, pictures, TensorBoard events where it is installed."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.io.atomic import write_bytes, write_text
from medseg.training.pictures import side_by_side_png

LOG_FILE = "log.csv"
COLUMNS = ("step", "loss", "learning_rate", "validation_dice", "seconds")


class TrainingLog:
    """Rows of a fold's log.csv and its TensorBoard events; rows beyond the step a run resumes at are dropped."""

    def __init__(self, folder: Path, step: int, *, writes: bool = True) -> None:
        self._folder, self._path = folder, folder / LOG_FILE
        self._writes = writes
        self._events: Any = None
        if not writes:
            return
        kept = [row for row in read_log(folder) if int(row["step"]) <= step] if step else []
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        write_text(self._path, text.getvalue(), overwrite=True)
        self._events = _event_writer(folder / "events", step)

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row; what it lacks stays empty."""
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8", newline="") as stream:
            csv.DictWriter(stream, COLUMNS, lineterminator="\n", restval="").writerow(row)
        if self._events is not None:
            for name in COLUMNS[1:-1]:
                if row.get(name) is not None:
                    self._events.add_scalar(name, float(row[name]), int(row["step"]))

    def pictures(self, pictures: Sequence[npt.NDArray[np.uint8]], captions: Sequence[str], step: int) -> None:
        """Keep pictures of one size beside each other as pictures/step_N.png, and in TensorBoard."""
        if not self._writes:
            return
        content = side_by_side_png(pictures, captions)
        if content is not None:
            write_bytes(self._folder / "pictures" / f"step_{step:07d}.png", content, overwrite=True)
        if self._events is not None:
            self._events.add_image("validation", np.concatenate(list(pictures), axis=1), step, dataformats="HWC")

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._events is not None:
            self._events.close()


def read_log(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a fold's log.csv, none where there is no such file; a line cut off by a kill is left out."""
    path = folder / LOG_FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if row.get("seconds") and str(row["step"]).isdigit()]


def _event_writer(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    try:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
    except ImportError:
        return None  # the log.csv holds the same figures
    return writer(str(folder), purge_step=step + 1)

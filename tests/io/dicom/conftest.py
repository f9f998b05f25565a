"""Small DICOM series made for a test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_series import Edit, edit_files, numbered_volume

from medseg.core.volume import Volume
from medseg.io.dicom.series import write_series


@pytest.fixture
def make_series(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a volume as a series and lets each file be edited; it returns the folder."""

    def make(volume: Volume | None = None, edit: Edit | None = None, name: str = "series", seed: str = "test", **options: object) -> Path:
        folder = tmp_path / name
        files = write_series(volume or numbered_volume(), folder, seed=seed, **options)
        if edit is not None:
            edit_files(list(files), edit)
        return folder

    return make

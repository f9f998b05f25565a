from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from medseg.core.errors import UnreadableFileError
from medseg.io.hashing import sha256_of


def test_one_file_has_its_plain_digest(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == sha256_of([tmp_path / "a"]) == hashlib.sha256(content).hexdigest()


def test_several_files_count_by_content_not_by_name_or_order(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1"), ("d", b"3")):
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert sha256_of([a, b]) == sha256_of([b, c])
    assert len({sha256_of([a, b]), sha256_of([a, d]), sha256_of([a, b, c]), sha256_of(a)}) == 4


def test_a_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="not there"):
        sha256_of(tmp_path / "a")

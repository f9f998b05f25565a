"""`--trust-bundle SHA256`: the only way in which a bundle's own code runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from medseg.core.errors import ChecksumError, UnsafeModelError
from medseg.core.volume import Volume
from medseg.segmentation.learned.bundle.model import open_bundle
from medseg.segmentation.learned.bundle.trust import bundle_sha256
from medseg.segmentation.learned.trained import Request


def _with_code(bundles: ModuleType, folder: Path) -> Path:
    """A bundle that clips by a lambda what the plain one clips by name, and leaves a file behind when it does."""
    bundles.write_bundle(folder, bundles.spleen())
    entries = bundles.spleen()
    transforms = entries["preprocessing"]["transforms"]
    index = next(n for n, part in enumerate(transforms) if part["_target_"] == "ScaleIntensityRanged")
    transforms[index] = {"_target_": "Lambdad", "keys": "image", "func": "$__import__('scripts.scale', fromlist=['scale']).scale"}
    (folder / "scripts").mkdir()
    (folder / "scripts" / "__init__.py").write_text("")
    (folder / "scripts" / "scale.py").write_text(
        "from monai.transforms import ScaleIntensityRange\n\n\ndef scale(x):\n    open('ran', 'w').close()\n"
        "    return ScaleIntensityRange(-57, 164, 0, 1, clip=True)(x)\n"
    )
    (folder / "configs" / "inference.json").write_text(json.dumps(entries))
    return folder


def test_only_the_hash_of_the_folder_runs_code(bundles: ModuleType, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hash, or with another, nothing runs; with it the labels are those of the same bundle written as data."""
    monkeypatch.chdir(tmp_path)
    folder = _with_code(bundles, tmp_path / "bundle")
    plain = bundles.write_bundle(tmp_path / "plain", bundles.spleen())
    with pytest.raises(UnsafeModelError, match=r"scripts\.scale"):
        open_bundle(folder)
    with pytest.raises(ChecksumError, match="not the one that is trusted"):
        open_bundle(folder, "0" * 64)
    assert not (tmp_path / "ran").exists()
    digest = bundle_sha256(folder)
    trusted = open_bundle(folder, digest)
    outcome = trusted.segment((scan,), Request(device="cpu"))
    assert (tmp_path / "ran").exists()
    assert np.array_equal(outcome.labels, open_bundle(plain).segment((scan,), Request(device="cpu")).labels)
    assert [segment.label for segment in outcome.segments] == ["structure 1"]
    assert digest in outcome.record["notes"][-1]
    assert bundle_sha256(folder) == digest


def test_a_bundle_that_is_data_needs_no_trust(bundles: ModuleType, tmp_path: Path) -> None:
    """With its hash a plain bundle is read as data all the same."""
    folder = bundles.write_bundle(tmp_path / "bundle", "spleen")
    assert open_bundle(folder, bundle_sha256(folder)).notes == ()


def test_the_hash_covers_names_and_contents(tmp_path: Path) -> None:
    """A changed byte, a renamed and a new file change the hash; links have none."""
    folder = tmp_path / "bundle"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "x").write_bytes(b"12")
    (folder / "b").write_bytes(b"3")
    seen = {bundle_sha256(folder)}
    (folder / "b").write_bytes(b"4")
    seen.add(bundle_sha256(folder))
    (folder / "b").rename(folder / "c")
    seen.add(bundle_sha256(folder))
    (folder / ".hidden").write_bytes(b"")
    seen.add(bundle_sha256(folder))
    assert len(seen) == 4
    (folder / "link").symlink_to(folder / "c")
    with pytest.raises(UnsafeModelError, match="link"):
        bundle_sha256(folder)

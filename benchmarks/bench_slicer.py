"""The Slicer extension over slicer-core and the stand-ins of the tests: how long a user waits, and what Slicer's memory grows by.

Run it with the Python of the Slicer tests (slicer-core, PySide6): `QT_QPA_PLATFORM=offscreen python benchmarks/bench_slicer.py`.
Times: the module's panel and the effects' panels; a click until the lesion is shown, and Apply until it is in the segment, in
Slicer's own process and in MedSeg's; a step of the live slider; 100 labels into the scene in one call.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from inputs import block_labels, load_ct

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = ROOT / "slicer_extension"
SPACING_MM = (0.75, 0.75, 1.0)
FULL, SMALL = (300, 512, 512), (64, 96, 96)
LESION_MM = 9.0

sys.path[:0] = [str(ROOT / "tests" / "slicer"), str(EXTENSION / "MedSeg"), str(EXTENSION / "SegmentEditorMedSeg")]


def resident_mb() -> float:
    """Memory of this process that is in use."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


class Figures:
    """Named times, printed as a table."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.megabytes: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)

    def show(self) -> None:
        print("| what | first s | median s |\n|---|---|---|")
        for name, times in self.seconds.items():
            print(f"| {name} | {times[0]:.3f} | {statistics.median(times):.3f} |")
        print("\n| memory of Slicer's process | MB |\n|---|---|")
        for name, amount in self.megabytes.items():
            print(f"| {name} | {amount:.0f} |")


def with_lesions(ct: np.ndarray, rounds: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """The CT with a round lesion for each round, and their middles (i,j,k)."""
    image, middles = ct.copy(), []
    shape = np.array(ct.shape)
    for number in range(rounds + 1):
        k, j, i = (shape * (0.35 + 0.3 * number / (rounds + 1), 0.5, 0.42)).astype(int)
        reach = [int(np.ceil(LESION_MM / step)) + 1 for step in SPACING_MM[::-1]]
        box = tuple(slice(max(at - far, 0), at + far + 1) for at, far in zip((k, j, i), reach, strict=True))
        away = [
            (np.arange(part.start, min(part.stop, size)) - at) * step
            for part, size, at, step in zip(box, shape, (k, j, i), SPACING_MM[::-1], strict=True)
        ]
        inside = away[0][:, None, None] ** 2 + away[1][None, :, None] ** 2 + away[2][None, None, :] ** 2 <= LESION_MM**2
        noise = np.random.default_rng(number).normal(0, 8, inside.shape)
        image[box] = np.where(inside, 140 + noise, np.clip(image[box], -20, 60)).astype(np.int16)
        middles.append((int(i), int(j), int(k)))
    return image, middles


def volume_of(array: np.ndarray, name: str = "CT") -> Any:
    import slicer

    matrix = np.diag([-SPACING_MM[0], -SPACING_MM[1], SPACING_MM[2], 1.0])
    node = slicer.util.addVolumeFromArray(array, matrix, name)
    node.SetAttribute("MedSeg.Modality", "CT")
    return node


def wait(condition: Callable[[], bool]) -> None:
    import slicer

    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("nothing came within two minutes")
        slicer.app.processEvents()
        time.sleep(0.0005)


def panels(figures: Figures) -> None:
    """The module's widget, and an editor with the five effects."""
    import slicer

    manager = slicer.app.moduleManager()
    with figures.timed("module MedSeg: load"):
        module = manager.load(EXTENSION / "MedSeg" / "MedSeg.py")
    with figures.timed("module MedSeg: panel set up and entered"):
        module.widgetRepresentation().enter()
    with figures.timed("effects: loaded and registered"):
        manager.load(EXTENSION / "SegmentEditorMedSeg" / "SegmentEditorMedSeg.py")
        slicer.app.startupCompleted.emit()


def editor_of(volume: Any) -> tuple[Any, Any]:
    import slicer
    from standins.effect_host import EffectHost

    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "lesions")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    segment = segmentation.GetSegmentation().AddEmptySegment("lesion", "lesion")
    return EffectHost(volume, segmentation, segment), segmentation


def clicks(figures: Figures, volume: Any, middles: list[tuple[int, int, int]], where: str) -> None:
    """Click after click: until it is shown, and until it is in the segment."""
    from MedSegLib import nodes

    matrix = nodes.ijkToWorld(volume)
    with figures.timed(f"editor with five effects: set up, {where}"):
        host, _segmentation = editor_of(volume)
    effect = host.activate("MedSegClickLesion")
    before = 0.0
    for number, middle in enumerate(middles):
        if number == 1:  # the packages have been imported by the first click
            before = resident_mb()
        point = (matrix @ (*middle, 1.0))[:3].tolist()
        with figures.timed(f"click-lesion, {where}: click until applied"):
            with figures.timed(f"click-lesion, {where}: click until shown"):
                effect.clicked(point)
                wait(lambda: not effect.isRunning)
            if not effect.preview.isShown:
                raise SystemExit(f"no lesion was found: {effect.message.text}")
            effect.onApply()
    figures.megabytes[f"growth by {len(middles) - 1} further clicks, {where}"] = resident_mb() - before
    host.close()


def in_process(answer: bool) -> None:
    """Let the effects' work be done in this process, or in MedSeg's."""
    from SegmentEditorMedSegLib import effect_runner

    effect_runner.canRunInProcess = lambda: answer


def use_worker() -> None:
    from MedSegLib.session import Session

    from medseg.slicer_bridge.client import Worker

    Session.discard()
    Session._instance = Session(lambda *_session: Worker([sys.executable, "-m", "medseg.slicer_bridge.worker"]))


def slider(figures: Figures, volume: Any, middle: tuple[int, int, int]) -> None:
    """All regions of a click in one pass, then steps of the slider."""
    from MedSegLib import nodes

    host, _segmentation = editor_of(volume)
    effect = host.activate("MedSegGrow")
    effect.scriptedEffect.setParameter("Guard", "0")
    with figures.timed("grow: click until all regions are known"):
        effect.clicked((nodes.ijkToWorld(volume) @ (*middle, 1.0))[:3].tolist())
        wait(lambda: not effect.isRunning)
    low, high = effect.nested.smallest, effect.nested.largest
    for limit in np.linspace(low, high, 12):
        with figures.timed("grow: a step of the live slider"):
            effect.onSlider(float(limit))
    host.close()


def hundred_labels(figures: Figures, volume: Any, labels: np.ndarray, folder: Path) -> None:
    """100 labels into a new segmentation in one call, as a result of the worker comes in."""
    import slicer
    from MedSegLib import nodes

    path = folder / "labels.npy"
    np.save(path, labels)
    k, j, i = labels.shape
    ref = {
        "array": str(path),
        "extent": [0, i - 1, 0, j - 1, 0, k - 1],
        "shape": [k, j, i],
        "ijk_to_ras": nodes.ijkToRas(volume).tolist(),
        "segments": [{"number": number, "label": f"structure {number}"} for number in range(1, int(labels.max()) + 1)],
    }
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    before = resident_mb()
    with figures.timed(f"import of {int(labels.max())} labels in one call"):
        nodes.importLabels(ref, node, volume)
    figures.megabytes[f"growth by the import (the label map has {labels.nbytes / 2**20:.0f} MB)"] = resident_mb() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a small volume, to try the benchmark itself")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    import standins

    standins.install()
    import slicer.util  # noqa: F401 - the application imports it at its start

    figures = Figures()
    panels(figures)
    ct = load_ct(options.data, SMALL if options.small else FULL)
    image, middles = with_lesions(ct, options.rounds)
    volume = volume_of(image)
    in_process(True)
    clicks(figures, volume, middles, "in Slicer's process")
    in_process(False)
    use_worker()
    clicks(figures, volume, middles, "in MedSeg's process")
    slider(figures, volume, middles[0])
    with tempfile.TemporaryDirectory() as folder:
        hundred_labels(figures, volume, block_labels(image), Path(folder))
    from MedSegLib.session import Session

    Session.discard()
    figures.show()
    if options.out:
        options.out.write_text(json.dumps({"seconds": figures.seconds, "megabytes": figures.megabytes}, indent=1))


if __name__ == "__main__":
    main()

"""Every fault of the catalogue through medseg's own reader: right, right with its warning, or refused by name.

C loads within 0.5 % of the organ's volume with left on the left; W does so and says what is odd; R raises the named error. Every
explicit way on gives the volume it promises and is recorded.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from medseg.cli.phantom_faults import write_fault
from medseg.core import errors
from medseg.core.finding import Severity
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.read import read, read_label_map
from medseg.measurement.measure import measure
from medseg.phantom.faults import FAULTS, ROWS, Action, Fault, FaultyScan, Kind
from medseg.phantom.faults.score import TOLERANCE_PERCENT, error_percent, marker_off_mm, measure_organ
from medseg.preprocessing.resample import resample_label_map

MARKER_MM = 4.0  # half a slice and the marker's median, with room for a cut organ
SCANS = {name: fault for name, fault in FAULTS.items() if fault.kind is Kind.SCAN}
REFUSED = {name: fault for name, fault in SCANS.items() if fault.action is Action.REFUSE}
LOADED = {name: fault for name, fault in SCANS.items() if fault.action is not Action.REFUSE and not fault.may_ask}
ASKED = {name: fault for name, fault in SCANS.items() if fault.may_ask}
WAYS_ON = [(name, n) for name, fault in SCANS.items() for n in range(len(fault.options))]


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """Faults that several tests read, written once."""
    folder = tmp_path_factory.mktemp("faults")
    yield {"folder": folder}
    shutil.rmtree(folder)


@pytest.fixture
def written(tmp_path, kept):
    """Write a fault and return what is true of it and the path a reader opens; most are gone after their test, they are large."""

    def write(fault: Fault):
        if fault.needs == "codecs":
            pytest.importorskip("imagecodecs", reason="only imagecodecs encodes these files: pip install 'medseg[codecs]'")
        if not fault.options:
            return write_fault(fault, tmp_path)
        if fault.name not in kept:
            kept[fault.name] = write_fault(fault, kept["folder"] / fault.name)
        return kept[fault.name]

    yield write
    shutil.rmtree(tmp_path / "scan", ignore_errors=True)


def check_organ(volume: Volume, scan: FaultyScan, truths_ml=None) -> None:
    answer = measure_organ(volume.array, volume.geometry.affine, scan.above)
    error = error_percent(answer.volume_ml, truths_ml or scan.volumes_ml)
    assert abs(error) <= TOLERANCE_PERCENT, f"the organ is {error:+.2f} % off"
    off = marker_off_mm(answer, scan)
    assert off is None or off <= MARKER_MM, f"the marker is {off:.1f} mm off its place"


def codes_of(error: errors.MedsegError) -> str:
    """All that an error names: its findings and its message."""
    return " ".join([*(finding.code for finding in getattr(error, "findings", ())), str(error)])


def test_every_row_of_the_catalogue_has_a_fault():
    assert {fault.row for fault in FAULTS.values()} == set(ROWS)
    wanted = {str(n) for n in range(1, 37)} | {f"N{n}" for n in range(1, 16)} | {"L1", "L2"}
    assert wanted <= set(ROWS)


def test_every_fault_is_tested_here():
    others = {name for name, fault in FAULTS.items() if fault.kind is not Kind.SCAN}
    assert set(REFUSED) | set(LOADED) | set(ASKED) | others == set(FAULTS)


@pytest.mark.parametrize("name", LOADED)
def test_is_loaded_and_right(name, written):
    fault = FAULTS[name]
    scan, path = written(fault)
    volume = read(path)
    if not fault.warning:
        check_organ(volume, scan)
    found = {finding.code: finding.severity for finding in volume.findings}
    assert Severity.ERROR not in found.values()
    if fault.codes:
        named = [found[code] for code in fault.codes if code in found]
        assert named, f"none of {fault.codes} among {sorted(found)}"
        assert fault.action is Action.CORRECT or Severity.WARNING in named, "a warning is asked for, not a note"
    if not fault.warning:
        organ = LabelMap((volume.array > scan.above).astype(np.uint8), volume.geometry, (Segment(1, "organ"),))
        status = measure(organ)["organ", "volume"].status.value
        assert status == ("cut_by_field_of_view" if scan.is_cut else "measured")


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_by_name(name, written):
    fault = FAULTS[name]
    _, path = written(fault)
    with pytest.raises(getattr(errors, fault.error)) as caught:
        read(path)
    assert not fault.codes or any(code in codes_of(caught.value) for code in fault.codes), codes_of(caught.value)
    assert "PHANTOM^MEDSEG" not in str(caught.value)


@pytest.mark.parametrize("name", ASKED)
def test_is_asked_about_or_split_never_mixed(name, written):
    fault = FAULTS[name]
    scan, path = written(fault)
    try:
        volume = read(path)
    except getattr(errors, fault.error) as err:
        named = codes_of(err)
    else:
        check_organ(volume, scan)
        named = " ".join(finding.code for finding in volume.findings)
    assert not fault.codes or any(code in named for code in fault.codes), named


@pytest.mark.parametrize(("name", "way"), WAYS_ON, ids=[f"{name}-{way}" for name, way in WAYS_ON])
def test_ways_on_are_right_and_recorded(name, way, written):
    fault = FAULTS[name]
    option = fault.options[way]
    scan, path = written(fault)
    volume = read(path, **option.choice)
    check_organ(volume, scan, [option.volume_ml])
    found = {finding.code for finding in volume.findings}
    assert not option.codes or found & set(option.codes), f"none of {option.codes} among {sorted(found)}"


def test_labels_stored_as_floats_are_rounded(written):
    scan, path = written(FAULTS["labels-as-floats"])
    label_map = read_label_map(path)
    assert [segment.number for segment in label_map.segments] == [2]
    row = measure(label_map)[label_map.segments[0].label, "volume"]
    assert abs(error_percent(row.value, scan.volumes_ml)) <= TOLERANCE_PERCENT


def test_probabilities_are_no_labels(written):
    _, path = written(FAULTS["labels-are-probabilities"])
    with pytest.raises(errors.SegmentError, match="not labels"):
        read_label_map(path)


def test_labels_on_another_grid_are_refused_until_resampled(written):
    scan, path = written(FAULTS["labels-on-another-grid"])
    label_map, volume = read_label_map(path), read(path.with_name(scan.scan_entry))
    with pytest.raises(errors.GeometryMismatchError, match=r"1\.000 mm"):
        measure(label_map, volume)
    on_grid = resample_label_map(label_map, volume.geometry)
    row = measure(on_grid, volume)[on_grid.segments[0].label, "volume"]
    assert abs(error_percent(row.value, scan.volumes_ml)) <= TOLERANCE_PERCENT

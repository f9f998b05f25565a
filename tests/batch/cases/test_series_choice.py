"""What is taken of each study, and the reason of each other series, with and without a table of cases."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_studies import STUDY, write_object, write_slices

from medseg.batch.cases.case_files import write_linkage
from medseg.batch.cases.find_cases import find_cases
from medseg.batch.cases.scan import NOT_LISTED, NOT_SELECTED, REFUSED, Wanted
from medseg.batch.cases.scan_store import ScanStore
from medseg.batch.cases.series_choice import COPIES, LOCALIZER, NOT_CHOSEN, OTHER_MODALITY, SEVERAL_PATIENTS, decide
from medseg.batch.cases.series_rules import parse_selection
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.io.dicom.glance import FIELDS, DicomGlance, SeriesFields
from medseg.io.write import write

MR = OTHER_MODALITY.format("MR", "CT")


def series(store: ScanStore, uid: str, slices: int = 9, spacing_mm: float = 1.0, *, study: str = "1", sop: str = "", **more: Any) -> None:
    """Add a series as a scan would have met it, without any file."""
    texts = dict.fromkeys(FIELDS, "") | {"ImageType": "ORIGINAL\\PRIMARY", "SeriesNumber": uid.rsplit(".", 1)[-1]} | more.pop("texts", {})
    known: dict[str, Any] = {"modality": "CT", "patient_id": "P", "sop_class_uid": "", "object_kind": "", "samples": 1}
    fields = SeriesFields(texts, uid, study, rows=6, columns=8, normal=(0.0, 0.0, 1.0), **(known | more))
    for k in range(slices):
        name = f"{study}/{uid}_{k}".encode()
        store.add_dicom(name, DicomGlance(fields, f"{sop or uid}.{k + 1}", k * spacing_mm, k * spacing_mm, 1))


def decided(fill: Callable[[ScanStore], None], select: Iterable[str] = (), **wanted: frozenset[Any]) -> dict[str, str]:
    """The reason against each series by its UID, "" where it is a case."""
    store = ScanStore()
    fill(store)
    store.finish()
    decide(store, parse_selection([*select]), "CT", 4, Wanted(**wanted))
    found = {unit.series_uid: unit.reason for are_cases in (True, False) for unit, _ in store.units(are_cases)}
    store.close()
    return found


def mixed(store: ScanStore) -> None:
    """One study with one of everything."""
    series(store, "2.1", 9, 5.0, texts={"SeriesNumber": "3"})
    series(store, "2.2", 45, 1.0, texts={"SeriesNumber": "1"})
    series(store, "2.3", 90, 0.5, texts={"ImageType": "DERIVED\\PRIMARY", "SeriesNumber": "9"})
    series(store, "2.4", 30, 0.25, texts={"SeriesNumber": "4"})
    series(store, "2.5", texts={"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"})
    series(store, "2.6", modality="MR")
    series(store, "2.7", patient_id="P")
    series(store, "2.7", patient_id="Q")


@pytest.mark.parametrize(
    ("select", "taken"),
    [
        ((), "2.2"),
        (("best",), "2.2"),
        (("first",), "2.2"),
        (("last",), "2.3"),
        (("thinnest",), "2.4"),
        (("largest",), "2.3"),
        (("all",), "2.1 2.2 2.3 2.4"),
        (("best", "SeriesNumber>=3"), "2.1"),
        (("all", "Slices>=45"), "2.2 2.3"),
    ],
)
def test_each_choice_takes_what_it_says_and_every_other_series_has_its_reason(select: tuple[str, ...], taken: str) -> None:
    found = decided(mixed, select)
    assert [uid for uid, reason in found.items() if not reason] == sorted(taken.split(), key=[*found].index)
    assert {uid for uid, reason in found.items() if not reason} == set(taken.split())
    assert (found["2.5"], found["2.6"], found["2.7"]) == (LOCALIZER, MR, SEVERAL_PATIENTS)
    ruled_out = {"best": {"2.2"}, "all": {"2.1", "2.4"}}[select[0]] if len(select) == 2 else set()
    for uid in {"2.1", "2.2", "2.3", "2.4"} - set(taken.split()):
        assert found[uid] == (NOT_SELECTED if uid in ruled_out else NOT_CHOSEN), uid


def test_equal_series_are_told_apart_by_number_and_uid_in_whatever_order_they_were_met() -> None:
    for order in (("3.1", "3.2", "3.3"), ("3.3", "3.2", "3.1")):

        def alike(store: ScanStore, order: tuple[str, ...] = order) -> None:
            for uid in order:
                series(store, uid, texts={"SeriesNumber": {"3.1": "", "3.2": "7", "3.3": "7"}[uid]})

        assert decided(alike) == {"3.1": NOT_CHOSEN, "3.2": "", "3.3": NOT_CHOSEN}


def test_the_same_images_under_another_series_are_a_copy_with_a_table_too() -> None:
    def twice(store: ScanStore) -> None:
        series(store, "4.1")
        series(store, "4.2", sop="4.1")

    assert decided(twice, ["all"]) == {"4.1": "", "4.2": COPIES}
    table = {"paths": frozenset[bytes](), "series": frozenset({"4.1"}), "refused_series": frozenset({"4.2"})}
    assert decided(twice, ["all"], **table) == {"4.1": "", "4.2": COPIES}


@pytest.mark.parametrize(
    ("yes", "no", "expected"),
    [
        ("2.2", "2.1 2.3 2.4", {"2.1": NOT_CHOSEN, "2.2": "", "2.3": NOT_CHOSEN, "2.4": NOT_CHOSEN}),  # as the search chose
        ("", "2.1 2.2 2.3 2.4", {"2.1": NOT_CHOSEN, "2.2": REFUSED, "2.3": NOT_CHOSEN, "2.4": NOT_CHOSEN}),  # its choice is refused
        ("2.1", "2.2 2.3 2.4", {"2.1": "", "2.2": REFUSED, "2.3": NOT_CHOSEN, "2.4": NOT_CHOSEN}),  # another one instead
        ("2.1", "2.3", {"2.1": "", "2.2": NOT_LISTED, "2.3": NOT_CHOSEN, "2.4": NOT_CHOSEN}),
        ("", "", {"2.1": NOT_LISTED, "2.2": NOT_LISTED, "2.3": NOT_LISTED, "2.4": NOT_LISTED}),
        ("2.6", "2.5", {"2.6": "", "2.2": NOT_LISTED}),  # what is named runs, whatever the rules say
    ],
)
def test_a_table_is_the_reason_only_where_the_rules_would_have_run_a_series(yes: str, no: str, expected: dict[str, str]) -> None:
    found = decided(mixed, paths=frozenset(), series=frozenset(yes.split()), refused_series=frozenset(no.split()))
    own = {"2.5": LOCALIZER, "2.6": MR, "2.7": SEVERAL_PATIENTS}
    assert found == dict.fromkeys(("2.1", "2.3", "2.4"), NOT_CHOSEN) | own | expected


def test_of_a_wanted_folder_what_was_refused_before_the_one_that_runs_says_so() -> None:
    found = decided(mixed, refused_series=frozenset({"2.2", "2.3", "2.5"}))
    assert [found[uid] for uid in ("2.1", "2.2", "2.3", "2.4", "2.5")] == ["", REFUSED, NOT_CHOSEN, NOT_CHOSEN, LOCALIZER]
    found = decided(mixed, ["all"], refused_series=frozenset({"2.2", "2.3"}))
    assert [found[uid] for uid in ("2.1", "2.2", "2.3", "2.4")] == ["", REFUSED, REFUSED, ""]


def messy(folder: Path) -> Path:
    """Studies with one left out for each reason that there is without --select, beside three that run."""
    write_slices(folder / "a", f"{STUDY}.1", 5)
    write_slices(folder / "a", f"{STUDY}.2", 9)[3].write_bytes(b"broken")  # belongs to the case
    for number, (name, sop_class) in enumerate({"RTSTRUCT": "481.3", "SEG": "66.4", "SR": "88.33"}.items(), start=10):
        write_object(folder / "a" / f"{name}.dcm", f"1.2.840.10008.5.1.4.1.1.{sop_class}", name, f"{STUDY}.{number}")
    write_slices(folder / "thin", f"{STUDY}.3", 2, StudyInstanceUID="1.2.3")
    write_slices(folder / "mr", f"{STUDY}.4", 5, StudyInstanceUID="1.2.4", Modality="MR")[0].write_bytes(b"")
    write_slices(folder / "copy", f"{STUDY}.5", 9, StudyInstanceUID="1.2.5")
    write_slices(folder / "more" / "deep", f"{STUDY}.6", 9, StudyInstanceUID="1.2.6")
    (folder / "more" / "deep" / "closed").mkdir()
    (folder / "alone").mkdir()
    for name in ("1.dcm", "2.dcm"):
        (folder / "alone" / name).write_bytes(b"garbage")
    scan, mask = np.arange(7**3, dtype=np.int16).reshape(7, 7, 7), np.ones((7, 7, 7), np.uint8)
    for name in ("x.nii.gz", "y.nrrd"):
        write(Volume(scan, Geometry(scan.shape, np.eye(4)), "CT"), folder / name)
    write(LabelMap(mask, Geometry(mask.shape, np.eye(4)), (Segment(1, "liver"),)), folder / "mask.nii.gz")
    for name in ("one", "two"):
        fields = ("ObjectType = Image", "NDims = 3", "DimSize = 7 7 7", "ElementType = MET_SHORT", "ElementSpacing = 1 1 1")
        (folder / f"{name}.mhd").write_text("\n".join((*fields, f"ElementDataFile = {name}.raw\n")))
        (folder / f"{name}.raw").write_bytes(scan.tobytes())
    return folder


def test_a_table_given_back_says_what_the_search_said_and_one_no_more_adds_one(tmp_path: Path) -> None:
    folder, table = messy(tmp_path / "in"), tmp_path / "cases.csv"
    with find_cases(folder, modality="CT", salt=b"s") as found:
        write_linkage(table, found)
        before, cases = found.counts, [case.case_id for case in found.cases()]
    assert len(before["left_out"]) >= 7
    assert len(cases) == 8
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for edited in (None, *(k for k, row in enumerate(rows) if row["use"] == "yes")):
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(row | ({"use": "no"} if k == edited else {}) for k, row in enumerate(rows))
        with find_cases(folder, modality="CT", salt=b"s", listed=table) as found:
            more = {} if edited is None else {REFUSED: 1}
            assert Counter(found.counts["left_out"]) == Counter(before["left_out"]) + Counter(more), rows[edited or 0]
            assert found.counts["found"] == before["found"]
            assert [case.case_id for case in found.cases()] == [one for one in cases if edited is None or one != rows[edited]["case_id"]]


def test_a_closed_folder_that_the_table_says_no_to_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_slices(tmp_path / "in" / "a")
    (tmp_path / "in" / "b" / "closed").mkdir(parents=True)
    listing = os.scandir

    def refuse(path: Any) -> Any:
        if os.fsdecode(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with find_cases(tmp_path / "in", salt=b"s") as found:
        write_linkage(tmp_path / "t.csv", found)
        before = found.counts["left_out"]
    with find_cases(tmp_path / "in", salt=b"s", listed=tmp_path / "t.csv") as found:
        assert found.counts["left_out"] == before == {"a folder that cannot be opened": 1}

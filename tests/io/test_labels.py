from __future__ import annotations

import csv
from pathlib import Path

import pytest

from medseg.core.codes import ANATOMICAL_STRUCTURE, LEFT, Code
from medseg.core.errors import OutputVerificationError, SegmentError, UnreadableFileError
from medseg.core.label_map import LabelMap
from medseg.core.label_table import COLUMNS, label_table, segments_from_table
from medseg.core.segment import Segment
from medseg.io import labels
from medseg.io.label_xml import segments_from_xml
from medseg.io.labels import label_table_path, read_label_table, write_label_table


def test_segments_come_back_equal(organs: LabelMap, tmp_path: Path) -> None:
    path = write_label_table(organs.segments, tmp_path / "x.labels.csv")
    assert read_label_table(path) == organs.segments
    assert read_label_table(tmp_path / "missing.labels.csv") == ()


def test_the_columns_are_those_of_3d_slicer(organs: LabelMap) -> None:
    header, first, second, _ = csv.reader(label_table(organs.segments).splitlines())
    assert tuple(header) == COLUMNS
    assert header[:9] == ["LabelValue", "Name", "Color_R", "Color_G", "Color_B", "Color_A"] + [
        f"Category_{part}" for part in ("CodingScheme", "CodeValue", "CodeMeaning")
    ]
    assert header[9::3] == ["Type_CodingScheme", "TypeModifier_CodingScheme", "Region_CodingScheme", "RegionModifier_CodingScheme"]
    assert first == ["1", 'liver "whole"', "200", "100", "0", "255", *[""] * 15]
    assert second[6:15] == ["SCT", "123037004", "Anatomical Structure", "SCT", "64033007", "Kidney", "SCT", "7771000", "Left"]


def test_a_table_as_slicer_writes_it() -> None:
    text = (
        "LabelValue,Name,Color_R,Color_G,Color_B,Color_A,Category_CodingScheme,Category_CodeValue,Category_CodeMeaning,"
        "Type_CodingScheme,Type_CodeValue,Type_CodeMeaning,TypeModifier_CodingScheme,TypeModifier_CodeValue,TypeModifier_CodeMeaning\r\n"
        "0,background,0,0,0,0,,,,,,,,,\r\n"
        "3,left kidney,185,102,83,255,SCT,123037004,Anatomical Structure,SCT,64033007,Kidney,SCT,7771000,Left\r\n"
        "4,(none),0,0,0,0,,,,,,,,,\r\n"
    )
    (segment,) = segments_from_table("\ufeff" + text)
    assert segment == Segment(3, "left kidney", ANATOMICAL_STRUCTURE, Code("SCT", "64033007", "Kidney"), LEFT, colour=(185, 102, 83))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("number,name\n1,liver\n", "LabelValue and Name"),
        ("LabelValue,Name\none,liver\n", "line 2"),
        ("LabelValue,Name,Color_R,Color_G,Color_B\n1,liver,red,0,0\n", "line 2"),
        ("LabelValue,Name,Color_R,Color_G,Color_B\n1,liver,900,0,0\n", "colour"),
        ("LabelValue,Name\n-1,liver\n", "numbers begin at 1"),
    ],
)
def test_tables_that_make_no_sense_raise(text: str, words: str) -> None:
    with pytest.raises(SegmentError, match=words):
        segments_from_table(text, "x.labels.csv")


def test_short_rows_and_empty_tables() -> None:
    assert segments_from_table("") == segments_from_table("LabelValue,Name\n") == ()
    assert segments_from_table("LabelValue,Name,Color_R,Color_G,Color_B\n2,liver\n")[0].label == "liver"


def test_files_that_are_no_tables_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.labels.csv").write_bytes(b"LabelValue,Name\n1,\xff\xfe\n")
    with pytest.raises(UnreadableFileError, match="UTF-8"):
        read_label_table(tmp_path / "x.labels.csv")
    monkeypatch.setattr(labels, "_MOST_BYTES", 10)
    with pytest.raises(UnreadableFileError, match="too large"):
        read_label_table(tmp_path / "x.labels.csv")


def test_a_lost_row_is_noticed(organs: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "read_label_table", lambda path: organs.segments[:-1])
    with pytest.raises(OutputVerificationError):
        write_label_table(organs.segments, tmp_path / "x.labels.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.nii.gz", "a.NII", "a.nrrd", "a.seg.nrrd", "a.mha", "a"])
def test_the_table_lies_beside_the_image(name: str) -> None:
    assert label_table_path(Path("folder") / name) == Path("folder/a.labels.csv")
    assert label_table_path("a.b.nii").name == "a.b.labels.csv"


XML = (
    b'<?xml version="1.0" encoding="UTF-8"?> <CaretExtension><VolumeInformation Index="0"><LabelTable>'
    b'<Label Key="0" Red="0" Green="0" Blue="0" Alpha="0"><![CDATA[???]]></Label>'
    b'<Label Key="2" Red="0.0" Green="0.5" Blue="1.0" Alpha="1"><![CDATA[kidney_right]]></Label>'
    b'<Label Key="5" Red="x" Green="0.5" Blue="1.0" Alpha="1">liver</Label>'
    b'<Label Key="5" Red="0" Green="0" Blue="0" Alpha="1">again</Label>'
    b'<Label Key="seven">seven</Label><Label Key="8"></Label>'
    b"</LabelTable></VolumeInformation></CaretExtension>"
)


def test_names_from_a_nifti_header() -> None:
    kidney, liver = segments_from_xml(XML + b"\0\0\0")
    assert (kidney.number, kidney.label, kidney.rgb) == (2, "kidney_right", (0, 128, 255))
    assert (liver.number, liver.label, liver.colour) == (5, "liver", Segment(5, "liver").colour)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a comment",
        b"<LabelTable>",
        XML[:-5],
        XML.replace(b"UTF-8", b"no-such-encoding"),
        b'<!DOCTYPE lolz [<!ENTITY lol "lol">]>' + XML[XML.index(b"<Caret") :],
        b'<!doctype x SYSTEM "file:///etc/passwd">' + XML[XML.index(b"<Caret") :],
        XML + b" " * (1 << 22) + b"<!-- -->",
    ],
    ids=["empty", "text", "open", "cut", "encoding", "entity", "external", "large"],
)
def test_what_is_no_label_table_gives_no_names(data: bytes) -> None:
    assert segments_from_xml(data) == ()

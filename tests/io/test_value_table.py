"""Tables as people save them: separators, decimal commas, empty cells, statuses; and what is refused with a sentence."""

from __future__ import annotations

import pytest

from medseg.core.errors import InputError, UnreadableFileError
from medseg.io.value_table import read_values


@pytest.fixture
def table(tmp_path):
    def write(text, name="a.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
        return path

    return write


def test_a_table_of_measure(table):
    found = read_values(table("number,label,status,volume_ml\r\n1,liver,measured,1512.4\r\n2,spleen,absent,\r\n"))
    assert found.key == ("label",)
    assert found.values == {("liver",): 1512.4}
    assert found.left_out == {("spleen",): "status absent"}


@pytest.mark.parametrize(
    "text",
    [
        "\ufefflabel;volume_ml\nliver;1512,4\nspleen;0,25\n",
        "label\tvolume_ml\n\nliver\t1512.4\nspleen\t0.25\n",
        ' label , volume_ml \nliver,1512.4,\n"spleen","0.25"\n',
    ],
)
def test_separators_and_decimal_commas(table, text):
    assert read_values(table(text)).values == {("liver",): 1512.4, ("spleen",): 0.25}


def test_missing_values_are_left_out_and_named(table):
    found = read_values(table("label,volume_ml\na,\nb,NaN\nc,n/a\nd,0\n"))
    assert found.values == {("d",): 0.0}
    assert set(found.left_out) == {("a",), ("b",), ("c",)}


def test_a_status_may_be_let_in(table):
    path = table("label,status,volume_ml\nliver,cut_by_field_of_view,900\nspleen,measured,200\n")
    assert len(read_values(path, statuses=("measured", "cut_by_field_of_view")).values) == 2


def test_keys_of_cohorts_and_of_choice(table):
    path = table("case,label,visit,volume_ml\np1,liver,1,1500\np1,liver,2,1490\n")
    with pytest.raises(InputError, match=r"'p1 / liver' stands in lines 2 and 3; name more columns with --key"):
        read_values(path)
    assert read_values(path, key=("case", "visit")).values == {("p1", "1"): 1500.0, ("p1", "2"): 1490.0}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("label,volume_ml\n", "has a header but no rows"),
        ("liver,1512.4\nspleen,200\n", "has no header"),
        ("label,volume_mm3\nliver,1512400\n", "but 'volume_mm3': another unit"),
        ("label,mass_g\nliver,1512\n", "it has: label, mass_g"),
        ("name,volume_ml\nliver,1512\n", "say with --key"),
        ("label,volume_ml\nliver,big\n", "line 2: volume_ml is 'big', which is no number"),
        ("label,volume_ml\nliver,inf\n", "infinite"),
        ('label,volume_ml\nliver,"1,512.4"\n', "no number"),
        ("label;volume_ml\nliver;1,5\nspleen;2.5\n", "with a point and with a comma"),
        ("label,volume_ml\n,15\n", "nothing stands in label"),
        ("label,volume_ml\nliver,15,16\n", "3 cells under 2 columns"),
        ("label,label,volume_ml\nliver,liver,15\n", "stands twice in the header"),
    ],
)
def test_poor_tables_are_refused_with_a_sentence(table, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read_values(table(text))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe\x00l\x00a",
        b"PK\x03\x04\x00\x00\x00",
        b'label,volume_ml\n"liver,15\n',
        "label,volume_ml\nfö,1\n".encode("latin-1"),
    ],
)
def test_what_is_no_csv_is_unreadable(table, data):
    with pytest.raises(UnreadableFileError):
        read_values(table(data))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(UnreadableFileError, match="cannot be read"):
        read_values(tmp_path / "nowhere.csv")
    with pytest.raises(UnreadableFileError, match="is a folder"):
        read_values(tmp_path)

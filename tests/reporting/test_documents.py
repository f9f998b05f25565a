from __future__ import annotations

import json

import numpy as np
import pytest

from medseg.core.errors import UnreadableFileError
from medseg.core.finding import Finding, Severity
from medseg.core.provenance import InputRecord, Provenance, StepRecord
from medseg.measurement.measure import measure
from medseg.reporting.documents import findings_from_document, provenance_from_document, table_from_document


def _through_json(document):
    return json.loads(json.dumps(document, allow_nan=False))


def test_a_table_comes_back_as_it_was(grids, make_scene):
    """Every row, measured, cut and absent: the document of what is read is the document that was written."""
    volume, label_map = make_scene(grids["RAS"])
    cut = np.array(label_map.array)
    cut[0, :, :] = 3
    cut[cut == 4] = 0
    table = measure(label_map.with_array(cut), volume, percentiles=(50, 90))
    assert {row.status.value for row in table} == {"measured", "cut_by_field_of_view", "absent"}
    document = _through_json(table.to_dict())
    again = table_from_document(document)
    assert again.to_dict() == document
    assert again["liver", "volume"].interval == table["liver", "volume"].interval
    assert dict(again["liver", "volume"].parts) == dict(table["liver", "volume"].parts)


def test_provenance_and_findings_come_back():
    made = Provenance(
        {"medseg": "1"}, (InputRecord("scan", "dicom", "ab", 3, "1.2"),), (StepRecord("otsu", "segment", {"a": [1, 2]}, "x", 0.5),), seed=3
    )
    assert provenance_from_document(_through_json(made.to_dict() | {"findings": []})).to_dict() == _through_json(made.to_dict())
    finding = Finding("TILT", Severity.WARNING, "tilted", {"degrees": 3.5})
    assert findings_from_document({"findings": [_through_json(finding.to_dict()), {"code": "X"}, 7]}) == (finding,)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schema": "medseg.evaluate/1", "segments": []},
        {"schema": "medseg.measure/1"},
        {"schema": "medseg.measure/1", "segments": [{}]},
        {"schema": "medseg.measure/1", "segments": [{"number": 1, "label": "a", "status": "odd", "volume_ml": 1, "voxel_count": 1}]},
        {"schema": "medseg.measure/1", "segments": [{"number": 1, "label": "a", "status": "measured", "volume_ml": "x", "voxel_count": 1}]},
        {"schema": "medseg.measure/1", "segments": 7},
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_in_words(document):
    with pytest.raises(UnreadableFileError, match="measure"):
        table_from_document(document)


@pytest.mark.parametrize(
    "document", [{}, {"schema": "medseg.provenance/1"}, {"schema": "medseg.provenance/1", "versions": {}, "inputs": [{"x": 1}]}]
)
def test_what_is_no_provenance_is_refused_in_words(document):
    with pytest.raises(UnreadableFileError, match="provenance"):
        provenance_from_document(document)

"""From the files that a scan has met to cases and what was left out, study by study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from medseg.batch.cases.scan import CLOSED_FILE, CLOSED_FOLDER, NOT_LISTED, NOT_SELECTED, REFUSED, TOO_THIN, Wanted
from medseg.batch.cases.scan_store import ScanStore, Unit, decoded
from medseg.batch.cases.series_rules import Candidate, Selection
from medseg.batch.records.case import case_id_of
from medseg.io.dicom.glance import SeriesFields

NO_VOLUME = "no image: {}"
COPIES = "the same images are found again elsewhere"
LOCALIZER = "a localizer or scout"
SEVERAL_PATIENTS = "its files name different patients"
BROKEN_BESIDE = "a broken file beside series that were left out"
PICTURE = "a screenshot or scanned picture"
PROJECTION = "a projection or rendering, no slices"
COLOUR = "colour images, no intensities"
OTHER_MODALITY = "modality {}, not {}"
NOT_CHOSEN = "another series of the study was taken"

_PICTURES = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.77.")  # secondary capture, visible light
_PICTURE_TYPES = frozenset({"SCREEN SAVE", "SCREENSHOT", "SCREEN CAPTURE", "SCREEN_CAPTURE"})
_PROJECTIONS = frozenset(
    {"MIP", "MINIP", "MIN IP", "MAX IP", "MIN_IP", "MAX_IP", "PROJECTION", "MAXIMUM", "MINIMUM", "CSA MIP", "VRT", "VOLUME_RENDER", "SSD"}
)
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM"})
# PS3.3, C.7.3.1.1.1: what stands in Modality and is none of these words is nothing to be shown
_MODALITIES = frozenset({
    "ANN", "AR", "ASMT", "AU", "BDUS", "BI", "BMD", "CFM", "CR", "CT", "CTPROTOCOL", "DG", "DMS", "DOC", "DX", "ECG", "EEG", "EMG", "EOG",
    "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS", "M3D", "MG", "MR", "NM", "OAM", "OCT",
    "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT", "PA", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG",
    "RTDOSE", "RTIMAGE", "RTINTENT", "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF",
    "STAIN", "TEXTUREMAP", "TG", "US", "VA", "XA", "XAPROTOCOL", "XC",
})  # fmt: skip
_PROJECTED = "PROJECTION IMAGE"  # of a CT its localizer (PS3.3, C.8.15.3.1), of other modalities a projection of slices


@dataclass(frozen=True)
class _Part:
    """The files of a series that share their fields."""

    fields: SeriesFields
    files: int


@dataclass(frozen=True)
class _Found:
    """A series of one study: its parts, the largest first."""

    key: str
    parts: tuple[_Part, ...]
    slices: int
    low_mm: float
    high_mm: float
    broken_beside: int

    @property
    def fields(self) -> SeriesFields:
        return self.parts[0].fields


def decide(store: ScanStore, selection: Selection, modality: str, least_slices: int, wanted: Wanted) -> frozenset[str]:
    """Turn every series into a case or into what was left out, and put broken files beside the case they may belong to.

    Return which of the wanted series were met. Of a study that names several patients one series of each is chosen.

    Series that are wanted by their UID are cases whatever the rules say; then no other one of their study is chosen. What a table of
    cases refuses or does not name keeps the reason that a search has against it: the table is the reason only for a series that the
    rules would have run.
    """
    least = 1 if selection.names("Slices") else least_slices
    met: set[str] = set()
    for (study,) in store.database.cursor().execute("SELECT DISTINCT study FROM series ORDER BY study"):
        for found in _by_patient(list(_series_of(store, study))):
            reasons: dict[str, str] = {}
            candidates: list[Candidate] = []
            for one in found:
                texts = {**one.fields.texts, **_computed(store, one)}
                reasons[one.key] = _reason_against(one, modality, least) or ("" if selection.passes(texts) else NOT_SELECTED)
                if not reasons[one.key]:
                    candidates.append(_candidate(one, texts))
            _decide_study(store, found, reasons, candidates, selection, wanted)
            met |= {one.fields.series_uid for one in found} & wanted.series
    _place_broken(store, wanted)
    return frozenset(met)


def _by_patient(found: Sequence[_Found]) -> list[list[_Found]]:
    """Part the series of a study by their patients where a slip gave it to several; a series that names nobody is of the only one."""
    if len({one.fields.patient_id for one in found} - {""}) <= 1:
        return [list(found)]
    of_patient: dict[str, list[_Found]] = {}
    for one in found:
        of_patient.setdefault(one.fields.patient_id, []).append(one)
    return list(of_patient.values())


def _decide_study(
    store: ScanStore,
    found: Sequence[_Found],
    reasons: Mapping[str, str],
    candidates: Sequence[Candidate],
    selection: Selection,
    wanted: Wanted,
) -> None:
    """Take series of one study; `reasons` are those against each, "" for the candidates."""
    words = {one.key: _word_of_table(store, one, wanted) for one in found}
    named = {one.key for one in found if one.fields.series_uid in wanted.series and not one.fields.object_kind}
    allowed = set() if named else {one.key for one in candidates if not words[one.key]}
    taken = named or {one.key for one in selection.choose([one for one in candidates if one.key in allowed])}
    preferred = _preferred(candidates, allowed, selection)
    is_decided = bool(taken) or any(words[key] == REFUSED for key in preferred)
    for one in found:
        if one.key in taken:
            _take(store, one)
    for one in found:
        if one.key in taken:
            continue
        reason = reasons[one.key]
        if not reason and words[one.key] and (one.key in preferred or not is_decided):
            reason = COPIES if store.holds_case(_case_id(store, one)) else words[one.key]
        _leave_out(store, one, reason or NOT_CHOSEN)


def _preferred(candidates: Sequence[Candidate], allowed: Set[str], selection: Selection) -> set[str]:
    """Which series the rules would have run but for the table: the best, and so on down to one that is allowed, if any is."""
    pool, found = list(candidates), set[str]()
    while strange := {one.key for one in selection.choose(pool)} - allowed:
        found |= strange
        pool = [one for one in pool if one.key not in strange]
        if not allowed:
            break
    return found


def _word_of_table(store: ScanStore, one: _Found, wanted: Wanted) -> str:
    """Why the table of cases leaves a series out, "" where it does not."""
    if _is_refused(store, one, wanted):
        return REFUSED
    return "" if one.fields.series_uid in wanted.series or _is_listed(store, one, wanted) else NOT_LISTED


def _is_listed(store: ScanStore, one: _Found, wanted: Wanted) -> bool:
    return b"" in wanted.paths or any(map(wanted.holds, _paths(store, one.key)))


def _is_refused(store: ScanStore, one: _Found, wanted: Wanted) -> bool:
    if one.fields.series_uid in wanted.refused_series:
        return True
    return bool(wanted.refused) and all(map(wanted.refuses, _paths(store, one.key)))


def _series_of(store: ScanStore, study: str) -> Iterator[_Found]:
    query = "SELECT key FROM series WHERE study = ? ORDER BY key"
    for (key,) in store.database.execute(query, (study,)).fetchall():
        parts = [
            _Part(store.fields(number), count)
            for number, count in store.database.execute("SELECT fields, COUNT(*) FROM dicom WHERE key = ? GROUP BY fields", (key,))
        ]
        usable = [part for part in parts if not _is_localizer(part.fields)] or parts
        parts = sorted(usable, key=lambda part: (-part.files, sorted(part.fields.texts.items())))
        low, high = store.database.execute("SELECT MIN(low), MAX(high) FROM dicom WHERE key = ?", (key,)).fetchone()
        (broken,) = store.database.execute(_BROKEN_BESIDE, (key,)).fetchone()
        yield _Found(key, tuple(parts), _slices(store, key, usable), _nan(low), _nan(high), broken)


_BROKEN_BESIDE = """SELECT COUNT(*) FROM broken WHERE what IN ('broken', 'closed')
    AND folder IN (SELECT DISTINCT folder FROM dicom WHERE key = ?)"""


def _slices(store: ScanStore, key: str, parts: list[_Part]) -> int:
    """How many different positions a series has; files that name none count as they are."""
    query = """SELECT fields, COALESCE(ROUND(low, 2), path) AS place, MAX(slices) FROM dicom WHERE key = ? GROUP BY place"""
    usable = {id(part.fields) for part in parts}
    return sum(slices for number, _, slices in store.database.execute(query, (key,)) if id(store.fields(number)) in usable)


def _reason_against(one: _Found, modality: str, least_slices: int) -> str:
    """Why a series holds no scan that could be run, "" where it does."""
    fields = one.fields
    if fields.object_kind:
        return NO_VOLUME.format(fields.object_kind)
    kinds = set(fields.image_type)
    # a broken file beside it may be one of its slices: reading says so
    is_thin = one.slices > 0 and one.slices + one.broken_beside < least_slices
    is_other = modality and fields.modality and fields.modality.upper() != modality.upper()
    is_projected = _PROJECTED in kinds and fields.modality != "CT"
    is_picture = fields.sop_class_uid == _PICTURES[0] or fields.sop_class_uid.startswith(_PICTURES[1]) or kinds & _PICTURE_TYPES
    reasons = (
        (LOCALIZER, _is_localizer(fields) and not is_projected),
        (SEVERAL_PATIENTS, len({part.fields.patient_id for part in one.parts if part.fields.patient_id}) > 1),
        (PICTURE, is_picture),
        (PROJECTION, is_projected or kinds & _PROJECTIONS),
        (COLOUR, fields.samples != 1),
        (OTHER_MODALITY.format(_modality(fields) or "unknown", modality), is_other),
        (TOO_THIN.format(least_slices), is_thin),
    )
    return next((reason for reason, holds in reasons if holds), "")


def _is_localizer(fields: SeriesFields) -> bool:
    return bool(_LOCALIZERS & set(fields.image_type)) or _PROJECTED in fields.image_type


def _modality(fields: SeriesFields) -> str:
    """A modality as it may be shown."""
    return fields.modality.upper() if fields.modality.upper() in _MODALITIES else ""


def _computed(store: ScanStore, one: _Found) -> dict[str, str]:
    spacing = _spacing(one)
    (path,) = store.database.execute("SELECT MIN(path) FROM dicom WHERE key = ?", (one.key,)).fetchone()
    return {
        "Rows": str(one.fields.rows),
        "Columns": str(one.fields.columns),
        "Slices": str(one.slices or ""),
        "SpacingMm": "" if math.isnan(spacing) else f"{spacing:.4g}",
        "CoverageMm": "" if math.isnan(one.high_mm - one.low_mm) else f"{one.high_mm - one.low_mm:.6g}",
        "Kind": "DICOM",
        "Path": decoded(path),
    }


def _spacing(one: _Found) -> float:
    """The usual distance of slices; their thickness where they do not say where they lie."""
    if one.slices > 1 and one.high_mm > one.low_mm:
        return (one.high_mm - one.low_mm) / (one.slices - 1)
    return _number(one.fields.texts["SliceThickness"])


def _candidate(one: _Found, texts: dict[str, str]) -> Candidate:
    fields = one.fields
    return Candidate(
        key=one.key,
        texts=texts,
        is_derived=bool({"DERIVED", "SECONDARY"} & set(fields.image_type[:2])),
        axial=abs(fields.normal[2]) if fields.normal else 0.0,
        slices=one.slices,
        coverage_mm=one.high_mm - one.low_mm,
        spacing_mm=_spacing(one),
        series_number=_number(texts["SeriesNumber"]),
        series_uid=fields.series_uid,
    )


def _take(store: ScanStore, one: _Found) -> None:
    case_id = _case_id(store, one)
    if store.holds_case(case_id):
        _leave_out(store, one, COPIES)
        return
    store.add_unit(_unit(one, case_id, ""), _paths(store, one.key))


def _case_id(store: ScanStore, one: _Found) -> str:
    rows = store.database.execute("SELECT DISTINCT sop FROM dicom WHERE key = ?", (one.key,)).fetchall()
    uids = [uid for (uid,) in rows]
    if "" in uids:  # a file without a sound UID of its own is known by its path
        uids = [decoded(path) for path in _paths(store, one.key)]
    return case_id_of(uids)


def _leave_out(store: ScanStore, one: _Found, reason: str) -> None:
    store.add_unit(_unit(one, "", reason), _paths(store, one.key))


def _unit(one: _Found, case_id: str, reason: str) -> Unit:
    fields = one.fields
    return Unit("DICOM", case_id, reason, _modality(fields), fields.series_uid, fields.study_uid, fields.patient_id, one.slices)


def _paths(store: ScanStore, key: str) -> list[bytes]:
    return [path for (path,) in store.database.execute("SELECT path FROM dicom WHERE key = ? ORDER BY path", (key,))]


# of images only: their keys begin with a bar
_UNITS_IN_FOLDER = """SELECT DISTINCT units.id, units.case_id, units.reason FROM dicom JOIN unit_files ON unit_files.path = dicom.path
    JOIN units ON units.id = unit_files.unit WHERE dicom.folder = ? AND dicom.key LIKE '|%' AND (? OR dicom.suffix = ?)"""


def _place_broken(store: ScanStore, wanted: Wanted) -> None:
    """Give broken files to the cases in their folder; where there is no series at all they are a case themselves, which then fails."""
    rows = store.database.cursor().execute("SELECT folder, path, suffix, what FROM broken ORDER BY folder, path")
    for folder, group in itertools.groupby(rows, key=lambda row: bytes(row[0])):
        alone: dict[str, list[bytes]] = {}
        for _, path, suffix, what in group:
            if not _place_beside(store, folder, path, suffix, what):
                reason = REFUSED if wanted.refuses(path) else "" if wanted.holds(path) else NOT_LISTED
                alone.setdefault(reason, []).append(path)
        for reason, paths in sorted(alone.items()):
            store.add_unit(Unit("DICOM", "" if reason else case_id_of(map(decoded, paths)), reason), paths)


def _place_beside(store: ScanStore, folder: bytes, path: bytes, suffix: str, what: str) -> bool:
    """Put one file where it belongs; False where it can only be a case of its own."""
    if what == "data":
        if not store.holds_file(path):
            store.add_passed("data of another file")
        return True
    # an empty file without a telling name belongs to a series only where it is named as its files are
    units = store.database.execute(_UNITS_IN_FOLDER, (folder, what != "empty", suffix)).fetchall()
    # what would be a case but for the table keeps its broken files, so that a "no" leaves out one thing and not two
    cases = [number for number, case_id, reason in units if case_id or reason == REFUSED]
    for number in cases:
        store.add_unit_files(number, [path])
    if cases:
        return True
    if what == "empty":
        store.add_passed("empty file")
    elif what == "folder":
        store.add_unit(Unit("", reason=CLOSED_FOLDER), [path])
    elif units or what == "closed":
        store.add_unit(Unit("DICOM" if units else "", reason=BROKEN_BESIDE if units else CLOSED_FILE), [path])
    else:
        return False
    return True


def _nan(number: float | None) -> float:
    return math.nan if number is None else float(number)


def _number(text: str) -> float:
    try:
        return float(text.split("\\", maxsplit=1)[0])
    except ValueError:
        return math.nan

"""One DICOM object without what names its patient (PS3.15, Annex E); pixels stay as they are."""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from medseg.io.dicom.deidentification.profile import SAFE_PRIVATE, Action, DeidOptions, action_for

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

SHORTEST_IDENTIFIER = 4  # shorter ones ("1", "M") stand in every file by chance
SHORTEST_NAME = 3
LONGEST_SHIFT_DAYS = 3650  # dates move back by up to ten years, all of one patient by the same number of days

_OWN_WORDS = frozenset({"removed", "anon"})  # what stands here in place of a name names nobody
_STANDARD_UIDS = "1.2.840.10008."  # classes, syntaxes and well-known frames of reference: they name no patient
_IDENTIFIERS = ("PatientID", "OtherPatientIDs", "AccessionNumber", "IssuerOfPatientID", "PatientTelephoneNumbers", "MilitaryRank")
_NAMES = ("PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName")
TEXT_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_DUMMIES: dict[str, Any] = {
    **dict.fromkeys(("LO", "LT", "SH", "ST", "UC", "UT"), "REMOVED"),
    **dict.fromkeys(("DS", "IS"), "0"),
    **dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0),
    "AE": "REMOVED",
    "AS": "000Y",
    "CS": "REMOVED",
    "DA": "19000101",
    "DT": "19000101000000",
    "PN": "REMOVED",
    "TM": "000000",
}


@dataclass(frozen=True)
class Pseudonyms:
    """New names for old ones, always the same for one key; without the key nobody can tell which belong together."""

    key: bytes

    def uid(self, old: str) -> str:
        """Return the UID that stands for another; those of the standard itself stay."""
        if old.startswith(_STANDARD_UIDS) or not old:
            return old
        return f"2.25.{int.from_bytes(self._digest('uid', old)[:15], 'big')}"

    def patient(self, patient: str) -> str:
        """Return what stands for a patient's name and identifier."""
        return f"ANON-{self._digest('patient', patient).hex()[:12].upper()}"

    def shift_days(self, patient: str) -> int:
        """Return by how many days a patient's dates move back."""
        return 1 + int.from_bytes(self._digest("dates", patient)[:4], "big") % LONGEST_SHIFT_DAYS

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.new(self.key, f"{kind}\0{text}".encode(), hashlib.sha256).digest()


@dataclass
class Treatment:
    """What is done to one object, and the count of attributes by action (for the report: tags, never values)."""

    options: DeidOptions
    pseudonyms: Pseudonyms
    patient: str
    counts: Counter[str] = field(default_factory=Counter)

    def apply(self, dataset: Dataset) -> None:
        """Treat every attribute of an object, those inside sequences too, in place."""
        identifiers = tuple(identifying_words(dataset))
        self._apply(dataset)
        self._scrub(dataset, identifiers)
        dataset.PatientID = dataset.PatientName = self.pseudonyms.patient(self.patient)
        _mark(dataset, self.options)

    def _apply(self, dataset: Dataset) -> None:
        for element in list(dataset):
            tag = int(element.tag)
            action = self._action(dataset, element)
            if element.VR == "SQ" and action in (Action.KEEP, Action.NEW_UID):
                for item in element.value:
                    self._apply(item)
                continue
            if action is not Action.KEEP:
                self.counts[action.name.lower()] += 1
            # an emptied sequence is not valid where one may be left out, which is almost everywhere
            if action is Action.REMOVE or (element.VR == "SQ" and action in (Action.EMPTY, Action.DUMMY)):
                del dataset[tag]
            elif action is not Action.KEEP:
                self._change(dataset, element, action)

    def _action(self, dataset: Dataset, element: DataElement) -> Action:
        tag = element.tag
        if tag.is_private:
            return Action.KEEP if self.options.retain_safe_private and is_safe_private(dataset, element) else Action.REMOVE
        # overlays and curves may be drawn text; group lengths are wrong after any change
        if tag.group & 0xFF00 in (0x5000, 0x6000) or tag.element == 0 or tag == 0xFFFCFFFC:
            return Action.REMOVE
        return action_for(int(tag), str(element.VR), self.options)

    def _change(self, dataset: Dataset, element: DataElement, action: Action) -> None:
        if action is Action.NEW_UID or (action is Action.DUMMY and element.VR == "UI"):
            new = self.pseudonyms.uid
            element.value = [new(str(one)) for one in element.value] if element.VM > 1 else new(str(element.value or ""))
        elif action is Action.SHIFT_DATE:
            element.value = self._shifted(element)
        elif action is Action.DUMMY and element.VR in _DUMMIES:
            element.value = _DUMMIES[str(element.VR)]
        else:
            element.value = None

    def _shifted(self, element: DataElement) -> Any:
        values = list(element.value) if element.VM > 1 else [element.value]
        days = timedelta(days=self.pseudonyms.shift_days(self.patient))
        moved = [_moved(str(value or ""), days) for value in values]
        return moved if element.VM > 1 else moved[0]

    def _scrub(self, dataset: Dataset, identifiers: tuple[str, ...]) -> None:
        """Empty every text that still holds one of the patient's identifiers, wherever it stands."""
        for element in walk(dataset):
            if element.VR in TEXT_VRS and holds_any(element, identifiers):
                element.value = None
                self.counts["scrubbed"] += 1


def identifying_words(dataset: Dataset) -> Iterator[str]:
    """Yield what names the patient of an object, in lower case: identifiers, parts of names."""
    for keyword in _IDENTIFIERS:
        value = dataset.get(keyword)
        many = value if isinstance(value, list) or type(value).__name__ == "MultiValue" else [value]
        for one in many:
            text = str(one or "").strip().lower()
            if len(text) >= SHORTEST_IDENTIFIER and text not in _OWN_WORDS:
                yield text
    for keyword in _NAMES:
        for part in str(dataset.get(keyword) or "").replace("=", "^").replace("\\", "^").split("^"):
            if len(part.strip()) >= SHORTEST_NAME and part.strip().lower() not in _OWN_WORDS:
                yield part.strip().lower()


def holds_any(element: DataElement, identifiers: tuple[str, ...]) -> bool:
    """Whether an attribute's text holds one of these words."""
    text = str(element.value or "").lower()
    return any(word in text for word in identifiers)


def walk(dataset: Dataset) -> Iterator[DataElement]:
    """Yield every attribute of an object, those inside sequences too."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from walk(item)
        else:
            yield element


def is_safe_private(dataset: Dataset, element: DataElement) -> bool:
    """Whether a private attribute is on the list of those that describe the picture alone, or names its maker's block."""
    tag = element.tag
    if tag.is_private_creator:
        return any(str(element.value) == creator and tag.group == group for creator, group in SAFE_PRIVATE)
    creator = dataset.get((tag.group, tag.element >> 8))
    known = SAFE_PRIVATE.get((str(creator.value) if creator is not None else "", tag.group), frozenset())
    return (tag.element & 0xFF) in known


def _moved(text: str, days: timedelta) -> str | None:
    """Return a date (or date and time) moved back, its precision kept; None for what is no date."""
    try:
        day = datetime.strptime(text[:8], "%Y%m%d")
    except ValueError:
        return None  # a year or month alone cannot be moved by days
    return (day - days).strftime("%Y%m%d") + text[8:]


def _mark(dataset: Dataset, options: DeidOptions) -> None:
    """Say in the object itself what was done to it (PS3.3, C.12.1.1.3.6)."""
    from pydicom.dataset import Dataset as Item

    items = []
    for value, meaning in options.methods():
        item = Item()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        items.append(item)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "medseg deid, PS3.15 Annex E, best effort"
    dataset.DeidentificationMethodCodeSequence = items
    dataset.LongitudinalTemporalInformationModified = {"removed": "REMOVED", "shifted": "MODIFIED", "full": "UNMODIFIED"}[options.dates]

"""What can be chosen in the panel, made from the worker's description: pipelines, models, methods, and what measures.

Pure Python: the list, its search and the values of parameters, without a widget.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from slicer.i18n import tr as _

# What the modality of a pipeline or model is called in a search
PROMPTED = ("click", "vista3d")  # networks that need clicks: those of the effects in the Segment Editor
_GROUP_ORDER = ("pipeline", "model", "segment", "postprocess", "measure")


@dataclass(frozen=True)
class Parameter:
    """One parameter as the worker describes it; `limits` has gt, ge, lt, le."""

    name: str
    kind: str
    description: str = ""
    unit: str = ""
    required: bool = False
    default: object = None
    isList: bool = False
    choices: tuple = ()
    limits: dict = field(default_factory=dict)

    @property
    def title(self):
        """The name for people: words, without the unit that stands beside the value."""
        return re.sub(r"_(mm3|mm2|mm|ml|percent|hu|voxels)$", "", self.name).replace("_", " ").capitalize()

    @property
    def shownUnit(self):
        """The unit beside a value, "" where there is none or it is that of the points."""
        return "" if self.unit in ("image", "mm RAS") else self.unit

    @property
    def help(self):
        """Description, limits and default in one text."""
        parts = [self.description]
        words = {"gt": _("above {0:g}"), "ge": _("at least {0:g}"), "lt": _("below {0:g}"), "le": _("at most {0:g}")}
        limits = [words[name].format(self.limits[name]) for name in ("gt", "ge", "lt", "le") if name in self.limits]
        if limits:
            parts.append(_("Range: {0}{1}.").format(", ".join(limits), f" {self.shownUnit}".rstrip()))
        if self.default not in (None, [], ""):
            parts.append(_("Default: {0}.").format(self.default))
        if self.required:
            parts.append(_("Must be given."))
        return " ".join(part if part.endswith((".", "!", "?")) else part + "." for part in parts if part)


@dataclass(frozen=True)
class Choice:
    """One line of the list: what it is called, what it needs, and which job it becomes."""

    key: str
    group: str
    name: str
    title: str
    summary: str = ""
    parameters: tuple = ()
    fixed: dict = field(default_factory=dict)
    modality: str = ""
    needsSegments: bool = False
    words: str = ""
    channels: tuple = ()

    @property
    def makesSegments(self):
        """Whether the result is a segmentation; what measures leaves it as it is."""
        return self.group != "measure"

    def whyNot(self, hasSegments):
        """Return the sentence that says why it cannot be run on one scan with or without segments, "" where it can."""
        if len(self.channels) > 1:
            text = _('"{0}" needs {1} scans of one patient at once ({2}), and the panel gives it one. Run "medseg segment" for it.')
            return text.format(self.title, len(self.channels), ", ".join(str(channel) for channel in self.channels))
        if self.needsSegments and not hasSegments:
            return _('"{0}" needs a segmentation with segments. Choose one above, or segment something first.').format(self.title)
        return ""


def choicesOf(description):
    """Return all choices of a worker's description, and what measures, in the order of the list."""
    found = [_pipeline(entry) for entry in description.get("pipelines", ())]
    models = description.get("models", ())
    methods = {entry["name"]: entry for entry in description.get("methods", ())}
    if "model" in methods:
        found += [_model(card, methods["model"]) for card in models if card.get("kind") not in PROMPTED]
    for entry in methods.values():
        if entry["stage"] in ("segment", "postprocess") and not (entry["name"] == "model" and models):
            found.append(_method(entry))
    found += measuring()
    return sorted(found, key=lambda choice: _GROUP_ORDER.index(choice.group))


def matching(choices, query):
    """Return the choices in which every word of a query occurs: in names, titles, descriptions, modality or names of segments."""
    wanted = query.casefold().split()
    found = [choice for choice in choices if all(word in choice.words for word in wanted)]
    named = [choice for choice in found if all(word in f"{choice.title} {choice.name}".casefold() for word in wanted)]
    return named + [choice for choice in found if choice not in named]  # what is called so comes first


def measuring():
    """Return what measures a segmentation: its parameters are those of the jobs of these names."""
    plane = Parameter(
        "plane",
        "choice",
        _("Slices in which diameters are taken"),
        default="acquired",
        choices=("acquired", "axial", "coronal", "sagittal"),
    )
    chosen = Parameter("chosen", "text", _("Names of the segments that hold lesions; empty: all of them"), default=[], isList=True)
    nodes = Parameter("nodes", "text", _("Names of the segments that hold lymph nodes (short axis counts)"), default=[], isList=True)
    least = Parameter("keep_at_least_mm3", "number", _("Smaller parts are left out"), unit="mm3", default=0.0, limits={"ge": 0.0})
    whole = Parameter("whole", "boolean", _("Each segment is one lesion, in however many parts"), default=False)
    features = Parameter("features", "choice", _("Also these features"), default="none", choices=("none", "shape", "intensity", "both"))
    days = Parameter(
        "days_between",
        "number",
        _("Days from the earlier scan to this one; empty: from the DICOM dates, where known"),
        unit="d",
        limits={"ge": 0.0},
    )
    register = Parameter(
        "registration",
        "choice",
        _("How the two scans are brought together"),
        default="auto",
        choices=("auto", "none", "rigid", "deformable"),
    )
    return [
        _measure(
            "measure", _("Measure volumes"), _("Volume of every segment with its 95 % interval, intensities and status."), (features,)
        ),
        _measure(
            "lesions",
            _("Measure lesions"),
            _("One row a lesion: volume, diameters, whether RECIST may count it."),
            (chosen, nodes, plane, whole, least),
        ),
        _measure(
            "change",
            _("Compare two time points"),
            _("Lesions matched over time: growth or noise, doubling time, response."),
            (
                Parameter("earlier_scan", "scan", _("The earlier scan"), required=True),
                Parameter("earlier_labels", "label-map", _("The lesions in the earlier scan"), required=True),
                days,
                register,
                chosen,
                nodes,
                plane,
            ),
        ),
    ]


# Values of parameters, kept as text in the scene


def valuesFrom(text):
    """Return the values of all choices from the text in the parameter node; {} where it is none."""
    try:
        values = json.loads(text or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def changedValues(choice, values):
    """Return what differs from the defaults, with what the choice fixes: what is sent to the worker."""
    sent = {}
    for parameter in choice.parameters:
        value = values.get(parameter.name)
        if value is not None and value != parameter.default and not (parameter.isList and value == [] and parameter.default in (None, [])):
            sent[parameter.name] = value
    return {**sent, **choice.fixed}


def missing(choice, values):
    """Return the titles of parameters that must be given and are not."""
    return [p.title for p in choice.parameters if p.required and values.get(p.name) in (None, "", [])]


def whyRefused(parameter, value):
    """Return the sentence for a value outside its limits, "" where it is inside."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return ""
    outside = {
        "gt": value <= parameter.limits.get("gt", value - 1),
        "ge": value < parameter.limits.get("ge", value),
        "lt": value >= parameter.limits.get("lt", value + 1),
        "le": value > parameter.limits.get("le", value),
    }
    if not any(outside.values()):
        return ""
    return _("{0} is {1:g}, outside its range. {2}").format(parameter.title, value, parameter.help)


# Inside


def _parameters(entry, without=()):
    return tuple(
        Parameter(
            p["name"],
            p["kind"],
            p.get("description", ""),
            p.get("unit", ""),
            bool(p.get("required")),
            p.get("default"),
            bool(p.get("is_list")),
            tuple(p.get("choices") or ()),
            dict(p.get("limits") or {}),
        )
        for p in entry.get("parameters", ())
        if p["name"] not in without
    )


def _method(entry):
    title = entry["name"].replace("-", " ").capitalize()
    changes = entry["stage"] == "postprocess"
    return Choice(
        f"method:{entry['name']}",
        entry["stage"],
        entry["name"],
        title,
        entry.get("summary", ""),
        _parameters(entry),
        needsSegments=changes,
        words=_words(entry["name"], title, entry.get("summary", ""), entry.get("description", "").split(">>>")[0]),
    )


def _model(card, method):
    segments = [segment["label"] if isinstance(segment, dict) else str(segment) for segment in card.get("segments", ())]
    summary = _("Network. Finds: {0}.").format(", ".join(segments)) if segments else _("Network.")
    if card.get("intended_use"):
        summary += " " + card["intended_use"]
    return Choice(
        f"model:{card['name']}",
        "model",
        "model",
        card.get("title") or card["name"],
        summary,
        _parameters(method, ("model",)),
        {"model": card["name"]},
        card.get("modality", ""),
        words=_words(card["name"], card.get("title", ""), summary, card.get("modality", ""), "model network"),
        channels=tuple(card.get("channels") or ()),
    )


def _pipeline(entry):
    return Choice(
        f"pipeline:{entry['name']}",
        "pipeline",
        entry["name"],
        entry.get("title") or entry["name"],
        (entry.get("description") or "").strip(),
        modality=entry.get("modality") or "",
        words=_words(entry["name"], entry.get("title", ""), entry.get("description") or "", entry.get("modality") or "", "pipeline"),
    )


def _measure(name, title, summary, parameters):
    return Choice(f"measure:{name}", "measure", name, title, summary, parameters, needsSegments=True, words=_words(name, title, summary))


def _words(*texts):
    return " ".join(texts).casefold().replace("_", " ") + " " + " ".join(texts).casefold()

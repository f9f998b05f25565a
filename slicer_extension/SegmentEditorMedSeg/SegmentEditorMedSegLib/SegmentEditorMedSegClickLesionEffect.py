"""Click lesion: the lesion under a click, as a closed surface that stands out most."""

from __future__ import annotations

from slicer.i18n import tr as _

from SegmentEditorMedSegLib.effect_base import MedSegEffect
from SegmentEditorMedSegLib.effect_clicks import INSIDE, OUTSIDE
from SegmentEditorMedSegLib.effect_options import Option, applyAsOption
from SegmentEditorMedSegLib.effect_runner import Work

AT_ONCE = "AtOnce"


class SegmentEditorMedSegClickLesionEffect(MedSegEffect):
    """One click on a lesion gives its outline; more clicks correct it."""

    NAME = "MedSegClickLesion"
    ICON = "ClickLesion"
    METHODS = ("click-lesion",)
    USES_CLICKS = True
    USES_OUTSIDE_CLICKS = True

    def title(self):
        return _("Click lesion")

    def helpText(self):
        return _(
            "<html>Click on a lesion in a slice view: its outline in 3D is found at once and shown as a preview.<p>"
            "<ul style='margin: 0'><li><b>Click:</b> another lesion.</li>"
            "<li><b>Shift + click:</b> this belongs to the lesion too.</li>"
            "<li><b>Ctrl + click:</b> here the lesion has ended.</li>"
            "<li><b>Apply:</b> write it into the selected segment; masking and undo work as for every effect.</li></ul>"
            "The panel says when the border is a guess.</html>"
        )

    def options(self):
        return (
            Option(
                "LargestMm",
                "number",
                _("Largest diameter"),
                90.0,
                _("Lesions up to this diameter are looked for. A smaller value is faster and keeps to small lesions."),
                low=5.0,
                high=300.0,
                step=5.0,
                decimals=1,
                unit="mm",
            ),
            Option(
                "Stiffness",
                "number",
                _("Roundness"),
                1.0,
                _("Below 1 the outline follows bumps, above 1 it is rounder."),
                low=0.1,
                high=10.0,
                step=0.1,
                decimals=1,
            ),
            Option(
                "Modality",
                "choice",
                _("Scan"),
                "auto",
                _("What was scanned, where the scan does not say it. On PET lesions are bright."),
                choices=(("auto", _("As the scan says")), ("CT", "CT"), ("MR", "MR"), ("PT", "PET")),
            ),
            applyAsOption(_),
            Option(
                AT_ONCE,
                "boolean",
                _("Apply each click at once"),
                False,
                _("Write each click's lesion into the segment without a preview."),
            ),
        )

    def work(self):
        parameters = {
            "seeds": self.clicks.points(INSIDE),
            "background_seeds": self.clicks.points(OUTSIDE),
            "largest_mm": self.rows.value("LargestMm"),
            "stiffness": self.rows.value("Stiffness"),
            "modality": self.rows.value("Modality"),
            "label": self.selectedName(),
        }
        return Work("click-lesion", parameters, self.volumeNode(), isQuick=True)

    def clicked(self, point, isMore=False, isOutside=False):
        super().clicked(point, isMore, isOutside)
        if self.rows.value(AT_ONCE):
            if self.isRunning:
                self.applyWhenDone()
            elif self.preview.isShown:
                self.onApply()

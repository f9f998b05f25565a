"""Make the figures of docs/change.md and print its table: `python scripts/make_change_pictures.py`.

Three scans of one phantom patient at 0, 90 and 180 days, each on another grid and lying differently; registered, matched and
measured as `medseg change` does it, and compared with the formulas.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medseg.measurement.change import ChangeTable, TimePoint, change
from medseg.measurement.lesions import lesions
from medseg.phantom.growth import GrowthStudy, make_growth
from medseg.preprocessing.registration import register
from medseg.reporting.change_figures import spider_of, waterfall_of
from medseg.reporting.change_pictures import lesion_pair_png
from medseg.reporting.change_table import response_lines

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"


def compared(study: GrowthStudy) -> ChangeTable:
    """Register, match and measure; print how far the registration is off."""
    base = study.scans[0]
    points = [TimePoint(lesions(base.label_map, base.volume, organs=base.organs), 0.0, volume=base.volume)]
    for n, scan in enumerate(study.scans[1:], start=1):
        found = register(base.volume, scan.volume)
        corners = base.volume.geometry.corners_mm()
        off = np.linalg.norm(found.to_moving(corners) - (corners @ scan.matrix[:3, :3].T + scan.matrix[:3, 3]), axis=1).max()
        consistency = found.quality["consistency_mm"]
        print(f"follow-up {n}: registered to {off:.2f} mm at the corners of the field of view, consistency {consistency:.2f} mm")
        table = lesions(scan.label_map, scan.volume, organs=scan.organs)
        points.append(TimePoint(table, scan.days, found.to_moving, found.to_fixed, volume=scan.volume))
    return change(points[0], points[1:], volumetric=True)


def main() -> None:
    """Write the figures and print the table of the page."""
    study = make_growth(0)
    table = compared(study)
    truth = {(lesion["name"], n): v for lesion in study.truth["lesions"] for n, v in enumerate(lesion["volume_ml"])}
    print(
        "\n| day | lesion | status | change, true | change, measured [95 %] | beyond error | doubling time |\n|---|---|---|---|---|---|---|"
    )
    for row in table.rows:
        name = named(study, row)
        start = truth[name, row.since]
        true = "-" if start == 0 or row.status == "new" else signed(100 * (truth[name, row.time_point] / start - 1))
        got = "-" if row.change.value is None else signed(row.change.value)
        if row.change.low is not None and row.change.high is not None:
            got += f" [{row.change.low:+.0f}, {row.change.high:+.0f}]"
        beyond = {True: "yes", False: "no", None: "-"}[row.is_beyond_error]
        time = row.doubling_time
        doubling = "-"
        if time.value is not None and time.low is not None:
            doubling = f"{time.value:.0f} d [{time.low:.0f}, {'…' if time.high is None else f'{time.high:.0f}'}]"
        print(f"| {study.scans[row.time_point].days:g} | {name} | {row.status} | {true} | {got} | {beyond} | {doubling} |")
    print("\n" + "\n".join(response_lines(table)))
    (PICTURES / "change_waterfall.svg").write_text(waterfall_of(table), encoding="utf-8")
    (PICTURES / "change_spider.svg").write_text(spider_of(table), encoding="utf-8")
    merged = next(row for row in table.at(1) if row.status == "merged")
    (PICTURES / "change_pair.png").write_bytes(lesion_pair_png(table, merged))


def signed(percent: float) -> str:
    """Per cent without decimals and without a sign before zero."""
    return f"{percent:+.0f} %" if abs(percent) >= 0.5 else "0 %"


def named(study: GrowthStudy, row) -> str:
    """The name in the truth of the lesion that lies nearest to that of a row."""
    n = row.since if row.before.centre_mm else row.time_point
    centre = row.before.centre_mm or row.after.centre_mm
    apart = {
        lesion["name"]: np.linalg.norm(np.mean(lesion["centres_ras_mm"][n], axis=0) - centre)
        for lesion in study.truth["lesions"]
        if lesion["volume_ml"][n] > 0
    }
    return min(apart, key=lambda name: apart[name])


if __name__ == "__main__":
    main()

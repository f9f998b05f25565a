"""Every column of every table medseg writes: its type, its unit and its meaning. docs/tables.md and Parquet are made from it.

A table's version is the number in its schema (`medseg.measure/1`): columns may be added, none changes its meaning or goes
without a new number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["integer", "number", "text", "yes/no"]

# What may stand in a column's name for a unit (mean_hu), a percentage, a tolerance in mm, an end, an axis
_PLACES = {
    "{unit}": r"(?:_[a-z0-9]+){0,2}",
    "{bound}": "(?:_low|_high)?",
    "{p}": r"\d+(?:\.\d+)?",
    "{tau}": r"\d+(?:\.\d+)?",
    "{end}": "[12]",
    "{axis}": "[ras]",
}


@dataclass(frozen=True)
class Column:
    """One column; the name may hold places: {unit} (or nothing), {p} per cent, {tau} mm, {end} 1 or 2, {axis} r, a or s,
    {bound} nothing, _low or _high."""

    name: str
    kind: Kind
    unit: str
    meaning: str

    def matches(self, name: str) -> bool:
        """Whether this describes a column of that name.

        >>> Column("mean{unit}", "number", "", "").matches("mean_hu")
        True
        """
        pattern = re.escape(self.name)
        for place, allowed in _PLACES.items():
            pattern = pattern.replace(re.escape(place), allowed)
        return re.fullmatch(pattern, name) is not None


@dataclass(frozen=True)
class TableSchema:
    """A table: its schema with version, the command and file it comes from, what a row is, its columns in order."""

    schema: str
    title: str
    source: str
    row: str
    columns: tuple[Column, ...]
    more: str = ""

    def column(self, name: str) -> Column | None:
        """Return the description of a column, None for one that is not listed."""
        return next((column for column in self.columns if column.matches(name)), None)


def _columns(text: str) -> tuple[Column, ...]:
    """Columns from lines `name | kind | unit | meaning`."""
    rows = [[part.strip() for part in line.split("|")] for line in text.strip().splitlines()]
    return tuple(Column(name, kind, unit, meaning) for name, kind, unit, meaning in rows)  # type: ignore[arg-type]


_VOLUME = """
volume_ml | number | ml | volume: voxels × absolute determinant of the affine; empty where there is none
volume_low_ml | number | ml | lower end of its 95 % interval
volume_high_ml | number | ml | upper end of its 95 % interval
"""
_WAYS = """
voxel_ml | number | ml | volume by counting voxels
mesh_ml | number | ml | volume of the marching-cubes mesh (IBSI, RNU0)
probability_ml | number | ml | sum of the class probabilities, where given
volumes_differ_percent | number | % | largest difference between the ways of counting; above 1 % a reason is given
half_voxel_shell_ml | number | ml | what a border drawn half a voxel further out or in would cost
"""
_INTENSITIES = """
mean{unit} | number | of the scan | mean intensity; the unit stands in the name (mean_hu)
std{unit} | number | of the scan | standard deviation, divided by the number of voxels
min{unit} | number | of the scan | least intensity
max{unit} | number | of the scan | largest intensity
median{unit} | number | of the scan | median, with --percentile 50 or --features intensity
"""
_PLACE = """
voxel_count | integer |  | number of voxels
centroid_r_mm | number | mm | centroid, right positive (RAS+)
centroid_a_mm | number | mm | centroid, anterior positive
centroid_s_mm | number | mm | centroid, superior positive
touches_border | text |  | sides of the field of view it touches, joined by ";"
reason | text |  | why the status is not `measured`, or why a value is missing
"""

MEASURE = TableSchema(
    "medseg.measure/1",
    "Measurements",
    "`medseg measure -o`, and measurements.csv of `medseg run` and `medseg report`",
    "a segment",
    _columns(
        """
number | integer |  | the segment's number (voxel value)
label | text |  | its name
status | text |  | measured, absent, cut_by_field_of_view, not_attempted or failed
"""
        + _VOLUME.lstrip()
        + _INTENSITIES.lstrip()
        + _PLACE.lstrip()
        + """visible_ml | number | ml | volume of the visible part where the field of view cuts the segment
grid_sd_ml | number | ml | standard deviation that comes from the place on the voxel grid
boundary_sd_ml | number | ml | standard deviation that comes from the place of the boundary
model_sd_ml | number | ml | standard deviation between folds, augmentations or ensemble members, where given
percentile_{p}{unit} | number | of the scan | percentile of the intensities, with --percentile
"""
        + _WAYS.lstrip()
    ),
    "With `--features` one more column a feature, named with its unit: see [features](features.md).",
)

LESIONS = TableSchema(
    "medseg.lesions/1",
    "Lesions",
    "lesions.csv of `medseg lesions -o`",
    "a lesion",
    _columns(
        """
id | text |  | stable name: the segment's name and a count, the largest first; the tracking id where there is one
number | integer |  | voxel value in the mask of the lesions
segment | text |  | segment it is a part of
segment_number | integer |  | number of that segment
status | text |  | as in measurements
"""
        + _VOLUME.lstrip()
        + """longest_diameter_mm | number | mm | longest diameter in a slice of the plane (RECIST 1.1): middle of the next two
longest_diameter_least_mm | number | mm | longest distance of two voxel centres: the least it may be
longest_diameter_mesh_mm | number | mm | chord of the mesh half a voxel outside them, as pyradiomics defines it
perpendicular_diameter_mm | number | mm | longest diameter at a right angle to it in the same slice
perpendicular_diameter_mesh_mm | number | mm | chord of the outline there, a fifth of a voxel longer
who_product_mm2 | number | mm² | product of the two (WHO)
diameter_3d_mm | number | mm | longest diameter in space: middle of the next two
diameter_3d_least_mm | number | mm | longest distance of two voxel centres
diameter_3d_mesh_mm | number | mm | chord of the mesh (Maximum3DDiameter of pyradiomics)
measurable | yes/no |  | measurable by RECIST 1.1
measurable_reason | text |  | why, or why not
is_lymph_node | yes/no |  | judged by its short axis
organ | text |  | organ it lies in, or the nearest one
organ_relation | text |  | inside, partly_inside, surrounded, touching or near
organ_share | number |  | share of the lesion inside the organ
organ_contact_share | number |  | share of its surface that touches the organ
organ_distance_mm | number | mm | distance to the organ where it is near
organ_reason | text |  | why no organ is named
slice_index | integer |  | index of the slice of the longest diameter along slice_axis
slice_axis | text |  | grid axis i, j or k across the slices
slice_plane | text |  | plane of the diameters
sop_instance_uid | text |  | DICOM SOPInstanceUID of that slice
sop_instance_uid_reason | text |  | why there is none
longest_diameter_end{end}_{axis}_mm | number | mm | ends of the longest diameter (RAS+)
perpendicular_diameter_end{end}_{axis}_mm | number | mm | ends of the perpendicular diameter
diameter_3d_end{end}_{axis}_mm | number | mm | ends of the diameter in space
"""
        + _PLACE.lstrip()
        + _WAYS.lstrip()
        + "volumes_differ_percent_reason | text |  | which ways of counting differ\n"
        + _INTENSITIES.lstrip()
    ),
)

CHANGE = TableSchema(
    "medseg.change/1",
    "Change",
    "change.csv of `medseg change -o`",
    "a lesion at a follow-up",
    _columns(
        """
lesion | text |  | name of the lesion over time
time_point | integer |  | follow-up, 1 is the first
since_time_point | integer |  | scan it is compared with, 0 is the base
days | number | d | days between the two
status | text |  | new, gone, grown, shrunk, stable, merged, split, undetermined or out_of_view
reason | text |  | why
segment | text |  | segment it is a part of
organ | text |  | organ it lies in
is_lymph_node | yes/no |  | followed by its short axis
base_ids | text |  | its parts in the earlier scan
base_volume_ml | number | ml | volume in the earlier scan
base_volume_interval_ml_low | number | ml | lower end of its 95 % interval
base_volume_interval_ml_high | number | ml | upper end
base_volume_status | text |  | status of that volume
base_volume_reason | text |  | why there is none
base_longest_diameter_mm | number | mm | longest diameter in the earlier scan
base_short_axis_mm | number | mm | short axis in the earlier scan
base_centre_{axis}_mm | number | mm | centre in the earlier scan (RAS+)
ids | text |  | its parts in this scan
volume_ml | number | ml | volume in this scan
volume_interval_ml_low | number | ml | lower end of its 95 % interval
volume_interval_ml_high | number | ml | upper end
volume_status | text |  | status of that volume
volume_reason | text |  | why there is none
longest_diameter_mm | number | mm | longest diameter in this scan
short_axis_mm | number | mm | short axis in this scan
centre_{axis}_mm | number | mm | centre in this scan
percent_change | number | % | change of the volume
percent_change_interval_low | number | % | lower end of its 95 % interval
percent_change_interval_high | number | % | upper end
percent_change_reason | text |  | why there is none
beyond_measurement_error | yes/no |  | whether the interval leaves out 0
beyond_measurement_error_reason | text |  | why that is not known
doubling_time_days | number | d | volume doubling time, negative for halving
doubling_time_days_interval_low | number | d | lower end of its 95 % interval
doubling_time_days_interval_high | number | d | upper end
doubling_time_days_reason | text |  | why there is none
matched_by | text |  | how the parts were found to be one lesion
overlap | number |  | shared part of the smaller one after registration
gap_mm | number | mm | gap between the two after registration
centre_distance_mm | number | mm | distance of their centres after registration
"""
    ),
)

RESPONSES = TableSchema(
    "medseg.change/1",
    "Responses",
    "responses.csv of `medseg change -o`",
    "a rule at a follow-up",
    _columns(
        """
rule | text |  | RECIST 1.1, or the volumetric rule
unit | text |  | unit of the sums
time_point | integer |  | follow-up
days | number | d | days since the base
sum | number | of `unit` | sum over the targets
base_sum | number | of `unit` | that sum at the base
nadir | number | of `unit` | the least sum so far
change_from_base_percent | number | % | change from the base
change_from_nadir_percent | number | % | change from the nadir
change_from_nadir | number | of `unit` | the same as a length or volume (the 5 mm rule)
target_response | text |  | CR, PR, SD, PD or NE
non_target_response | text |  | response of the other lesions
new_lesions | text |  | lesions that were not there before
overall_response | text |  | the category
reasons | text |  | what it follows from
"""
    ),
)

EVALUATE = TableSchema(
    "medseg.evaluate/1",
    "Scores",
    "`medseg evaluate -o`",
    "a segment (of a case)",
    _columns(
        """
case | text |  | name of the case, for folders
number | integer |  | the segment's number
label | text |  | its name
outcome | text |  | compared, missed, false, absent or failed
dice | number |  | Dice coefficient
iou | number |  | intersection over union
sensitivity | number |  | shared voxels / those of the reference
precision | number |  | shared voxels / those of the prediction
volume_difference_ml | number | ml | prediction − reference
volume_difference_percent | number | % | the same in per cent of the reference
absolute_volume_difference_percent | number | % | the same without its sign
hd_mm | number | mm | Hausdorff distance
hd{p}_mm | number | mm | percentile of the surface distances, by `definition`
assd_mm | number | mm | average symmetric surface distance
masd_mm | number | mm | mean of the two directed averages
centre_distance_mm | number | mm | distance of the centroids
nsd_{tau}mm | number |  | normalised surface Dice at this tolerance
boundary_f1_{tau}mm | number |  | boundary F1 at this tolerance
reference_voxels | integer |  | voxels of the reference
prediction_voxels | integer |  | voxels of the prediction
common_voxels | integer |  | shared voxels
reference_volume_ml | number | ml | volume of the reference
prediction_volume_ml | number | ml | volume of the prediction
definition | text |  | max-directed or pooled
percentile | number |  | percentile of hd{p}_mm
matched_by | text |  | number, label or what else paired the two
reason | text |  | why a value is missing
note | text |  | what else a reader must know
"""
    ),
    "With `--lesions` further columns named lesion_…: see [evaluation](evaluation.md).",
)

AGREEMENT = TableSchema(
    "medseg.agreement/1",
    "Agreement",
    "agreement.csv of `medseg agreement -o`",
    "a pair of readers (in a group)",
    _columns(
        """
group | text |  | group of rows, such as a segment
quantity | text |  | what was compared
unit | text |  | its unit
first | text |  | first reader
second | text |  | second reader
count | integer |  | subjects with a value from both
scale | text |  | absolute, percent or log
difference_unit | text |  | unit of the differences
bias{bound} | number | of the difference | mean difference
lower_limit{bound} | number | of the difference | lower limit of agreement
upper_limit{bound} | number | of the difference | upper limit of agreement
slope{bound} | number |  | slope of the difference on the mean (proportional bias)
icc_2_1{bound} | number |  | ICC(2,1) of all readers of the group
within_subject_sd{bound} | number | of `unit` | within-subject standard deviation
repeatability_coefficient{bound} | number | of `unit` | 1.96·√2·within-subject SD
within_subject_cv_percent{bound} | number | % | within-subject coefficient of variation
sd_of_differences | number | of the difference | standard deviation of the differences
slope_p | number |  | p of the slope
pitman_r | number |  | Pitman's correlation of difference and mean
spread_p | number |  | p of the spread of differences over the mean
normality_p | number |  | p of the normality of the differences
"""
    ),
    "`{bound}` is nothing, `_low` or `_high`: an estimate and the ends of its 95 % interval.",
)

COMPARISON = TableSchema(
    "medseg.comparison/1",
    "Comparison",
    "comparison.json of `medseg report` of several cases",
    "a structure in a scan",
    _columns(
        """
structure | text |  | name without words of modality
case | text |  | scan
label | text |  | name in that scan
volume_ml | number | ml | volume
interval_ml | number | ml | its 95 % interval [low, high]
status | text |  | in words
difference_ml | number | ml | volume − that in the first scan
difference_percent | number | % | the same in per cent
difference_interval_ml | number | ml | 95 % interval of the difference [low, high]
beyond | yes/no |  | whether that interval leaves out 0
"""
    ),
)

TABLES: dict[str, TableSchema] = {
    "measurements.csv": MEASURE,
    "lesions.csv": LESIONS,
    "change.csv": CHANGE,
    "responses.csv": RESPONSES,
    "scores.csv": EVALUATE,
    "agreement.csv": AGREEMENT,
}


def tables_page() -> str:
    """Return docs/tables.md."""
    parts = [_HEAD]
    for table in (*TABLES.values(), COMPARISON):
        parts.append(f"## {table.title} (`{table.schema}`)\n\nFrom {table.source}. One row is {table.row}.\n")
        parts.append("| column | type | unit | meaning |\n|---|---|---|---|")
        parts += [f"| `{column.name}` | {column.kind} | {column.unit} | {column.meaning} |" for column in table.columns]
        parts.append(f"\n{table.more}\n" if table.more else "")
    return "\n".join(parts).rstrip() + "\n"


_HEAD = """# Tables: every column, its unit and its meaning

<!-- made by scripts/make_tables_page.py from medseg/reporting/columns.py; do not edit -->

Tables are written as CSV (RFC 4180, UTF-8, decimal point, one header line, nothing else) and as JSON; `medseg report FOLDER
--parquet` and `medseg measure -o table.parquet` write Parquet with typed columns. Numbers are not rounded. Lengths are mm,
volumes ml, positions RAS+ in mm. What is undefined is an empty cell in CSV, null in JSON and Parquet, with its reason beside it.

A JSON document names its `schema` and version, such as `medseg.measure/1`; a Parquet file carries the same in its metadata
(`medseg.schema`) with unit and meaning of each column. Columns may be added; none changes its meaning or goes without a new
version. In JSON an interval is one list (`volume_interval_ml`), as are a centroid (`centroid_ras_mm`) and the ends of a diameter;
CSV and Parquet have one column for each number.

In a name `{unit}` stands for the unit of the scan or nothing, `{p}` for a percentage, `{tau}` for a tolerance in mm, `{end}` for 1
or 2, `{axis}` for r, a or s.
"""

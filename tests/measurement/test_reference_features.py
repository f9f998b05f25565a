"""Shape and intensity features against the published values of pyradiomics, MIRP and the IBSI, case by case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.core.volume import Volume
from medseg.measurement.intensity import intensity_features
from medseg.measurement.shape import shape_features

PYRADIOMICS = {
    "shape_Elongation": "elongation",
    "shape_Flatness": "flatness",
    "shape_LeastAxisLength": "least_axis_mm",
    "shape_MajorAxisLength": "major_axis_mm",
    "shape_MinorAxisLength": "minor_axis_mm",
    "shape_Maximum2DDiameterColumn": "maximum_2d_diameter_column_mm",
    "shape_Maximum2DDiameterRow": "maximum_2d_diameter_row_mm",
    "shape_Maximum2DDiameterSlice": "maximum_2d_diameter_slice_mm",
    "shape_Maximum3DDiameter": "maximum_3d_diameter_mm",
    "shape_MeshVolume": "mesh_volume_ml",
    "shape_Sphericity": "sphericity",
    "shape_SurfaceArea": "surface_area_mm2",
    "shape_SurfaceVolumeRatio": "surface_volume_ratio_per_mm",
    "shape_VoxelVolume": "voxel_volume_ml",
    "firstorder_10Percentile": "percentile_10",
    "firstorder_90Percentile": "percentile_90",
    "firstorder_Energy": "energy",
    "firstorder_Entropy": "entropy",
    "firstorder_InterquartileRange": "interquartile_range",
    "firstorder_Kurtosis": "excess_kurtosis",
    "firstorder_Maximum": "max",
    "firstorder_Mean": "mean",
    "firstorder_MeanAbsoluteDeviation": "mean_absolute_deviation",
    "firstorder_Median": "median",
    "firstorder_Minimum": "min",
    "firstorder_Range": "range",
    "firstorder_RobustMeanAbsoluteDeviation": "robust_mean_absolute_deviation",
    "firstorder_RootMeanSquared": "root_mean_square",
    "firstorder_Skewness": "skewness",
    "firstorder_TotalEnergy": "total_energy",
    "firstorder_Uniformity": "uniformity",
    "firstorder_Variance": "variance",
}
IBSI = {
    "morph_volume": "mesh_volume_ml",
    "morph_vol_approx": "voxel_volume_ml",
    "morph_area_mesh": "surface_area_mm2",
    "morph_av": "surface_volume_ratio_per_mm",
    "morph_comp_1": "compactness_1",
    "morph_comp_2": "compactness_2",
    "morph_sph_dispr": "spherical_disproportion",
    "morph_sphericity": "sphericity",
    "morph_asphericity": "asphericity",
    "morph_com": "centre_of_mass_shift_mm",
    "morph_diam": "maximum_3d_diameter_mm",
    "morph_pca_maj_axis": "major_axis_mm",
    "morph_pca_min_axis": "minor_axis_mm",
    "morph_pca_least_axis": "least_axis_mm",
    "morph_pca_elongation": "elongation",
    "morph_pca_flatness": "flatness",
    "morph_vol_dens_aabb": "volume_density_bounding_box",
    "morph_area_dens_aabb": "area_density_bounding_box",
    "morph_vol_dens_aee": "volume_density_ellipsoid",
    "morph_area_dens_aee": "area_density_ellipsoid",
    "morph_vol_dens_conv_hull": "volume_density_convex_hull",
    "morph_area_dens_conv_hull": "area_density_convex_hull",
    "morph_integ_int": "integrated_intensity",
    "morph_moran_i": "moran_i",
    "morph_geary_c": "geary_c",
    "stat_mean": "mean",
    "stat_var": "variance",
    "stat_skew": "skewness",
    "stat_kurt": "excess_kurtosis",
    "stat_median": "median",
    "stat_min": "min",
    "stat_p10": "percentile_10",
    "stat_p90": "percentile_90",
    "stat_max": "max",
    "stat_iqr": "interquartile_range",
    "stat_range": "range",
    "stat_mad": "mean_absolute_deviation",
    "stat_rmad": "robust_mean_absolute_deviation",
    "stat_medad": "median_absolute_deviation",
    "stat_cov": "coefficient_of_variation",
    "stat_qcod": "quartile_coefficient_of_dispersion",
    "stat_energy": "energy",
    "stat_rms": "root_mean_square",
}
CASES = [
    ("tumour_pyradiomics_brain1", "", "brain1_image.nrrd", "brain1_label.nrrd"),
    ("tumour_pyradiomics_breast1", "", "breast1_image.nrrd", "breast1_label.nrrd"),
    ("tumour_pyradiomics_lung1_mask", "", "", "lung1_label.nrrd"),
    ("phantom_ibsi1_digital", "", "image.nii.gz", "mask.nii.gz"),
    *(
        (f"tumour_sts_{patient}", scan, f"reference/{scan}_image.nii.gz", f"reference/{scan}_mask.nii.gz")
        for patient in ("002", "019", "025")
        for scan in ("CT", "MR_T1", "PET")
    ),
]
# One face of a cell with two diagonal corners can be cut in two ways: the two tools differ by up to 0.4 % from each other
# on this mask, the only one with such faces.
AMBIGUOUS = "tumour_pyradiomics_brain1"


def load(folder: Path, image: str, mask: str) -> tuple[LabelMap, Volume | None]:
    picture = sitk.ReadImage(str(folder / mask))
    affine = np.eye(4)
    affine[:3, :3] = np.array(picture.GetDirection()).reshape(3, 3) * picture.GetSpacing()
    affine[:3, 3] = picture.GetOrigin()
    geometry = Geometry(picture.GetSize(), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)
    array = (sitk.GetArrayFromImage(picture) > 0).astype(np.uint8).T
    label_map = LabelMap(array, geometry, (Segment(1, "tumour"),))
    return label_map, Volume(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / image))).T, geometry) if image else None


def in_their_units(features: dict[str, Any], name: str) -> float:
    value = features[name].value
    assert value is not None, features[name].reason
    return float(value) * (1000 if name.endswith("_ml") else 1)


@pytest.mark.parametrize(("case", "scan", "image", "mask"), CASES, ids=[f"{case}{scan}" for case, scan, _, _ in CASES])
def test_values_of_pyradiomics_and_mirp(shared_data: Path, case: str, scan: str, image: str, mask: str) -> None:
    folder = shared_data / case
    expected = json.loads((folder / "expected.json").read_text())
    expected = expected[scan] if scan else expected
    label_map, volume = load(folder, image, mask)
    intensities = intensity_features(label_map, volume)[1] if volume is not None else {}
    theirs = {
        "pyradiomics": (shape_features(label_map, axes="pyradiomics")[1] | intensities, PYRADIOMICS),
        "mirp": (shape_features(label_map)[1], IBSI),
    }
    compared = 0
    for tool, (features, names) in theirs.items():
        for name, value in expected["measurements"][tool]["values"].items():
            ours = in_their_units(features, names[name]) + (3 if name == "firstorder_Kurtosis" else 0)
            loose = case == AMBIGUOUS and (
                "Surface" in name or "Mesh" in name or "area" in name or "pheric" in name or name == "morph_volume"
            )
            # the values are written with six digits after the point
            assert ours == pytest.approx(value, rel=5e-3 if loose else 1e-6, abs=6e-7), name
            compared += 1
    assert compared == (40 if volume is not None else 22)


@pytest.mark.parametrize("case", ["brain1", "breast1", "lung1_mask"])
def test_the_published_baseline_of_pyradiomics(shared_data: Path, case: str) -> None:
    folder = shared_data / f"tumour_pyradiomics_{case}"
    name = case.removesuffix("_mask")
    label_map, volume = load(folder, "" if "mask" in case else f"{name}_image.nrrd", f"{name}_label.nrrd")
    features = shape_features(label_map, axes="pyradiomics")[1]
    if volume is not None:
        features |= intensity_features(label_map, volume)[1]
        shifted = volume.with_array(volume.array.astype(np.int32) + 2000)  # their voxelArrayShift
        shifted_features = intensity_features(label_map, shifted)[1]
        features |= {key: shifted_features[key] for key in ("energy", "total_energy", "root_mean_square")}
    compared = 0
    for key, value in json.loads((folder / "expected.json").read_text())["published_baseline"]["values"].items():
        if PYRADIOMICS[key] not in features:
            continue
        ours = in_their_units(features, PYRADIOMICS[key]) + (3 if key == "firstorder_Kurtosis" else 0)
        meshed = any(word in key for word in ("Surface", "Mesh", "Sphericity"))
        assert ours == pytest.approx(value, rel=5e-3 if meshed and case == "brain1" else 1e-6), key
        compared += 1
    assert compared == (32 if volume is not None else 14)


def test_the_consensus_values_of_the_ibsi(shared_data: Path) -> None:
    folder = shared_data / "phantom_ibsi1_digital"
    label_map, volume = load(folder, "image.nii.gz", "mask.nii.gz")
    assert volume is not None
    features = shape_features(label_map, volume, autocorrelation=True)[1] | intensity_features(label_map, volume)[1]
    expected = json.loads((folder / "expected.json").read_text())["ibsi_consensus_values"]["values"]
    assert set(expected) == set(IBSI)
    for name, row in expected.items():
        ours = in_their_units(features, IBSI[name])
        if row["tolerance"]:
            assert ours == pytest.approx(row["value"], abs=row["tolerance"]), name
        else:  # given with three digits, and to be met with all of them
            assert float(f"{ours:.3g}") == row["value"], name

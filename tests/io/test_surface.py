"""Surface files read back by VTK, by a reader of glTF written from its standard, and by hand; refusals leave nothing behind."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from medseg.core.errors import OutputExistsError, SegmentError, UnknownSegmentError, UnsupportedFormatError
from medseg.core.geometry import Geometry
from medseg.core.label_map import LabelMap
from medseg.core.segment import Segment
from medseg.io.surface import SURFACE_SUFFIXES, write_surfaces
from medseg.measurement.surfaces import surfaces


@pytest.fixture
def organs_of_two():
    array = np.zeros((16, 14, 12), np.uint8)
    i, j, k = np.indices(array.shape)
    array[(i - 7) ** 2 + (j - 6) ** 2 + (k - 5) ** 2 < 27] = 1
    array[(array == 1) & (i > 8)] = 2
    affine = np.array([[-0.8, 0.1, 0, 900], [0, 1.1, 0.5, -20], [0.05, 0, 2.5, 40], [0, 0, 0, 1]])
    segments = (
        Segment(1, "liver", colour=(221, 130, 101)),
        Segment(2, 'left "kidney" <Niere ü>', colour=(0, 128, 255)),
        Segment(3, "absent"),
    )
    return LabelMap(array, Geometry(array.shape, affine), segments)


def volume_ml(points, triangles) -> float:
    a, b, c = (np.asarray(points, float)[triangles[:, n]] - np.mean(points, axis=0) for n in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6000)


def vtk_mesh(path):
    """Points, triangles and the output of VTK's reader of a file."""
    vtk = pytest.importorskip("vtk")
    vtk_to_numpy = pytest.importorskip("vtkmodules.util.numpy_support").vtk_to_numpy

    reader = {".stl": vtk.vtkSTLReader, ".ply": vtk.vtkPLYReader, ".obj": vtk.vtkOBJReader, ".vtp": vtk.vtkXMLPolyDataReader}[path.suffix]()
    reader.SetFileName(str(path))
    reader.Update()
    mesh = reader.GetOutput()
    triangles = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3)
    return vtk_to_numpy(mesh.GetPoints().GetData()), triangles, mesh, reader


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".vtp"])
def test_vtk_reads_the_scene(organs_of_two, tmp_path, suffix):
    expected = surfaces(organs_of_two)[:2]
    path = write_surfaces(organs_of_two, tmp_path / f"scene{suffix}")
    assert path == tmp_path / f"scene{suffix}"
    points, triangles, _, _ = vtk_mesh(path)
    assert len(triangles) == sum(len(surface.triangles) for surface in expected)
    assert volume_ml(points, triangles) == pytest.approx(sum(surface.volume_ml for surface in expected), rel=1e-4)
    ours = np.concatenate([surface.vertices_mm for surface in expected])
    np.testing.assert_allclose(points.min(axis=0), ours.min(axis=0), atol=1e-4)
    np.testing.assert_allclose(points.max(axis=0), ours.max(axis=0), atol=1e-4)


@pytest.mark.parametrize("suffix", [".stl", ".ply", ".obj", ".vtp"])
def test_vtk_finds_each_file_closed(organs_of_two, tmp_path, suffix):
    vtk = pytest.importorskip("vtk")
    write_surfaces(organs_of_two, tmp_path / ("{number}" + suffix))
    for number in (1, 2):
        _, _, mesh, _ = vtk_mesh(tmp_path / f"{number}{suffix}")
        edges = vtk.vtkFeatureEdges()
        edges.SetInputData(mesh)
        edges.BoundaryEdgesOn()
        edges.NonManifoldEdgesOn()
        edges.FeatureEdgesOff()
        edges.ManifoldEdgesOff()
        edges.Update()
        assert edges.GetOutput().GetNumberOfCells() == 0


def test_files_say_that_they_are_ras_where_slicer_looks(organs_of_two, tmp_path):
    assert b"SPACE=RAS" in write_surfaces(organs_of_two, tmp_path / "a.stl").read_bytes()[:80]
    assert write_surfaces(organs_of_two, tmp_path / "a.obj").read_text("utf-8").startswith("# medseg surface. SPACE=RAS\n")
    *_, reader = vtk_mesh(write_surfaces(organs_of_two, tmp_path / "a.ply"))
    comments = [reader.GetComments().GetValue(n) for n in range(reader.GetComments().GetNumberOfValues())]
    assert "SPACE=RAS" in comments
    _, _, mesh, _ = vtk_mesh(write_surfaces(organs_of_two, tmp_path / "a.vtp"))
    fields = mesh.GetFieldData()
    assert fields.GetAbstractArray("SPACE").GetValue(0) == "RAS"
    assert [fields.GetAbstractArray("segment_labels").GetValue(n) for n in range(2)] == ["liver", 'left "kidney" <Niere ü>']


def test_colours_and_numbers_of_segments(organs_of_two, tmp_path):
    vtk_to_numpy = pytest.importorskip("vtkmodules.util.numpy_support").vtk_to_numpy

    liver, kidney = surfaces(organs_of_two)[:2]
    _, _, mesh, _ = vtk_mesh(write_surfaces(organs_of_two, tmp_path / "a.vtp"))
    numbers = vtk_to_numpy(mesh.GetCellData().GetArray("segment"))
    assert np.bincount(numbers).tolist() == [0, len(liver.triangles), len(kidney.triangles)]
    assert vtk_to_numpy(mesh.GetCellData().GetArray("colour"))[-1].tolist() == [0, 128, 255]
    _, _, mesh, _ = vtk_mesh(write_surfaces(organs_of_two, tmp_path / "a.ply"))
    assert vtk_to_numpy(mesh.GetPointData().GetArray("RGB"))[0, :3].tolist() == [221, 130, 101]
    data = write_surfaces(organs_of_two, tmp_path / "a.stl").read_bytes()
    record = np.frombuffer(data, np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("colour", "<u2")]), offset=84)
    assert record["colour"][-1] == 1 << 15 | 0 << 10 | (128 >> 3) << 5 | 255 >> 3
    turned = np.cross(record["corners"][:, 1] - record["corners"][:, 0], record["corners"][:, 2] - record["corners"][:, 0])
    assert ((turned * record["normal"]).sum(axis=1) >= 0).all()
    single = write_surfaces(organs_of_two, tmp_path / "one.stl", segments=["liver"]).read_bytes()
    assert single[84 + 48 : 84 + 50] == b"\0\0"  # some readers refuse colours


def test_a_gltf_scene(organs_of_two, tmp_path):
    data = write_surfaces(organs_of_two, tmp_path / "scene.glb").read_bytes()
    magic, version, length = struct.unpack_from("<4sII", data)
    assert (magic, version, length) == (b"glTF", 2, len(data))
    size, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    assert size % 4 == 0
    document = json.loads(data[20 : 20 + size])
    binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
    assert kind == b"BIN\0"
    binary = data[28 + size :]
    assert len(binary) == binary_size == document["buffers"][0]["byteLength"]
    root, *nodes = document["nodes"]
    assert [node["name"] for node in nodes] == ["liver", 'left "kidney" <Niere ü>']
    matrix = np.array(root["matrix"]).reshape(4, 4).T  # glTF stores columns
    assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1e-9)
    np.testing.assert_allclose(matrix @ (0, 0, 1000, 1), (0, 1, 0, 1), atol=1e-12)  # the head is up, in metres
    for node, surface in zip(nodes, surfaces(organs_of_two), strict=False):
        (primitive,) = document["meshes"][node["mesh"]]["primitives"]
        arrays = []
        for name in (primitive["attributes"]["POSITION"], primitive["attributes"]["NORMAL"], primitive["indices"]):
            accessor = document["accessors"][name]
            view = document["bufferViews"][accessor["bufferView"]]
            kind = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]]
            flat = np.frombuffer(binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]], kind)
            assert len(flat) == accessor["count"] * {"VEC3": 3, "SCALAR": 1}[accessor["type"]]
            arrays.append(flat.reshape(-1, 3))
        np.testing.assert_array_equal(arrays[0], surface.vertices_mm)
        np.testing.assert_array_equal(arrays[2], surface.triangles)
        np.testing.assert_allclose(np.linalg.norm(arrays[1], axis=1), 1, atol=1e-5)
        assert document["accessors"][primitive["attributes"]["POSITION"]]["min"] == surface.vertices_mm.min(axis=0).tolist()
    red = document["materials"][1]["pbrMetallicRoughness"]["baseColorFactor"]
    assert red == pytest.approx([0, 0.21586, 1, 1], abs=1e-4)  # sRGB 0, 128, 255


def test_an_obj_file_by_hand(organs_of_two, tmp_path):
    lines = write_surfaces(organs_of_two, tmp_path / "a.obj").read_text("utf-8").splitlines()
    liver, kidney = surfaces(organs_of_two)[:2]
    assert [line for line in lines if line.startswith("o ")] == ["o liver", 'o left_"kidney"_<Niere_ü>']
    points = np.array([[float(word) for word in line.split()[1:4]] for line in lines if line.startswith("v ")])
    np.testing.assert_allclose(points, np.concatenate([liver.vertices_mm, kidney.vertices_mm]), atol=6e-5)
    faces = np.array([[int(word) for word in line.split()[1:]] for line in lines if line.startswith("f ")])
    np.testing.assert_array_equal(faces[len(liver.triangles) :], kidney.triangles + 1 + len(liver.vertices_mm))


def test_one_file_a_segment(organs_of_two, tmp_path):
    assert write_surfaces(organs_of_two, tmp_path / "out" / "{label}.ply") == tmp_path / "out"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"liver.ply", "left_kidney_Niere_ü.ply"}
    alike = LabelMap(organs_of_two.array, organs_of_two.geometry, (Segment(1, "Lobe/1"), Segment(2, "lobe 1")))
    write_surfaces(alike, tmp_path / "alike" / "{label}.stl")
    assert {path.name for path in (tmp_path / "alike").iterdir()} == {"Lobe_1_1.stl", "lobe_1_2.stl"}


def test_refusals_write_nothing(organs_of_two, tmp_path):
    for name, options, error in (
        ("a.x3d", {}, UnsupportedFormatError),
        ("{label}/a.stl", {}, UnsupportedFormatError),
        ("a.stl", {"segments": ["spleen"]}, UnknownSegmentError),
        ("a.stl", {"segments": ["absent"]}, SegmentError),
    ):
        with pytest.raises(error):
            write_surfaces(organs_of_two, tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "left_kidney_Niere_ü.stl").write_text("mine")
    with pytest.raises(OutputExistsError):
        write_surfaces(organs_of_two, tmp_path / "{label}.stl")
    assert [path.name for path in tmp_path.iterdir()] == ["left_kidney_Niere_ü.stl"]
    write_surfaces(organs_of_two, tmp_path / "{label}.stl", overwrite=True)
    assert (tmp_path / "left_kidney_Niere_ü.stl").stat().st_size > 84


@pytest.mark.parametrize("suffix", SURFACE_SUFFIXES)
def test_the_same_segments_give_the_same_bytes(organs_of_two, tmp_path, suffix):
    one, two = (write_surfaces(organs_of_two, tmp_path / f"{n}{suffix}").read_bytes() for n in (1, 2))
    assert one == two


def test_write_knows_the_suffixes_without_importing_surfaces():
    from medseg.io.surface import SURFACE_SUFFIXES
    from medseg.io.write import SURFACE_SUFFIXES as KNOWN

    assert set(KNOWN) == set(SURFACE_SUFFIXES)

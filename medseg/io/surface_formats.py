"""The bytes of surface files: each function takes closed surfaces and returns a whole file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from medseg.measurement.surfaces import Surface

_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("colour", "<u2")])
_PLY_VERTEX = np.dtype([("place", "<f4", 3), ("colour", "u1", 3), ("segment", "<i4")])
_PLY_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])
# glTF: metres, +Y up, +Z towards the viewer; a patient who stands and faces the viewer: (-R, S, A)
_GLTF_FROM_RAS_MM = [-0.001, 0, 0, 0, 0, 0, 0.001, 0, 0, 0.001, 0, 0, 0, 0, 0, 1]


def stl(surfaces: Sequence[Surface]) -> bytes:
    """Return binary STL; where there are several segments, their colours stand in the attribute of each triangle (VisCAM).

    3D Slicer reads the coordinate system from the header (vtkMRMLModelStorageNode).
    """
    parts = [b"medseg surface. SPACE=RAS; UNIT=mm".ljust(80), struct.pack("<I", sum(len(surface.triangles) for surface in surfaces))]
    for surface in surfaces:
        block = np.zeros(len(surface.triangles), _STL_TRIANGLE)
        block["corners"] = surface.vertices_mm[surface.triangles]
        first = block["corners"][:, 0]
        normals = np.cross(block["corners"][:, 1] - first, block["corners"][:, 2] - first)
        length = np.linalg.norm(normals, axis=1, keepdims=True)
        block["normal"] = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
        if len(surfaces) > 1:
            r, g, b = (channel >> 3 for channel in surface.segment.rgb)
            block["colour"] = 1 << 15 | r << 10 | g << 5 | b
        parts.append(block.tobytes())
    return b"".join(parts)


def ply(surfaces: Sequence[Surface]) -> bytes:
    """Return binary PLY: one mesh, with the colour and number of the segment at each vertex; names stand in comments."""
    vertices, triangles = _joined(surfaces)
    points = np.zeros(len(vertices), _PLY_VERTEX)
    points["place"] = vertices
    points["colour"] = np.repeat([surface.segment.rgb for surface in surfaces], _counts(surfaces), axis=0)
    points["segment"] = _numbers(surfaces, _counts(surfaces))
    faces = np.zeros(len(triangles), _PLY_FACE)
    faces["count"] = 3
    faces["corners"] = triangles
    lines = ["ply", "format binary_little_endian 1.0", "comment SPACE=RAS", "comment UNIT=mm"]
    lines += [f"comment segment {surface.segment.number} {json.dumps(surface.segment.label)}" for surface in surfaces]
    lines += [f"element vertex {len(points)}", *(f"property float {axis}" for axis in "xyz")]
    lines += [*(f"property uchar {colour}" for colour in ("red", "green", "blue")), "property int segment"]
    lines += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(lines).encode("ascii") + points.tobytes() + faces.tobytes()


def obj(surfaces: Sequence[Surface]) -> bytes:
    """Return Wavefront OBJ text: one object a segment, the colour behind each vertex, coordinates to 0.1 µm."""
    parts = ["# medseg surface. SPACE=RAS\n# UNIT=mm\n"]
    before = 1
    for surface in surfaces:
        name = "_".join("".join(c if c.isprintable() else " " for c in surface.segment.label).split())
        colour = " ".join(f"{channel / 255:.3f}" for channel in surface.segment.rgb)
        parts.append(f"o {name}\n")
        parts.append(f"v %.4f %.4f %.4f {colour}\n" * len(surface.vertices_mm) % tuple(surface.vertices_mm.ravel().tolist()))
        parts.append("f %d %d %d\n" * len(surface.triangles) % tuple((surface.triangles.ravel() + before).tolist()))
        before += len(surface.vertices_mm)
    return "".join(parts).encode("utf-8")


def vtp(surfaces: Sequence[Surface]) -> bytes:
    """Return VTK XML PolyData: number and colour of the segment at each triangle; names and space in the field data."""
    vertices, triangles = _joined(surfaces)
    per_face = [len(surface.triangles) for surface in surfaces]
    colours = np.repeat([surface.segment.rgb for surface in surfaces], per_face, axis=0).astype(np.uint8)
    arrays = {
        "points": vertices.astype("<f4"),
        "segment": _numbers(surfaces, per_face).astype("<i4"),
        "colour": colours,
        "connectivity": triangles.astype("<i4"),
        "offsets": np.arange(3, 3 * len(triangles) + 1, 3, dtype="<i4"),
    }
    blocks, offsets, position = [], {}, 0
    for name, array in arrays.items():
        offsets[name] = position
        blocks += [struct.pack("<Q", array.nbytes), array.tobytes()]
        position += 8 + array.nbytes
    head = f"""<?xml version="1.0"?>
<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">
<PolyData>
<FieldData>
{_vtk_strings("SPACE", ["RAS"])}
{_vtk_strings("segment_labels", [surface.segment.label for surface in surfaces])}
<DataArray type="Int32" Name="segment_numbers" NumberOfTuples="{len(surfaces)}" format="ascii">\
{" ".join(str(surface.segment.number) for surface in surfaces)}</DataArray>
</FieldData>
<Piece NumberOfPoints="{len(vertices)}" NumberOfVerts="0" NumberOfLines="0" NumberOfStrips="0" NumberOfPolys="{len(triangles)}">
<Points>{_vtk_array("Float32", "points", 3, offsets)}</Points>
<CellData Scalars="segment">{_vtk_array("Int32", "segment", 1, offsets)}{_vtk_array("UInt8", "colour", 3, offsets)}</CellData>
<Polys>{_vtk_array("Int32", "connectivity", 1, offsets)}{_vtk_array("Int32", "offsets", 1, offsets)}</Polys>
</Piece>
</PolyData>
<AppendedData encoding="raw">
_"""
    return head.encode("ascii") + b"".join(blocks) + b"\n</AppendedData>\n</VTKFile>\n"


def glb(surfaces: Sequence[Surface]) -> bytes:
    """Return binary glTF 2.0: one named node a segment with its colour and smooth normals, below one that turns RAS mm to glTF."""
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "medseg"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {
                "name": "patient RAS mm",
                "matrix": _GLTF_FROM_RAS_MM,
                "children": list(range(1, len(surfaces) + 1)),
                "extras": {"space": "RAS", "unit": "mm"},
            }
        ],
    }
    for key in ("meshes", "materials", "accessors", "bufferViews"):
        document[key] = []
    blocks: list[bytes] = []
    for surface in surfaces:
        segment = surface.segment
        place = _gltf_array(document, blocks, surface.vertices_mm.astype("<f4"), 5126, 34962)
        normal = _gltf_array(document, blocks, surface.normals().astype("<f4"), 5126, 34962)
        index = _gltf_array(document, blocks, surface.triangles.ravel().astype("<u4"), 5125, 34963)
        number = len(document["meshes"])
        document["nodes"].append({"name": segment.label, "mesh": number, "extras": {"number": segment.number}})
        document["materials"].append(
            {
                "name": segment.label,
                "pbrMetallicRoughness": {
                    "baseColorFactor": [*(_linear(channel) for channel in segment.rgb), 1.0],
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.7,
                },
            }
        )
        primitive = {"attributes": {"POSITION": place, "NORMAL": normal}, "indices": index, "material": number}
        document["meshes"].append({"name": segment.label, "primitives": [primitive]})
    binary = b"".join(blocks)
    document["buffers"] = [{"byteLength": len(binary)}]
    text = json.dumps(document, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary))
    return head + struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


FORMATS: dict[str, Callable[[Sequence[Surface]], bytes]] = {".stl": stl, ".obj": obj, ".ply": ply, ".vtp": vtp, ".glb": glb}


def _counts(surfaces: Sequence[Surface]) -> list[int]:
    return [len(surface.vertices_mm) for surface in surfaces]


def _numbers(surfaces: Sequence[Surface], counts: Sequence[int]) -> npt.NDArray[np.int32]:
    return np.repeat(np.array([surface.segment.number for surface in surfaces], np.int64), counts).astype(np.int32)


def _joined(surfaces: Sequence[Surface]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """All vertices, and all triangles with the indices that these then have."""
    first = np.concatenate([[0], np.cumsum(_counts(surfaces))])
    triangles = [surface.triangles + np.int32(start) for surface, start in zip(surfaces, first[:-1], strict=True)]
    return np.concatenate([surface.vertices_mm for surface in surfaces]), np.concatenate(triangles)


def _vtk_array(kind: str, name: str, components: int, offsets: dict[str, int]) -> str:
    parts = f' NumberOfComponents="{components}"' if components > 1 else ""
    return f'<DataArray type="{kind}" Name="{name}"{parts} format="appended" offset="{offsets[name]}"/>'


def _vtk_strings(name: str, values: Sequence[str]) -> str:
    """Strings as VTK writes them into XML: the codes of their UTF-8 bytes, each string ended by 0."""
    codes = " ".join(f"{' '.join(str(byte) for byte in value.encode('utf-8'))} 0" for value in values)
    return f'<Array type="String" Name="{name}" NumberOfTuples="{len(values)}" format="ascii">{codes}</Array>'


def _gltf_array(document: dict[str, Any], blocks: list[bytes], array: npt.NDArray[Any], kind: int, target: int) -> int:
    """Add an array to the buffer and return its accessor; all parts have multiples of four bytes."""
    start = sum(len(block) for block in blocks)
    blocks.append(array.tobytes())
    document["bufferViews"].append({"buffer": 0, "byteOffset": start, "byteLength": array.nbytes, "target": target})
    accessor: dict[str, Any] = {"bufferView": len(document["bufferViews"]) - 1, "componentType": kind, "count": len(array)}
    accessor["type"] = "VEC3" if array.ndim == 2 else "SCALAR"
    if array.ndim == 2:
        accessor |= {"min": array.min(axis=0).tolist(), "max": array.max(axis=0).tolist()}
    document["accessors"].append(accessor)
    return len(document["accessors"]) - 1


def _linear(channel: int) -> float:
    """A colour channel of sRGB (0 to 255) as glTF has it: linear, 0 to 1."""
    value = channel / 255
    return round(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4, 6)

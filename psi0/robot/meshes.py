"""Binary STL in, fewer triangles, binary STL out: the visual meshes are made for screens, not for two CPU cores."""

import numpy as np
from numpy.typing import NDArray

from psi0.errors import Psi0Error

_HEADER_BYTES = 80
_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_MERGE_DECIMALS = 6


def read_stl(content: bytes) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Vertices `(n, 3)` and faces `(m, 3)` of a binary STL; equal corners become one vertex, slivers are dropped."""
    count = int(np.frombuffer(content, "<u4", 1, _HEADER_BYTES)[0])
    if len(content) < _HEADER_BYTES + 4 + count * _TRIANGLE.itemsize:
        raise Psi0Error("a mesh is truncated; run `make setup`")
    corners = np.frombuffer(content, _TRIANGLE, count, _HEADER_BYTES + 4)["corners"].reshape(-1, 3)
    vertices, index = np.unique(corners.round(_MERGE_DECIMALS), axis=0, return_inverse=True)
    faces = index.reshape(-1, 3).astype(np.int32)
    a, b, c = faces.T
    return vertices.astype(np.float32), faces[(a != b) & (b != c) & (a != c)]


def write_stl(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> bytes:
    """A binary STL with normals; its header is zeros, so equal meshes give equal bytes."""
    triangles = np.zeros(len(faces), _TRIANGLE)
    corners = vertices[faces]
    triangles["corners"] = corners
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    triangles["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return bytes(_HEADER_BYTES) + np.uint32(len(faces)).tobytes() + triangles.tobytes()


def decimate(content: bytes, most_faces: int) -> tuple[bytes, int, int]:
    """Return (STL of at most about `most_faces` triangles, faces before, faces after)."""
    import fast_simplification

    vertices, faces = read_stl(content)
    before = len(faces)
    if before > most_faces:
        vertices, faces = fast_simplification.simplify(vertices, faces, target_reduction=1 - most_faces / before, agg=9)
    return write_stl(np.asarray(vertices, np.float32), np.asarray(faces, np.int32)), before, len(faces)

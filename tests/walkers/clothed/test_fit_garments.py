"""Fitting of garments: rays, binding files, the map between meshes, on shapes made by hand."""

import numpy as np
import pytest
from fit_garments import fitted, read_obj, regressed, thickness, triangles, vertex_map

CUBE = """v -1 -1 -1
v 1 -1 -1
v 1 1 -1
v -1 1 -1
v -1 -1 1
v 1 -1 1
v 1 1 1
v -1 1 1
g body
f 1 4 3 2
f 5 6 7 8
f 1 2 6 5
f 3 4 8 7
g joint-knee
f 1 2 3 4
g body
f 2 3 7 6
f 4 1 5 8
"""


@pytest.fixture
def cube(tmp_path):
    (tmp_path / "cube.obj").write_text(CUBE)
    return read_obj(tmp_path / "cube.obj")


def test_joints_are_no_part_of_a_mesh(cube):
    vertices, faces = cube
    assert vertices.shape == (8, 3)
    assert len(faces) == 6
    assert triangles(faces).shape == (12, 3)


def test_rays_measure_how_far_a_garment_lies_outside(cube):
    vertices, faces = cube
    garment = vertices * 0.13
    points = np.array([[0.10, 0.01, 0.02], [0, 0.12, 0], [0.03, 0.01, 0.1], [0.05, 0, 0]])
    normals = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    found = thickness(points, normals, garment, triangles(faces))
    assert found[:3] == pytest.approx([0.03, 0.01, 0.03], abs=1e-6)
    assert found[3] == 0  # farther than the reach: another limb's sleeve


def test_a_garment_is_bound_to_the_mesh_and_scaled(tmp_path, cube):
    vertices, _ = cube
    (tmp_path / "a.mhclo").write_text(
        "x_scale 0 1 4.0\nverts 0\nmaterial a.mhmat\n"
        "0 1 2 0.5 0.5 0 1 0 0\n7\n\ndelete_verts\n1 - 3\n"
    )
    points = fitted(tmp_path / "a.mhclo", vertices)
    assert points.tolist() == [[0.5, -1, -1], [-1, 1, 1]]


def test_vertices_that_were_removed_are_skipped_in_the_map(cube):
    faces = [[0, 1, 2, 3], [2, 3, 5, 6], [5, 6, 7, 8]]  # vertex 4 was removed from the body
    body = np.array([[0, 1, 2], [2, 3, 0], [2, 3, 4], [4, 5, 2], [4, 5, 6], [6, 7, 4]])
    assert vertex_map(body, 8, faces).tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_regression_finds_mean_and_change():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(60, 12))
    values = 2.0 + scores[:, :1] * np.array([[1.0, 0.0, -0.5]])
    layers = regressed(values, scores)
    assert layers[0] == pytest.approx([2.0, 2.0, 2.0], abs=0.02)
    assert layers[1] == pytest.approx([1.0, 0.0, -0.5], abs=0.02)

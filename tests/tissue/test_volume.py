"""Label volumes and inclusions: files read back, and one clear line for every mistake."""

import warnings

import h5py
import jax
import numpy as np
import pytest
import scipy.io

from qtwin.core.errors import FieldError, UserError
from qtwin.tissue.solids.inclusions import Box, Cylinder, Inclusions, Sphere, overlap
from qtwin.tissue.solids.light import beam, light
from qtwin.tissue.solids.volume import Labels, Volume
from qtwin.tissue.solids.walk import solid_fates, solid_walk

LABELS = np.random.default_rng(3).integers(0, 4, (2, 3, 4)).astype(np.uint8)
LABELS[0, 0, :2] = 0, 2
MEDIA = {"mu_a": [1, 2, 3], "mu_s": [100, 200, 300], "g": [0.1, 0.2, 0.3], "n": 1.4}
HOST = {"thickness": "10 mm", "mu_a": 1, "mu_s": 100, "g": 0.5, "n": 1.4}


# --- files -----------------------------------------------------------------------------------------------------


def write(kind, file, labels=LABELS):
    if kind.startswith(".nii"):
        nibabel = pytest.importorskip("nibabel")
        image = nibabel.Nifti1Image(labels.astype(np.int16), np.diag([0.5, 2, 3, 1]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, file)
    elif kind == ".npy":
        np.save(file, labels)
    elif kind == ".npz":
        np.savez(file, head=labels, voxel=np.ones(3))
    elif kind == ".mat":
        scipy.io.savemat(file, {"head": labels, "voxel": np.ones(3)})
    else:
        with h5py.File(file, "w", userblock_size=512) as store:  # as MATLAB 7.3 writes it
            store["head"] = labels.T
        with file.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")


@pytest.mark.parametrize("kind", [".nii", ".nii.gz", ".npy", ".npz", ".mat", "_v73.mat"])
def test_a_volume_is_read_back(kind, tmp_path):
    """Every axis in its place; a NIfTI header tells the voxel."""
    file = tmp_path / f"head{kind}"
    write(kind, file)
    sides = {} if kind.startswith(".nii") else {"voxel": ("0.5 mm", "2 mm", "3 mm")}
    made = Volume.from_file(file, **sides, **MEDIA)
    np.testing.assert_array_equal(made.labels.values, LABELS)
    assert made.voxel == pytest.approx((0.5e-3, 2e-3, 3e-3))
    with pytest.raises(UserError, match="memory_limit"):
        Volume.from_file(file, **sides, **MEDIA, memory_limit=20)
    if not sides:
        assert Volume.from_file(file, voxel="1 mm", **MEDIA).voxel == (1e-3,) * 3
    else:
        with pytest.raises(FieldError, match=r"^voxel: got nothing"):
            Volume.from_file(file, **MEDIA)


@pytest.mark.parametrize("name", ["none.mat", "folder.npy", "text.png", "bad.nii", "bad.npy", "bad.npz", "bad.mat"])
def test_a_file_that_cannot_be_read_is_refused(name, tmp_path):
    (tmp_path / "folder.npy").mkdir()
    for bad in ("text.png", "bad.nii", "bad.npy", "bad.npz", "bad.mat"):
        (tmp_path / bad).write_bytes(b"no volume at all")
    with pytest.raises(FieldError, match=r"^file: .*accepted is one NIfTI") as caught:
        Volume.from_file(tmp_path / name, voxel="1 mm", **MEDIA)
    assert "\n" not in str(caught.value)


def test_one_of_several_arrays_is_picked_by_name(tmp_path):
    np.savez(tmp_path / "two.npz", a=LABELS, b=LABELS[::-1])
    with pytest.raises(FieldError, match=r"2 3-D arrays \(a, b\): give the name"):
        Volume.from_file(tmp_path / "two.npz", voxel=1e-3, **MEDIA)
    with pytest.raises(FieldError, match="holds no 3-D array 'c'"):
        Volume.from_file(tmp_path / "two.npz", voxel=1e-3, name="c", **MEDIA)
    made = Volume.from_file(tmp_path / "two.npz", voxel=1e-3, name="b", **MEDIA)
    assert made.labels == Labels(LABELS[::-1]) != Labels(LABELS)


# --- mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.full((2, 2, 2), 4)}, "labels: got label 4 without properties, accepted is 0 to 3"),
        ({"labels": np.zeros((2, 2, 2))}, "labels: got label 0 alone"),
        ({"labels": np.full((2, 2, 2), np.nan)}, "labels: got a voxel with nan"),
        ({"labels": np.full((2, 2, 2), 1.5)}, "labels: got a voxel with 1.5"),
        ({"labels": np.full((2, 2, 2), 256)}, "labels: got a voxel with 256"),
        ({"labels": np.full((2, 2, 2), -1)}, "labels: got a voxel with -1"),
        ({"labels": np.full((2, 2, 2), "a")}, "labels: got values of type"),
        ({"labels": np.ones((2, 2))}, r"labels: got an array of shape \(2, 2\)"),
        ({"labels": np.ones((0, 2, 2))}, r"labels: got an array of shape \(0, 2, 2\)"),
        ({"labels": np.broadcast_to(np.uint8(1), (2048, 2048, 1024))}, "labels: got 4294967296 voxels"),
        ({"voxel": "3 s"}, "voxel: got '3 s'"),
        ({"voxel": float("nan")}, "voxel: got nan"),
        ({"voxel": (1e-3, 1e-3)}, "voxel: got 2 values"),
        ({"voxel": 0}, "voxel: got 0"),
        ({"voxel": 100}, "voxel: got 400 m across, 120000 scattering lengths"),
        ({"mu_a": [1, 2]}, "mu_a: got 2 values for 3 labels"),
        ({"mu_a": [1, float("nan"), 2]}, "mu_a: got"),
        ({"mu_s": -1}, "mu_s: got -0.001 /mm"),
        ({"g": [0, 1, 0]}, "g: got"),
        ({"n": 0.9}, "n: got 0.9"),
    ],
)
def test_a_wrong_volume_is_refused(changes, message):
    with pytest.raises(FieldError, match=f"^{message}") as caught:
        Volume(**{"labels": LABELS, "voxel": "1 mm", **MEDIA, **changes})
    assert "\n" not in str(caught.value)


BALL = Sphere((0, 0, "5 mm"), "3 mm")


@pytest.mark.parametrize(
    ("shapes", "changes", "message"),
    [
        ([Sphere((0, 0, "5 mm"), "6 mm")], {}, "shapes: got number 1 from z = -1 mm to 11 mm"),
        ([BALL, Box((0, 0, 0), (1e-3, 1e-3, 11e-3))], {}, "shapes: got number 2 from z = 0 m to 11 mm"),
        ([BALL, Sphere(("5.9 mm", 0, "5 mm"), "3 mm")], {}, "shapes: got numbers 1 and 2 that overlap"),
        ([BALL, Sphere((0, 0, "5 mm"), "1 mm")], {}, "shapes: got numbers 1 and 2 that overlap"),
        ([BALL], {"n": [1.4, 1.5]}, "n: got 1.5 for shape 1 in a host of 1.4"),
        ([BALL], {"mu_a": [1, 2, 3]}, "mu_a: got 3 values for 2 media"),
        ([BALL], {"thickness": "0 mm"}, "thickness: got 0"),
        ([BALL], {"thickness": 200}, "thickness: got 200 m across"),
        (["ball"], {}, "shapes: got 'ball'"),
    ],
)
def test_wrong_inclusions_are_refused(shapes, changes, message):
    with pytest.raises(FieldError, match=f"^{message}") as caught:
        Inclusions(shapes=shapes, **(HOST | changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sphere((0, 0), 1), "centre: got"),
        (lambda: Sphere((0, 0, float("nan")), 1), "centre: got"),
        (lambda: Sphere((0, 0, 1), -1), "radius: got -1"),
        (lambda: Box((0, 0, 0), (1, 0, 1)), "high: got"),
        (lambda: Cylinder((0, 0, 1), (0, 0, 1), 1), "end: got the start again"),
        (lambda: Cylinder((0, 0, 1), (0, 0, 2), "1 s"), "radius: got '1 s'"),
    ],
)
def test_a_wrong_shape_is_refused(make, message):
    with pytest.raises(FieldError, match=f"^{message}"):
        make()


CUBE = Box((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("other", "shares"),
    [
        (Box((1, 0, 0), (2, 1, 1)), False),  # a whole side touches
        (Box((0.999, 0.999, 0.999), (2, 2, 2)), True),
        (Sphere((1.2, 1.2, 1.2), 0.2 * 3**0.5), False),  # touches the corner
        (Sphere((1.2, 1.2, 1.2), 0.2 * 3**0.5 + 1e-3), True),
        (Cylinder((1.3, -1, 0.5), (1.3, 2, 0.5), 0.3), False),  # lies along a side
        (Cylinder((1.3, -1, 0.5), (1.3, 2, 0.5), 0.301), True),
        (Cylinder((2, 0, 0.5), (0, 2, 0.5), 0.1), True),  # touches the edge x = y = 1 with its axis
        (Cylinder((2.2, 0, 0.5), (0, 2.2, 0.5), 0.1), False),
        (Cylinder((2.2, 0, 0.5), (0, 2.2, 0.5), 0.15), True),
        (Cylinder((0.5, 0.5, -1), (0.5, 0.5, 2), 0.1), True),  # goes right through
    ],
)
def test_shapes_that_share_more_than_their_surface(other, shares):
    assert overlap(CUBE, other) == shares and overlap(other, CUBE) == shares


def test_spheres_that_touch_do_not_overlap():
    away = np.array([1.0, 2.0, -2.0]) / 3
    one = Sphere((0.1, 0.2, 0.3), 0.7)
    assert not overlap(one, Sphere(tuple(np.array(one.centre) + 1.0 * away), 0.3))
    assert overlap(one, Sphere(tuple(np.array(one.centre) + 1.0 * away), 0.3001))


SOLID = Volume(LABELS, "1 mm", **MEDIA)
INSIDE = light((0.5e-3, 0.5e-3, 1.5e-3), (0, 0, 1))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda: solid_walk(SOLID, INSIDE, key=jax.random.key(0), photons=1 << 20, memory_limit=1e6),
            "walk.photons: 10",
        ),
        (lambda: solid_walk(SOLID, INSIDE, key=jax.random.key(0), photons=0), "walk.photons: got 0"),
        (lambda: solid_walk(SOLID, INSIDE, key=jax.random.key(0), photons=32, gate=0.0), "walk.gate: got 0"),
        (
            lambda: solid_walk(SOLID, light(np.ones((40, 3)), (0, 0, 1)), key=jax.random.key(0), photons=64),
            "walk.photons: got 64 for 40 rays",
        ),
        (
            lambda: solid_walk(SOLID, light((0.5e-3, 0.5e-3, 0.5e-3), (0, 0, 1)), key=jax.random.key(0), photons=32),
            "light.position: got 32 photons whose light starts outside",
        ),
        (lambda: beam(SOLID, (1, 1, 1), (0, 0, 1)), "light.position: a beam from"),
        (lambda: beam(SOLID, (0.5e-3, 0.5e-3, -1.0), (0, 0, -1)), "light.position: a beam from"),
        (lambda: beam(Inclusions(shapes=[BALL], **HOST), (0, 0, -1), (0, 0, -1)), "light.position: a beam from"),
        (lambda: light((0, 0), (0, 0, 1)), "light.position: got an array of shape"),
        (lambda: light((0, 0, np.nan), (0, 0, 1)), "light.position: got a value that is not finite"),
        (lambda: light((0, 0, 0), (0, 0, 0)), "light.direction: got a direction of length 0"),
        (lambda: light((0, 0, 0), (0, 0, 1), 1.5), "light.entrance: got 1.5"),
        (
            lambda: solid_walk(
                Inclusions(shapes=[BALL], **HOST), INSIDE, key=jax.random.key(0), photons=32, fluence=True
            ),
            "walk.fluence: got a solid without voxels",
        ),
    ],
)
def test_a_wrong_walk_is_refused(run, message):
    with pytest.raises(UserError, match=f"^{message}") as caught:
        run()
    assert "\n" not in str(caught.value)


def test_light_that_could_never_end_is_refused():
    """Total reflection on all sides of a clear block; and straight along a clear slab."""
    block = Volume(np.ones((2, 2, 2), np.uint8), "1 mm", mu_a=0, mu_s=0, g=0, n=2)
    slab = Inclusions("10 mm", [], mu_a=0, mu_s=0, g=0, n=1.4)
    for made, way in ((block, (1, 1.1, 1.2)), (slab, (1, 0, 0))):
        with pytest.raises(UserError, match="can never end"):
            solid_walk(made, light((0.5e-3, 0.6e-3, 0.7e-3), way), key=jax.random.key(0), photons=32)


def test_fates_of_another_geometry_are_refused():
    walked = solid_walk(SOLID, INSIDE, key=jax.random.key(0), photons=32)
    with pytest.raises(FieldError, match="another geometry"):
        solid_fates(Volume(LABELS[::-1], "1 mm", **MEDIA), walked)
    with pytest.raises(FieldError, match="another geometry"):
        solid_fates(Volume(LABELS, "2 mm", **MEDIA), walked)
    solid_fates(Volume(LABELS.copy(), "1 mm", **MEDIA), walked)


def test_a_solid_is_printed_and_its_labels_cannot_change():
    mine = LABELS.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = Volume(mine, "1 mm", **MEDIA)
    mine[:] = 1
    assert made == made and "2 x 3 x 4 voxels, labels 0 to 3" in str(made)
    np.testing.assert_array_equal(made.labels.values, LABELS)
    with pytest.raises(ValueError, match="read-only"):
        made.labels.values[0, 0, 0] = 1
    assert "Sphere" in str(Inclusions(shapes=[BALL], **HOST))

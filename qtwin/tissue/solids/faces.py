"""Where the faces are: the two kinds of geometry that the solid walk is compiled for, voxels and shapes in a slab.

Each is three functions, as `qtwin.tissue.solids.engine` uses them. Distances in m, float64; a region is three integers.
Voxels are left face by face, exactly; a ray meets a sphere or a cylinder at the roots of its quadratic.
"""

import numpy as np

from qtwin.core.compiled import CPU

_FAR = np.inf

# --- voxels: geometry (labels, side x, side y, side z); region = voxel i, j, k ------------------------------------


@CPU.compile
def _cell(x, u, side):
    """Voxel number along one axis: on a face, the one ahead."""
    number = int(np.floor(x / side + 0.5))
    if abs(x - number * side) <= 1e-9 * side:
        return number - 1 if u < 0 else number
    return int(np.floor(x / side))


@CPU.compile
def place_voxel(geometry, x, y, z, ux, uy, uz):
    labels, a, b, c = geometry
    i, j, k = _cell(x, ux, a), _cell(y, uy, b), _cell(z, uz, c)
    inside = 0 <= i < labels.shape[0] and 0 <= j < labels.shape[1] and 0 <= k < labels.shape[2]
    return i, j, k, int(labels[i, j, k]) if inside else 0


@CPU.compile
def ahead_voxel(geometry, i, j, k, x, y, z, ux, uy, uz, free):
    _, a, b, c = geometry
    x0, y0, z0 = i * a, j * b, k * c
    x1, y1, z1 = (i + 1) * a, (j + 1) * b, (k + 1) * c
    ex, ey, ez = x + ux * free, y + uy * free, z + uz * free
    if x0 <= ex <= x1 and y0 <= ey <= y1 and z0 <= ez <= z1:
        return free, -1
    tx = (x1 - x if ux > 0 else x0 - x) / ux if ux != 0 else _FAR
    ty = (y1 - y if uy > 0 else y0 - y) / uy if uy != 0 else _FAR
    tz = (z1 - z if uz > 0 else z0 - z) / uz if uz != 0 else _FAR
    gap, face = tx, int(ux > 0)
    if ty < gap:
        gap, face = ty, 2 + int(uy > 0)
    if tz < gap:
        gap, face = tz, 4 + int(uz > 0)
    gap = max(gap, 0.0)
    if gap > free:
        return free, -1
    return gap, face


@CPU.compile
def beyond_voxel(geometry, i, j, k, face):
    labels, a, b, c = geometry
    axis, up = face >> 1, face & 1
    move = 2 * up - 1
    plane = 0.0
    if axis == 0:
        plane = (i + up) * a
        i += move
    elif axis == 1:
        plane = (j + up) * b
        j += move
    else:
        plane = (k + up) * c
        k += move
    inside = 0 <= i < labels.shape[0] and 0 <= j < labels.shape[1] and 0 <= k < labels.shape[2]
    return i, j, k, int(labels[i, j, k]) if inside else 0, plane


# --- shapes in a slab: geometry (thickness, kinds, rows); region i = 0 the host, 1 + k in shape k -------------------

SPHERE, BOX, CYLINDER = 0, 1, 2  # rows: centre, radius | low, high | base, axis, height, radius
SLACK = 1e-9  # of the thickness: chords shorter than this are not told from rounding


@CPU.compile
def _between(low, high, x, u):
    """Flight (from, to) between two planes."""
    if u == 0:
        if low <= x <= high:
            return -_FAR, _FAR
        return _FAR, -_FAR
    one, two = (low - x) / u, (high - x) / u
    return min(one, two), max(one, two)


@CPU.compile
def _round(dx, dy, dz, vx, vy, vz, radius):
    """Flight (from, to) inside |d + t v| < radius."""
    a = vx * vx + vy * vy + vz * vz
    b = dx * vx + dy * vy + dz * vz
    c = dx * dx + dy * dy + dz * dz - radius * radius
    if a < 1e-20:
        if c <= 0:
            return -_FAR, _FAR
        return _FAR, -_FAR
    inner = b * b - a * c
    if inner <= 0:
        return _FAR, -_FAR
    root = np.sqrt(inner)
    return (-b - root) / a, (-b + root) / a


@CPU.compile
def _chord(kind, row, x, y, z, ux, uy, uz):
    """Flight (from, to) inside one shape; from > to if the line misses it."""
    dx, dy, dz = x - row[0], y - row[1], z - row[2]
    if kind == SPHERE:
        return _round(dx, dy, dz, ux, uy, uz, row[3])
    if kind == BOX:
        x0, x1 = _between(row[0], row[3], x, ux)
        y0, y1 = _between(row[1], row[4], y, uy)
        z0, z1 = _between(row[2], row[5], z, uz)
        return max(x0, y0, z0), min(x1, y1, z1)
    height = dx * row[3] + dy * row[4] + dz * row[5]
    climb = ux * row[3] + uy * row[4] + uz * row[5]
    h0, h1 = _between(0.0, row[6], height, climb)
    px, py, pz = dx - height * row[3], dy - height * row[4], dz - height * row[5]
    vx, vy, vz = ux - climb * row[3], uy - climb * row[4], uz - climb * row[5]
    r0, r1 = _round(px, py, pz, vx, vy, vz, row[7])
    return max(h0, r0), min(h1, r1)


@CPU.compile
def place_shape(geometry, x, y, z, ux, uy, uz):
    thickness, kinds, rows = geometry
    outside = z < 0 or z > thickness or (z == 0 and uz < 0) or (z == thickness and uz > 0)
    region = 0
    for k in range(len(kinds)):
        near, far = _chord(kinds[k], rows[k], x, y, z, ux, uy, uz)
        if near <= 0 < far:
            region = k + 1
    return region, 0, 0, 0 if outside else region + 1


@CPU.compile
def ahead_shape(geometry, i, j, k, x, y, z, ux, uy, uz, free):
    thickness, kinds, rows = geometry
    if i > 0:
        _, far = _chord(kinds[i - 1], rows[i - 1], x, y, z, ux, uy, uz)
        far = max(far, 0.0)
        if free < far:
            return free, -1
        return far, 5 + i
    gap, face = free, -1
    wall = (thickness - z) / uz if uz > 0 else (-z / uz if uz < 0 else _FAR)
    if wall <= gap:
        gap, face = max(wall, 0.0), 4 + int(uz > 0)
    slack = SLACK * thickness
    for n in range(len(kinds)):
        near, far = _chord(kinds[n], rows[n], x, y, z, ux, uy, uz)
        if -slack < near < far and far > slack and near < gap:
            gap, face = max(near, 0.0), 6 + n
    return gap, face


@CPU.compile
def beyond_shape(geometry, i, j, k, face):
    thickness = geometry[0]
    if face == 4:
        return 0, 0, 0, 0, 0.0
    if face == 5:
        return 0, 0, 0, 0, thickness
    region = 0 if i > 0 else face - 5
    return region, 0, 0, region + 1, 0.0

"""Second-order nonlinearity: tensors of the crystals, d_eff of a direction, and what poling leaves of it."""

import jax.numpy as jnp

from qtwin.source.sellmeier import to_float


def _trigonal(d22, d31, d33):
    """Class 3m, Kleinman symmetry, mirror plane perpendicular to x."""
    return ((0, 0, 0, 0, d31, -d22), (-d22, d22, 0, d31, 0, 0), (d31, d31, d33, 0, 0, 0))


# d_il in pm/V, rows x, y, z of the dielectric frame, columns xx, yy, zz, yz, zx, xy.
TENSORS = {
    # Shoji, Kondo & Ito, J. Opt. Soc. Am. B 16, 620 (1999), at 1064 nm, as quoted by ndispers
    "BBO": _trigonal(2.2, 0.04, 0.04),
    # Shoji, Kondo, Kitamoto, Shirane & Ito, J. Opt. Soc. Am. B 14, 2268 (1997), at 1064 nm, as quoted by ndispers;
    # d22 of Roberts, IEEE J. Quantum Electron. 28, 2057 (1992)
    "LiNbO3": _trigonal(-2.1, 4.6, 25.2),
    "MgO:LiNbO3": _trigonal(-2.1, 4.4, 25.0),
    # d31 = d15, d32 = d24, d33 of Shoji et al. (1997), at 1064 nm, as quoted by ndispers; z is the polar axis
    "KTP": ((0, 0, 0, 0, 2.2, 0), (0, 0, 0, 3.7, 0, 0), (2.2, 3.7, 14.6, 0, 0, 0)),
    # Velsko, Webb, Davis & Huang (1991), at 1064 nm, as compiled by Roberts (1992) and quoted by ndispers;
    # the polar axis is y, x the crystal's a and z its b: d31 = d_yxx, d32 = d_yzz, d33 = d_yyy
    "LBO": ((0, 0, 0, 0, 0, -0.67), (-0.67, 0.04, 0.85, 0, 0, 0), (0, 0, 0, 0.85, 0, 0)),
    # Eckardt, Masuda, Fan & Byer, IEEE J. Quantum Electron. 26, 922 (1990), at 1064 nm, as quoted by ndispers
    "KDP": ((0, 0, 0, 0.39, 0, 0), (0, 0, 0, 0, 0.39, 0), (0, 0, 0, 0, 0, 0.39)),
}


def polarisation(ray: str, plane: str, angle, azimuth):
    """Unit vector [3] of the field D of ray x, y, z, o or e in the dielectric frame.

    ``angle`` (rad) lies in the plane of the interaction: from z in the planes of z, from x in XY; ``azimuth``
    (rad, from x) turns the plane of a uniaxial crystal (plane "").
    """
    if ray in "xyz":
        return jnp.eye(3, dtype=to_float(0.0).dtype)["xyz".index(ray)]
    angle, azimuth = to_float(angle), to_float(azimuth)
    theta = jnp.full_like(angle, jnp.pi / 2) if plane == "XY" else angle
    phi = {"": azimuth, "XZ": jnp.zeros_like(angle), "YZ": jnp.full_like(angle, jnp.pi / 2), "XY": angle}[plane]
    along = jnp.stack([-jnp.cos(theta) * jnp.cos(phi), -jnp.cos(theta) * jnp.sin(phi), jnp.sin(theta)])
    across = jnp.stack([jnp.sin(phi), -jnp.cos(phi), jnp.zeros_like(phi)])
    return along if (ray == "e") != (plane == "XY") else across


def effective_nonlinearity(crystal: str, rays: str, plane: str, angle, azimuth=0.0):
    """d_eff = e_p . d : (e_s e_i), m/V: the signed sum over the tensor for the rays of pump, signal and idler.

    Boyd, Nonlinear Optics, 3rd ed., section 1.5.6. BBO: 'eoo' d31 sin(theta) - d22 cos(theta) sin(3 phi), 'eoe'
    d22 cos^2(theta) cos(3 phi). The angle between E and D (walk-off, below 2 % in d_eff) and the dispersion of d
    (Miller's rule: some 10 to 20 % from 1064 nm to blue pumps) are left out.
    """
    pump, signal, idler = (polarisation(ray, plane, angle, azimuth) for ray in rays)
    mixed = [signal[j] * idler[k] + signal[k] * idler[j] for j, k in ((1, 2), (0, 2), (0, 1))]
    pairs = jnp.stack([*(signal * idler), *mixed])
    return 1e-12 * pump @ to_float(TENSORS[crystal]) @ pairs


def grating_coefficient(order: int, duty=0.5):
    """G_m = 2 sin(pi m D)/(pi m), m != 0; G_0 = 1: share of d_eff that order m of a poled crystal keeps.

    Fourier coefficient (phase aside) of a square wave +1 over the share D of the period, -1 over the rest
    (Fejer, Magel, Jundt & Byer, IEEE J. Quantum Electron. 28, 2631 (1992)). Order 0 is the unpoled crystal.
    """
    if order == 0:
        return to_float(1.0)
    return 2 * jnp.sin(jnp.pi * order * to_float(duty)) / (jnp.pi * order)

"""Reflection at a plane interface, unpolarised light."""

import jax.numpy as jnp


def reflectance(cos_in, n_in, n_out):
    """Fresnel: R = (r_s^2 + r_p^2)/2, r_s = (n1 c1 - n2 c2)/(n1 c1 + n2 c2), r_p = (n1 c2 - n2 c1)/(n1 c2 + n2 c1).

    Born & Wolf, Principles of Optics, 7th ed., section 1.5.2. ``cos_in`` > 0 is the cosine of the angle
    of incidence, the ``n`` are refractive indices; elementwise. Returns (R, cosine in the second medium);
    beyond the critical angle R = 1 and the cosine is 0.
    """
    ratio = n_in / n_out
    sin2 = ratio * ratio * (1 - cos_in * cos_in)
    total = sin2 >= 1
    cos_out = jnp.sqrt(jnp.where(total, 0, 1 - jnp.where(total, 0, sin2)))
    r_s = (n_in * cos_in - n_out * cos_out) / (n_in * cos_in + n_out * cos_out)
    r_p = (n_in * cos_out - n_out * cos_in) / (n_in * cos_out + n_out * cos_in)
    return jnp.where(total, 1, 0.5 * (r_s * r_s + r_p * r_p)), cos_out


def normal_reflectance(n_in, n_out):
    """R = ((n1 - n2)/(n1 + n2))^2 at normal incidence."""
    return ((n_in - n_out) / (n_in + n_out)) ** 2

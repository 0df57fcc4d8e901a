"""Reflection at a plane interface, unpolarised light."""

from collections.abc import Callable

from qtwin.core.elementary import XLA, Elementary


def interface(do: Elementary) -> Callable:
    """`reflectance` in the operations of one compiler."""
    where, sqrt = do.where, do.sqrt
    one, zero, half = do.number(1), do.number(0), do.number(0.5)

    @do.compile
    def reflectance(cos_in, n_in, n_out):
        """Fresnel: R = (r_s^2 + r_p^2)/2, r_s = (n1 c1 - n2 c2)/(n1 c1 + n2 c2), r_p = (n1 c2 - n2 c1)/(n1 c2 + n2 c1).

        Born & Wolf, Principles of Optics, 7th ed., section 1.5.2. ``cos_in`` > 0 is the cosine of the angle
        of incidence, the ``n`` are refractive indices; elementwise. Returns (R, cosine in the second medium);
        beyond the critical angle R = 1 and the cosine is 0.
        """
        square = n_out * n_out - n_in * n_in * (one - cos_in * cos_in)
        total = square <= zero
        # n_out times the cosine beyond; the root's slope at 0 is infinite
        beyond = where(total, zero, sqrt(where(total, one, square)))
        incident, mixed = n_in * cos_in, n_out * n_out * cos_in
        s_up, s_down = incident - beyond, incident + beyond
        p_up, p_down = n_in * beyond - mixed, n_in * beyond + mixed
        below = where(total, one, s_down * p_down)
        mirror = half * (s_up * s_up * p_down * p_down + p_up * p_up * s_down * s_down) / (below * below)
        return where(total, one, mirror), beyond / n_out

    return reflectance


reflectance = interface(XLA)


def normal_reflectance(n_in, n_out):
    """R = ((n1 - n2)/(n1 + n2))^2 at normal incidence."""
    return ((n_in - n_out) / (n_in + n_out)) ** 2

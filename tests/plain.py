"""Slow and plain: what quick code is compared with."""

import numpy as np


def plain_alive(ticks, element, dead):
    """One by one: a click blinds its element for [t, t + dead)."""
    clicks, until = [], {}
    for t, e in zip(ticks.tolist(), element.tolist(), strict=True):
        clicks.append(t >= until.get(e, t))
        if clicks[-1]:
            until[e] = t + dead
    return np.array(clicks, bool)

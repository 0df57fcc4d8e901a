"""One figure as text for the console."""

from collections.abc import Mapping

import numpy as np


def plain(leaf: Mapping) -> str:
    """Value and error to two digits of the error; an exact value to six."""
    value, error = leaf["value"], leaf["stderr"]
    if "below" in leaf:
        return f"{value:.3g} (below {leaf['below']:.2g}, 95 %)"
    if not error > 0:
        return f"{value:.6g} (exact)"
    digits = max(int(np.ceil(-np.log10(error))) + 1, 0)
    if abs(value) < 1e-3 or digits > 9:
        return f"{value:.3g} ± {error:.2g}"
    return f"{value:.{digits}f} ± {error:.{digits}f}"

"""Elementary operations as numba compiles them: without branches, so that loops over lanes become vector code.

Imported only where a walk runs on a CPU: numba costs a second to import.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from qtwin.core.elementary import Elementary

# products and sums may be fused and divisions turned; infinities and NaN keep their meaning
FAST: dict[str, Any] = {"fastmath": {"contract", "arcp", "nsz"}, "error_model": "numpy", "nogil": True}
# within other compiled code only: numba need not prepare calls from Python, a third of its time
INNER: dict[str, Any] = FAST | {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_compile = njit(**INNER, forceinline=True)  # of the functions of a law: one loop body
_single = np.float32

# numba types a real literal as float64 and promotes 32-bit integers to 64: every constant is made narrow
_ONE, _HALF = _single(1), _single(0.5)
_LN2_HIGH, _LN2_LOW = _single(0.693359375), _single(-2.12194440e-4)
_MANTISSA, _ROOT_HALF = np.uint32(0x007FFFFF), np.uint32(0x3F3504F3)
_SHIFT = np.int32(23)
_P = tuple(
    _single(c)
    for c in (
        *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
        *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    )
)
_P0, _P1, _P2, _P3, _P4, _P5, _P6, _P7, _P8 = _P


WIDEST = '"prefer-vector-width"="512"'
_intrinsic: Any = intrinsic  # adds the context itself, which its type does not say


@_intrinsic
def _bits(context: Any, x: Any) -> Any:
    def code(target, builder, signature, args):
        return builder.bitcast(args[0], target.get_value_type(types.uint32))

    return types.uint32(types.float32), code


@_intrinsic
def _from_bits(context, x):
    def code(target, builder, signature, args):
        return builder.bitcast(args[0], target.get_value_type(types.float32))

    return types.float32(types.uint32), code


@_intrinsic
def widest(context: Any) -> Any:
    """Ask for the widest vectors that the processor has in the function that calls this (LLVM's default is half).

    Speed alone depends on it: where a llvmlite keeps attributes otherwise, the code is narrow, and a test says so.
    """

    def code(target, builder, signature, args):
        if isinstance(builder.function.attributes, set):  # which refuses text attributes by its own ``add``
            set.add(builder.function.attributes, WIDEST)
        return target.get_dummy_value()

    return types.none(), code


@_intrinsic
def where(context, condition, a, b):
    """A select instruction, never a branch."""
    kind = a if a == b else context.unify_types(a, b)

    def code(target, builder, signature, args):
        one, two = (target.cast(builder, v, t, kind) for v, t in zip(args[1:], signature.args[1:], strict=True))
        return builder.select(args[0], one, two)

    return kind(types.boolean, a, b), code


@_intrinsic
def sqrt(context, x):
    """The square-root instruction (libm's function keeps errno, and loops scalar)."""

    def code(target, builder, signature, args):
        return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [args[0].type]), args)

    return x(x), code


@_compile
def log(x: Any) -> Any:
    """Natural logarithm of a positive, normal float32, within 1 unit in the last place.

    x = 2^e m with m in [sqrt(1/2), sqrt 2); a polynomial in m - 1: the coefficients of Moshier's Cephes library, logf.
    """
    shifted = np.uint32(_bits(x) - _ROOT_HALF)
    exponent = _single(np.int32(np.int32(shifted) >> _SHIFT))
    m = _from_bits(np.uint32(np.uint32(shifted & _MANTISSA) + _ROOT_HALF)) - _ONE
    square = m * m
    p = _P0
    p = p * m + _P1
    p = p * m + _P2
    p = p * m + _P3
    p = p * m + _P4
    p = p * m + _P5
    p = p * m + _P6
    p = p * m + _P7
    p = p * m + _P8
    p = p * m * square + _LN2_LOW * exponent - _HALF * square
    return m + p + _LN2_HIGH * exponent


_LOG2E, _BIAS, _LEAST = _single(1.44269504), np.int32(127), _single(-87)
_E = tuple(_single(c) for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1))
_E0, _E1, _E2, _E3, _E4 = _E


@_compile
def exp(x: Any) -> Any:
    """Exponential of a float32 up to 88, within 1 unit in the last place; below -87 it is that of -87 (1.6e-38).

    x = e ln 2 + r with |r| <= ln(2)/2; a polynomial in r: the coefficients of Moshier's Cephes library, expf.
    """
    x = where(x > _LEAST, x, _LEAST)
    scaled = x * _LOG2E
    exponent = np.int32(scaled + where(scaled > _single(0), _HALF, -_HALF))
    whole = _single(exponent)
    r = x - whole * _LN2_HIGH - whole * _LN2_LOW
    p = _E0
    p = p * r + _E1
    p = p * r + _E2
    p = p * r + _E3
    p = p * r + _E4
    p = p * r + _HALF
    power = _from_bits(np.uint32(np.uint32(np.int32(exponent + _BIAS)) << np.uint32(23)))
    return (p * r * r + r + _ONE) * power


CPU = Elementary(where, sqrt, log, np.float32, np.uint32, np.float32, _compile)

"""Every row of the exact table, by the script that the README names."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def proof():
    sys.path.insert(0, str(SCRIPTS))
    import transport_proof

    yield transport_proof
    sys.path.remove(str(SCRIPTS))


@pytest.mark.slow
def test_all_rows_of_adding_doubling(proof):
    """R and T of 44 slabs: errors below 0.2 % or 2e-5, |z| < 4, and z is a normal number on the whole."""
    scores = []
    for row in proof.rows():
        exact = (row["UR1"], row["UT1"])
        both, photons = proof.walked(proof.slab(row), exact, 0.002, jax.random.key(proof.SEED + int(row["id"])))
        for m, e in zip(both, exact, strict=True):
            score, agrees = proof.compare(m, e, photons)
            assert agrees, (row["id"], float(m.value), e, score)
            scores += [score] if e >= 1e-7 else []
    assert len(scores) > 80 and abs(np.mean(np.square(scores)) - 1) < 0.6


def test_the_comparison_can_fail(proof):
    """A coefficient that is off by 2 % is noticed."""
    row = next(r for r in proof.rows() if r["id"] == 9)
    made = proof.slab(row | {"tau": row["tau"] * 1.02})
    both, photons = proof.walked(made, (row["UR1"], row["UT1"]), 0.004, jax.random.key(1))
    assert not proof.compare(both[1], row["UT1"], photons)[1]
    assert not proof.compare(both[0]._replace(value=1e-9, stderr=0.0), 1e-8, 10**9)[1]

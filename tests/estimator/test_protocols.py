"""What every imaging protocol promises to the comparison, whichever it is."""

import jax
import numpy as np
import pytest
from pair_bench import N, bench

from qtwin import job
from qtwin.core.config import compose, find_conf, plain
from qtwin.core.params import parameters
from qtwin.estimator.protocol import AbstractLaw

NAMES = sorted(path.stem for path in (find_conf() / "estimator").glob("*.yaml") if path.stem != "all")


@pytest.fixture(scope="module")
def protocols():
    cfg = plain(compose([f"estimator=[{','.join(NAMES)}]"]))
    return cfg["estimator"], job.protocols(cfg)


def test_every_option_is_a_protocol_of_its_name_that_names_its_sources(protocols):
    nodes, made = protocols
    assert list(made) == NAMES
    for name, protocol in made.items():
        given = {key for key in nodes[name] if key in parameters(protocol)}
        assert given <= set(nodes[name].get("reference", ())), name


def test_arms_of_all_protocols_together(protocols):
    """One name, one arm; a proposal has two opponents or more, one of them ideal or a bound; opponents have none."""
    _, made = protocols
    arms = {}
    for protocol in made.values():
        own = {arm.name: arm for arm in protocol.arms()}
        for arm in own.values():
            known = arms.setdefault(arm.name, arm)
            assert known.opponents == arm.opponents
            assert set(arm.opponents) <= set(own) and len(arm.opponents) != 1
            if arm.opponents:
                assert any("ideal" in name or "bound" in name for name in arm.opponents)
            else:
                assert arm.kind and not arm.quantum


@pytest.mark.parametrize("name", NAMES)
def test_laws_are_finite_consistent_and_drawn(protocols, name):
    """Covariance and variance are one, the draw has its moments' shape, the ledger is positive, every arm traced."""
    b = bench(incident=2e5, time=0.05)
    b = b._replace(optics=jax.tree.map(lambda a: a, b.optics))
    facts = protocols[1][name].facts(b)
    assert all(np.isfinite(float(value)) for value, _ in facts.values())
    for arm in protocols[1][name].arms():
        law = arm.law(b)
        assert isinstance(law, AbstractLaw)
        assert all(float(entry) > 0 for entry in law.ledger)
        assert 0 <= float(law.load()) <= 1
        mean, variance = np.asarray(law.mean()), np.asarray(law.variance())
        assert mean.shape == variance.shape == (N, N)
        assert np.isfinite(mean).all() and (variance > 0).all()
        np.testing.assert_allclose(law.covariance().diagonal(), variance.ravel(), rtol=1e-9)
        assert np.isfinite(law.fourth(np.ones(N * N)))
        estimates, counts = law.draw(3, key=jax.random.key(5))
        assert estimates.shape == counts.shape == (3, N, N)
        assert np.isfinite(estimates).all()

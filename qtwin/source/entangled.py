"""Sources of pairs and of N-photon states: twin beams, heralded photons, NOON states, entangled polarisations.

Losses of both arms, up to and including the detectors, belong to these sources: their figures of merit depend on them.
"""

import jax
import jax.numpy as jnp
import numpy as np

from qtwin.core.params import Support, fraction, nonnegative, param, positive, real, static
from qtwin.core.params import efficiency as efficient
from qtwin.modes.checks import whole
from qtwin.modes.counts import detected, difference_noise, noise_reduction_factor
from qtwin.modes.gaussian import VACUUM, two_mode_squeezed
from qtwin.modes.noon import (
    coherent_information,
    fringe_information,
    noon_information,
    noon_optimal,
    noon_probabilities,
)
from qtwin.modes.operations import loss
from qtwin.modes.pairs import heralded, heralded_g2_weak, multipair_visibility
from qtwin.modes.polarisation import bell, coincidence, fidelity, werner
from qtwin.modes.sampling import poisson_counts, twin_counts
from qtwin.modes.squeezing import squeezing_db
from qtwin.source.states import MOST_DRAWS, AbstractState, Expected, Figure

MOST_PHOTONS = 100  # of a NOON state
below_one = Support("from 0 to below 1", 0.0, 1.0, high_open=True)


class TwoModeSqueezed(AbstractState):
    """<n> = M mu, Cov = M mu (1 + mu) in and across two arms, behind losses: M two-mode squeezed modes, sinh^2 r = mu.

    Weedbrook et al., Rev. Mod. Phys. 84, 621 (2012), section II.B; Mandel & Wolf (1995), section 13.3. A record (a
    pixel and an exposure, or a pulse) is the counts of (signal, idler); background is Poisson, dark counts included.
    """

    signal_wavelength: jax.Array = param("m", positive, "in vacuum, of the photons that cross the sample")
    pairs_per_mode: jax.Array = param("", positive, "mean photons per mode and arm before loss")
    modes: jax.Array = param("", positive, "modes of space and time in a record, need not be whole")
    signal_efficiency: jax.Array = param("", efficient, "of the signal arm, detector included", default=1.0)
    idler_efficiency: jax.Array = param("", efficient, "of the idler arm, detector included", default=1.0)
    signal_background: jax.Array = param("", nonnegative, "background counts per record, signal", default=0.0)
    idler_background: jax.Array = param("", nonnegative, "background counts per record, idler", default=0.0)

    def _arms(self):
        return jnp.stack([self.signal_efficiency, self.idler_efficiency])

    def expect(self):
        mu, one = self.pairs_per_mode, jnp.ones(2, self.pairs_per_mode.dtype)
        pairs, square = self.modes * mu * one, self.modes * mu * (1 + mu) * jnp.outer(one, one)
        background = jnp.stack([self.signal_background, self.idler_background])
        return Expected(*detected(pairs, square, self._arms(), background))

    def sample(self, count: int, *, key):
        """Counts of signal and idler, int32 [count, 2]."""
        count = whole("count", count, 1, MOST_DRAWS)
        background = (self.signal_background, self.idler_background)
        law = (self.pairs_per_mode, self.modes, self.signal_efficiency, self.idler_efficiency)
        return jnp.stack(twin_counts(*law, (count,), *background, key=key), -1)

    def squeezing_parameter(self):
        """r = arsinh sqrt(mu)."""
        return jnp.arcsinh(jnp.sqrt(self.pairs_per_mode))

    def epr_variance(self):
        """V = Var(x_s - x_i) behind the losses over that of the vacuum: below 1 for entangled arms, e^-2r without loss.

        Duan, Giedke, Cirac & Zoller, Phys. Rev. Lett. 84, 2722 (2000). Without background.
        """
        v = loss(two_mode_squeezed(self.squeezing_parameter()), self._arms()).covariance
        return (v[0, 0] + v[1, 1] - 2 * v[0, 1]) / (2 * VACUUM)

    def figures(self):
        mean, covariance = self.expect()
        r, arms = self.squeezing_parameter(), (self.signal_efficiency, self.idler_efficiency)
        excess = 1 + (covariance - jnp.diag(mean)) / (mean[:, None] * mean[None, :])
        noise, clean = difference_noise(mean, covariance), noise_reduction_factor(self.pairs_per_mode, *arms)
        duan = "Duan et al., Phys. Rev. Lett. 84, 2722 (2000)"
        law = "; Mandel & Wolf (1995), section 13.3"
        return [
            Figure("photons per mode", self.pairs_per_mode, "", "mu = sinh^2 r, each arm before loss"),
            Figure("squeezing parameter", r, "", "r = arsinh sqrt(mu)"),
            Figure("two-mode squeezing as made", squeezing_db(jnp.exp(-2 * r)), "dB", "20 r/ln 10"),
            Figure("EPR squeezing behind the losses", squeezing_db(self.epr_variance()), "dB", f"-10 log10 V, {duan}"),
            Figure("signal counts per record", mean[0], "", "e_s M mu + background"),
            Figure("idler counts per record", mean[1], "", "e_i M mu + background"),
            Figure("noise reduction factor", noise, "", "Var(n_s - n_i)/<n_s + n_i>" + law),
            Figure("noise reduction factor, no background", clean, "", "1 - [2 es ei - mu (es - ei)^2]/(es + ei)"),
            Figure("g11 of signal and idler", excess[0, 1], "", "1 + Cov(n_s, n_i)/(<n_s><n_i>)" + law),
            Figure("g2 of the signal", excess[0, 0], "", "1 + (Var n_s - <n_s>)/<n_s>^2, 1 + 1/M without background"),
        ]


class HeraldedPhoton(AbstractState):
    """Photons of the signal arm in the gates in which the herald clicked: mu pairs per gate in M equal modes.

    Moments given the click from the negative binomial law of the pairs: `qtwin.modes.pairs.heralded` (Mandel & Wolf
    (1995), section 13.3). A record, one gate, is (click of the herald, signal counts if it clicked, else 0).
    """

    signal_wavelength: jax.Array = param("m", positive, "in vacuum, of the photons that cross the sample")
    pairs: jax.Array = param("", positive, "mean pairs per gate, both photons within their filters")
    modes: jax.Array = param("", positive, "equal modes of the signal in a gate, Schmidt number of the joint spectrum")
    herald_efficiency: jax.Array = param("", efficient, "of the herald's arm, detector included")
    signal_efficiency: jax.Array = param("", efficient, "of the signal's arm")
    herald_dark: jax.Array = param("", below_one, "dark click probability of the herald per gate", default=0.0)
    gate_rate: jax.Array = param("Hz", positive, "gates (pulses) per second", default=1e6)

    def _heralded(self):
        """Probability of a click, mean signal counts behind it, g2."""
        click, mean, g2 = heralded(self.pairs, self.modes, self.herald_efficiency, self.herald_dark)
        return click, self.signal_efficiency * mean, g2

    def expect(self):
        """(p, p n) with Var p (1 - p), p (g2 n^2 + n) - (p n)^2 and Cov p (1 - p) n, n given the click."""
        p, n, g2 = self._heralded()
        across = p * (1 - p) * n
        rows = [[p * (1 - p), across], [across, p * (g2 * n**2 + n) - (p * n) ** 2]]
        return Expected(jnp.stack([p, p * n]), jnp.stack([jnp.stack(row) for row in rows]))

    def sample(self, count: int, *, key):
        """Herald's click (0 or 1) and the signal's counts with it, int32 [count, 2]."""
        count = whole("count", count, 1, MOST_DRAWS)
        law = (self.pairs / self.modes, self.modes, self.signal_efficiency, self.herald_efficiency)
        dark = -jnp.log1p(-self.herald_dark)  # Poisson dark counts that click with this probability
        signal, herald = twin_counts(*law, (count,), 0.0, dark, key=key)
        click = (herald > 0).astype(jnp.int32)
        return jnp.stack([click, click * signal], -1)

    def photon_number(self):
        """(p_0, p_1) of the signal given a click, from [G(1 - h z) - (1 - d) G((1 - e)(1 - h z))]/p, h its efficiency.

        G(x) = (1 + mu (1 - x)/M)^-M, z = 1 - x; p_0 at x = 0 and p_1 the derivative there.
        """
        e, h, d = self.herald_efficiency, self.signal_efficiency, self.herald_dark

        def bottom(x):
            return 1 + self.pairs * (1 - x) / self.modes

        every, silent = bottom(1 - h), bottom((1 - e) * (1 - h))
        none = every**-self.modes, (1 - d) * silent**-self.modes
        click = self._heralded()[0]
        one = h * self.pairs * (none[0] / every - (1 - e) * none[1] / silent)
        return (none[0] - none[1]) / click, one / click

    def figures(self):
        p, n, g2 = self._heralded()
        zero, one = self.photon_number()
        weak = heralded_g2_weak(self.pairs, self.modes)
        law = "; negative binomial pairs, Mandel & Wolf (1995), section 13.3"
        return [
            Figure("heralding probability per gate", p, "", "1 - (1 - d) (1 + mu e/M)^-M" + law),
            Figure("heralds per second", p * self.gate_rate, "Hz", "heralding probability x gate rate"),
            Figure("signal counts per herald", n, "", "<n> given a click, behind the signal's efficiency" + law),
            Figure("heralding efficiency", 1 - zero, "", "probability of one signal count or more given a click"),
            Figure("single photons per herald", one, "", "probability of exactly one signal count given a click"),
            Figure("single photons per second", p * one * self.gate_rate, "Hz", "with a herald, gate rate x p x p_1"),
            Figure("heralded g2", g2, "", "<n (n - 1)>/<n>^2 given a click; loss does not change it" + law),
            Figure("heralded g2, weak herald", weak, "", "mu (1 + 1/M)[2 + mu (1 + 2/M)]/[1 + mu (1 + 1/M)]^2"),
            Figure("purity of the photon", 1 / self.modes, "", "1/M at mu << 1: HOM visibility of two such sources"),
        ]


class NOON(AbstractState):
    """p = (ea^N + eb^N +- 2 V (ea eb)^(N/2) cos N phi)/4: parity of (|N, 0> + e^(i N phi)|0, N>)/sqrt 2.

    Demkowicz-Dobrzanski, Jarzyna & Kolodynski, Prog. Opt. 60, 345 (2015), section 5. A record, one state, is (even,
    odd, lost): 1 for what was found behind a beam splitter. States are made with certainty here: failed attempts and
    post-selection are for the user to count.
    """

    photons: int = static("N")
    wavelength: jax.Array = param("m", positive, "in vacuum")
    efficiency_a: jax.Array = param("", efficient, "of the arm with the phase, detectors included", default=1.0)
    efficiency_b: jax.Array = param("", efficient, "of the other arm, detectors included", default=1.0)
    visibility: jax.Array = param("", fraction, "V of the interference itself", default=1.0)
    phase: jax.Array = param("rad", real, "phi between the arms", default=0.0)

    def check(self):
        whole("photons", self.photons, 1, MOST_PHOTONS)

    def expect(self):
        arms = (self.efficiency_a, self.efficiency_b)
        p = noon_probabilities(float(self.photons), *arms, self.phase, self.visibility)
        return Expected(p, jnp.diag(p) - jnp.outer(p, p))

    def sample(self, count: int, *, key):
        """One 1 in each record, int32 [count, 3]."""
        count = whole("count", count, 1, MOST_DRAWS)
        found = jax.random.choice(key, 3, (count,), p=self.expect().mean)
        return jax.nn.one_hot(found, 3, dtype=jnp.int32)

    def figures(self):
        n, a, b = float(self.photons), self.efficiency_a, self.efficiency_b
        full_a, full_b = a**n, b**n
        arrive, contrast = (full_a + full_b) / 2, 2 * jnp.sqrt(full_a * full_b) / (full_a + full_b) * self.visibility
        here = arrive * fringe_information(n, contrast, self.phase)
        best = noon_information(n, a, b) * self.visibility**2
        limit = coherent_information(n, a, b)
        sizes = jnp.arange(1, MOST_PHOTONS + 1, dtype=a.dtype)
        per_photon = jnp.log(noon_information(sizes, a, b) / sizes)
        top = jnp.argmax(per_photon >= jnp.max(per_photon) - 1e-5)  # the least of a tie; 1e-5: float32
        source = "; Demkowicz-Dobrzanski et al., Prog. Opt. 60, 345 (2015)"
        rows = [
            Figure("states that arrive whole", arrive, "", "(ea^N + eb^N)/2"),
            Figure("fringe contrast", contrast, "", "2 V (ea eb)^(N/2)/(ea^N + eb^N)"),
            Figure("information at this phase", here, "rad**-2", "per state: p N^2 C^2 sin^2/(1 - C^2 cos^2)" + source),
            Figure("information at the best phase", best, "rad**-2", "2 V^2 N^2 ea^N eb^N/(ea^N + eb^N)" + source),
            Figure("information at the best weights", noon_optimal(n, a, b), "rad**-2", "quantum, V = 1" + source),
            Figure("coherent light, same loss", limit, "rad**-2", "4 N ea eb/(sqrt ea + sqrt eb)^2" + source),
            Figure("shot-noise limit without loss", n * jnp.ones_like(a), "rad**-2", "N"),
            Figure("gain over coherent light, same loss", best / limit, "", "information at equal photons"),
            Figure("best photon number", sizes[top], "", "of 1 to 100: most information per photon, V = 1, balanced"),
        ]
        if self.photons > 1:
            least = jnp.asarray(n ** (-1 / (n - 1)), a.dtype)
            rows.append(Figure("efficiency that pays", least, "", "N^(-1/(N - 1)): N eta^N > eta, equal arms, V = 1"))
        return rows


class Bell(AbstractState):
    """rho = V |bell><bell| + (1 - V)/4: mu pairs per gate, entangled in polarisation, two analysers of two ports each.

    Werner, Phys. Rev. A 40, 4277 (1989). Pairs are Poisson, as of a gate much longer than the coherence time, each in
    rho on its own: <n_a n_b> = mu e_s e_i P_ab + S_s S_i, S = mu e/2 + d, P of `qtwin.modes.polarisation.coincidence`.
    A record, one gate, is the counts (signal passed, signal blocked, idler passed, idler blocked).
    """

    signal_wavelength: jax.Array = param("m", positive, "in vacuum, of the photons that cross the sample")
    pairs: jax.Array = param("", positive, "mean pairs per gate")
    visibility: jax.Array = param("", fraction, "V of the Werner mixture")
    signal_efficiency: jax.Array = param("", efficient, "of the signal's arm, detectors included", default=1.0)
    idler_efficiency: jax.Array = param("", efficient, "of the idler's arm, detectors included", default=1.0)
    dark: jax.Array = param("", nonnegative, "dark and background counts per gate in each detector", default=0.0)
    signal_angle: jax.Array = param("rad", real, "of the signal's linear analyser, to H", default=0.0)
    idler_angle: jax.Array = param("rad", real, "of the idler's linear analyser, to H", default=np.pi / 8)
    gate_rate: jax.Array = param("Hz", positive, "gates per second", default=1e6)
    name: str = static("phi+, phi-, psi+ or psi-", default="phi+")

    def check(self):
        bell(self.name)

    def state(self):
        """rho, [4, 4] in the order HH, HV, VH, VV."""
        return werner(self.visibility, self.name)

    def _joint(self):
        """P_ab, both photons in their ports passed and blocked, [2, 2]."""
        turns = (0.0, np.pi / 2)
        angles = [[(self.signal_angle + a, self.idler_angle + b) for b in turns] for a in turns]
        return jnp.stack([jnp.stack([coincidence(self.state(), *pair) for pair in row]) for row in angles])

    def _singles(self):
        """Counts per gate of one detector of the signal and one of the idler."""
        return tuple(self.pairs * e / 2 + self.dark for e in (self.signal_efficiency, self.idler_efficiency))

    def expect(self):
        signal, idler = self._singles()
        mean = jnp.stack([signal, signal, idler, idler])
        pairs = self.pairs * self.signal_efficiency * self.idler_efficiency * self._joint()
        none = jnp.zeros_like(pairs)
        return Expected(mean, jnp.diag(mean) + jnp.block([[none, pairs], [pairs.T, none]]))

    def sample(self, count: int, *, key):
        """Counts of four detectors, int32 [count, 4]."""
        count = whole("count", count, 1, MOST_DRAWS)
        e_s, e_i = self.signal_efficiency, self.idler_efficiency
        pairs = jnp.ravel(self.pairs * e_s * e_i * self._joint())
        alone = [self.pairs * e * (1 - other) / 2 + self.dark for e, other in ((e_s, e_i), (e_i, e_s))]
        means = jnp.concatenate([pairs, jnp.repeat(jnp.stack(alone), 2)])
        drawn = poisson_counts(means, (count, 8), key=key)
        both = drawn[:, :4].reshape(count, 2, 2)
        return drawn[:, 4:] + jnp.concatenate([jnp.sum(both, axis, dtype=jnp.int32) for axis in (2, 1)], 1)

    def coincidences(self):
        """<n_a n_b> per gate of the ports (passed, blocked) x (passed, blocked), accidentals included, [2, 2]."""
        mean, covariance = self.expect()
        return covariance[:2, 2:] + mean[:2, None] * mean[None, 2:]

    def figures(self):
        signal, idler = self._singles()
        accidental, v = signal * idler, self.visibility
        pairs = self.pairs * self.signal_efficiency * self.idler_efficiency
        raw = v * pairs / (pairs + 4 * accidental)  # accidentals are white noise too
        brightest = pairs * (1 + v) / 4
        one_mode = v * multipair_visibility(self.pairs, 1.0)
        horodecki = "; Horodecki et al., Phys. Lett. A 200, 340 (1995)"
        wootters = "max(0, (3 V - 1)/2); Wootters, Phys. Rev. Lett. 80, 2245 (1998)"
        counted = "; all pairs of counts"
        return [
            Figure("visibility of the state", v, "", "V; Werner, Phys. Rev. A 40, 4277 (1989)"),
            Figure("raw visibility", raw, "", "V m/(m + 4 S_s S_i), m = mu e_s e_i; V/(1 + mu) without dark counts"),
            Figure(
                "raw visibility, one mode",
                one_mode,
                "",
                "V (1 + mu/2)/(1 + 3 mu/2), if a gate held one mode",
            ),
            Figure("CHSH of the state", 2 * np.sqrt(2) * v, "", "2 sqrt 2 V, best analysers" + horodecki),
            Figure("raw CHSH", 2 * np.sqrt(2) * raw, "", "2 sqrt 2 x raw visibility, nothing subtracted" + horodecki),
            Figure("concurrence", jnp.maximum(0.0, (3 * v - 1) / 2), "", wootters),
            Figure("raw concurrence", jnp.maximum(0.0, (3 * raw - 1) / 2), "", "the same of the raw visibility"),
            Figure("fidelity", fidelity(self.state(), self.name), "", "<bell|rho|bell> = (1 + 3 V)/4"),
            Figure("true coincidences per gate", brightest, "", "mu e_s e_i (1 + V)/4, two ports, brightest setting"),
            Figure("accidentals per gate", accidental, "", "S_s S_i, S = mu e/2 + d, two ports" + counted),
            Figure("CAR", 1 + brightest / accidental, "", "(true + accidental)/accidental at the brightest setting"),
            Figure("true coincidences per second", brightest * self.gate_rate, "Hz", "per gate x gate rate" + counted),
            Figure("accidentals per second", accidental * self.gate_rate, "Hz", "per gate x gate rate" + counted),
        ]

"""Light as modes: Gaussian states and small photon-number states, where light interferes or its statistics matter."""

from qtwin.modes.gaussian import GaussianState as GaussianState

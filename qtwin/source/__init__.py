"""Sources of light."""

from qtwin.source.biphoton import DoubleGaussian as DoubleGaussian
from qtwin.source.biphoton import SincBiphoton as SincBiphoton
from qtwin.source.joint_spectrum import JointSpectrum as JointSpectrum
from qtwin.source.nonlinear_crystal import Crystal as Crystal
from qtwin.source.pair_rate import FibrePairs as FibrePairs
from qtwin.source.pair_rate import MultimodePairs as MultimodePairs
from qtwin.source.phase_matching import Interaction as Interaction
from qtwin.source.spdc import SPDC as SPDC
from qtwin.source.states import Coherent as Coherent

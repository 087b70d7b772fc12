"""Which term drives the update of the parameters, and which one works against it."""

from penaltyscope.attribution._alignment import UpdateAlignment
from penaltyscope.attribution._last_layer import LastLayer
from penaltyscope.attribution._parameters import AllParameters
from penaltyscope.attribution._probe import Probe
from penaltyscope.attribution._record import Attribution, Method

__all__ = [
    "AllParameters",
    "Attribution",
    "LastLayer",
    "Method",
    "Probe",
    "UpdateAlignment",
]

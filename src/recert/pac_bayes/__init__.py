"""The Gibbs predictor: weights drawn afresh for every sequence, roles of data, certificate."""

from recert.pac_bayes.certify import MONTE_CARLO_SHARE, certify_posterior
from recert.pac_bayes.measure import fixed_losses
from recert.pac_bayes.sampling import Tally, draw_weights, gibbs_losses, tally, unit_losses
from recert.pac_bayes.split import Roles, SamplePart, assign_roles, drift, part_digest, read

__all__ = [
    "MONTE_CARLO_SHARE",
    "Roles",
    "SamplePart",
    "Tally",
    "assign_roles",
    "certify_posterior",
    "draw_weights",
    "drift",
    "fixed_losses",
    "gibbs_losses",
    "part_digest",
    "read",
    "tally",
    "unit_losses",
]

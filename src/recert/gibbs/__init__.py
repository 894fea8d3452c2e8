"""The Gibbs predictor: weights drawn afresh for every sequence, roles of data, certificate."""

from recert.gibbs.certify import certify_posterior
from recert.gibbs.draws import draw_weights, gibbs_losses
from recert.gibbs.measure import fixed_losses
from recert.gibbs.menu import MONTE_CARLO_SHARE
from recert.gibbs.roles import Part, Roles, assign_roles, drift, part_digest, read
from recert.gibbs.tally import Tally, tally, unit_losses

__all__ = [
    "MONTE_CARLO_SHARE",
    "Part",
    "Roles",
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

"""A prior from the first units of a sample alone: rehearsed, scaled, trained (theory, 5b).

A rehearsal on three quarters of these units tells from the last quarter which of some candidates
does best, how large an error to expect and how much noise the weights bear. Among encodings of the
units it chooses by all quarters in turn. What it chooses costs nothing: the bound counts other
units.

How many of a sample's units should make the prior: told by a learning curve on a pilot alone.

More units for the prior make its errors fewer and leave fewer units to the bound. The pilot, the
first units of all, shows how the error falls with the number of units trained on; from that the
number m_0 follows by a rule that was fixed beforehand. So m_0 is a function of units that the bound
does not count, and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recert.compression.program import with_values
from recert.data.dataset import SequenceData
from recert.errors import InputError
from recert.networks.blocks import Array
from recert.networks.network import Network
from recert.numerics.concentration import kl_inverse_upper
from recert.numerics.union_bound import SCALE_GRID
from recert.pac_bayes import fixed_losses, gibbs_losses, read
from recert.pac_bayes.bounds import best_rate, paired_limit
from recert.pac_bayes.posterior import around
from recert.pac_bayes.split import SamplePart
from recert.samples.sample import At, Reading, unit_numbers
from recert.training import devices
from recert.training.loop import draw, labelled_outputs, learning_rate, model_of, tensors
from recert.training.recipes import PosteriorRecipe, RecipeCandidate
from recert.utils.processes import in_processes

# Candidates for the prior's scale: 2^(j/8).
SCALES = range(-96, 17, 4)
# Units of the rehearsal's last quarter on which scales are tried.
MOST_TRIED = 2048
QUARTERS = 4
PLACEHOLDER = "0" * 64

Step = Callable[[int], None]
"""Called with the number of epochs done."""


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """A candidate in one encoding of the units, and how it does on units that it has not seen.

    Attributes:
        candidate: how it was trained.
        view: the encoding, as an index among those that were given.
        network: trained on three quarters.
        error: on the last quarter.
    """

    candidate: RecipeCandidate
    view: int
    network: Network
    error: float


Try = tuple[int, RecipeCandidate, int]
"""A view, a candidate, and the quarter that it is tried on, counted from the last."""


def rehearse(
    views: Sequence[SequenceData], recipe: PosteriorRecipe, seed: int, processes: int, step: Step
) -> Rehearsal:
    """The best candidate in that encoding in which the first candidate does best.

    Encodings differ by little, so they are compared on all quarters in turn, not on the last alone.

    Args:
        views: the prior's units, in each encoding.
        recipe: with the candidates.
        seed: of initial weights and batches.
        processes: trainings at once; 1 trains in this process.
        step: told of the epochs done.
    """

    def run(tries: Sequence[Try]) -> list[Rehearsal]:
        if processes == 1 or len(tries) < 2:
            return [_rehearsed(views[one[0]], one, recipe, seed, step) for one in tries]
        return _apart(views, tries, recipe, seed, processes, step)

    first, *others = recipe.candidates
    turns = QUARTERS if len(views) > 1 else 1
    found = run([(view, first, turn) for view in range(len(views)) for turn in range(turns)])
    errors = [sum(one.error for one in found[i : i + turns]) for i in range(0, len(found), turns)]
    place = errors.index(min(errors))
    rivals = run([(place, other, 0) for other in others])
    return min([found[place * turns], *rivals], key=lambda rehearsal: rehearsal.error)


def rehearsed_epochs(recipe: PosteriorRecipe, views: int) -> int:
    """Epochs of all trainings that `rehearse` does with so many encodings."""
    turns = QUARTERS * views if views > 1 else 1
    return sum(one.epochs for one in recipe.candidates) + (turns - 1) * recipe.candidates[0].epochs


def _apart(
    views: Sequence[SequenceData],
    tries: Sequence[Try],
    recipe: PosteriorRecipe,
    seed: int,
    processes: int,
    step: Step,
) -> list[Rehearsal]:
    """Each in a process of its own."""
    jobs = [(views[one[0]], one, recipe, seed, devices.current()) for one in tries]
    found = []
    answers = in_processes(_alone, jobs, processes)
    for (view, candidate, _), (values, error) in zip(tries, answers, strict=True):
        blank = model_of(views[view], candidate.applied(recipe.prior)).eval().recert_network()
        found.append(Rehearsal(candidate, view, with_values(blank, values), error))
        step(candidate.epochs)
    return found


def _rehearsed(
    own: SequenceData, one: Try, recipe: PosteriorRecipe, seed: int, step: Step
) -> Rehearsal:
    view, candidate, turn = one
    training, trial = _quarters(own, turn)
    network = train_centre(training, recipe, candidate, seed, step)
    error = float(fixed_losses(network, part_of(trial), step_read(trial)).mean())
    return Rehearsal(candidate, view, network, error)


def _alone(
    own: SequenceData, one: Try, recipe: PosteriorRecipe, seed: int, device: str
) -> tuple[dict[str, Array], float]:
    """In a process of its own: the blocks by name, and the error."""
    with devices.arithmetic(device):
        done = _rehearsed(own, one, recipe, seed, lambda epochs: None)
    return {block.name: block.value for block in done.network.blocks()}, done.error


def curve_of(
    best: Rehearsal, own: SequenceData, recipe: PosteriorRecipe, seed: int, step: Step
) -> LearningCurve:
    """How the error falls with units: that of the rehearsal, and on a half and a quarter of it."""
    training, trial = _quarters(own)
    part, at = part_of(trial), step_read(trial)
    sizes, errors = [training.units], [best.error]
    for share in (2, 4):
        fewer = training.split(max(1, training.units // share))[0]
        network = train_centre(fewer, recipe, best.candidate, seed, step)
        sizes.append(fewer.units)
        errors.append(float(fixed_losses(network, part, at).mean()))
    return learning_curve(sizes[::-1], errors[::-1], trial.units)


def bearable_scale(best: Rehearsal, own: SequenceData, recipe: PosteriorRecipe, seed: int) -> float:
    """The largest scale on the grid at which drawn networks err as the mean one on all but few."""
    trial, at = _quarters(own)[1], step_read(own)
    few = part_of(trial.split(MOST_TRIED)[0] if trial.units > MOST_TRIED else trial)
    still = around(best.network, 1, PLACEHOLDER, 1e-18)
    calm = gibbs_losses(still, few.batch, at, repetitions=1, seed=seed, stream="trial")
    low, high = 0, len(SCALES)
    while high - low > 1:
        middle = (low + high) // 2
        noisy = around(best.network, 1, PLACEHOLDER, SCALE_GRID.value(SCALES[middle]))
        losses = gibbs_losses(noisy, few.batch, at, repetitions=1, seed=seed, stream="trial")
        if float(np.abs(losses - calm).mean()) <= recipe.disagreement:
            low = middle
        else:
            high = middle
    return SCALE_GRID.value(SCALES[low])


def train_centre(
    data: SequenceData, recipe: PosteriorRecipe, candidate: RecipeCandidate, seed: int, step: Step
) -> Network:
    """A network trained by cross-entropy with weight decay, its weights float32 numbers.

    Raises:
        InputError: the loss stopped being finite.
    """
    prior = candidate.applied(recipe.prior)
    generator = torch.Generator().manual_seed(seed)
    model = model_of(data, prior)
    draw(model, {}, generator)
    model.to(devices.current())
    blocks = list(model.blocks().values())
    optimiser = torch.optim.AdamW(blocks, betas=(0.9, 0.99), weight_decay=candidate.weight_decay)
    sequences, labels, lengths = tensors(model, data)
    batch = min(prior.batch, data.m)
    steps = prior.epochs * (data.m // batch)
    for epoch, done, chosen in batches(data.m, batch, prior.epochs, generator):
        y, target = labelled_outputs(model, sequences[:, chosen], labels[chosen], lengths[chosen])
        loss = nn.functional.cross_entropy(y, target, label_smoothing=candidate.label_smoothing)
        optimiser.zero_grad()
        loss.backward()
        if prior.clip is not None:
            nn.utils.clip_grad_norm_(blocks, prior.clip)
        optimiser.param_groups[0]["lr"] = learning_rate(prior, done, steps)
        optimiser.step()
        if (done + 1) % (steps // prior.epochs) == 0:
            if not math.isfinite(float(loss.detach())):
                raise InputError(
                    f"the loss is not finite in epoch {epoch + 1}; lower learning_rate"
                )
            step(1)
    return model.eval().recert_network()


def step_read(data: SequenceData) -> At:
    """The last step, or all of them where every step has a label."""
    return "last" if data.labels.ndim == 1 else "average"


def part_of(data: SequenceData) -> SamplePart:
    """The units as `recert.pac_bayes` reads them."""
    kind = "onehot" if data.input_kind == "tokens" else "real"
    reading = Reading(kind, data.input_dim, data.K, step_read(data), data.max_length)
    part, _ = read(data.sequences, data.labels, reading, lengths=data.lengths, groups=data.groups)
    return part


def batches(
    m: int, batch: int, epochs: int, generator: torch.Generator
) -> Iterator[tuple[int, int, Tensor]]:
    """(epoch, steps done before, indices) of every step."""
    per_epoch = m // batch
    for epoch in range(epochs):
        order = torch.randperm(m, generator=generator)
        for i in range(per_epoch):
            yield epoch, epoch * per_epoch + i, order[i * batch : (i + 1) * batch]


def _quarters(own: SequenceData, turn: int = 0) -> tuple[SequenceData, SequenceData]:
    """Three quarters of the units, and one: the last, or one before it by as many turns."""
    units = unit_numbers(own.groups, own.m)
    bounds = np.arange(QUARTERS + 1) * own.units // QUARTERS
    last = QUARTERS - turn
    inside = (units >= bounds[last - 1]) & (units < bounds[last])
    return own.take(~inside), own.take(inside)


# Largest share of the units that the rule gives to the prior, and how finely it looks.
MOST, STEPS = 0.8, 64
# Steepest fall of an error with the number of units: like 1/√n.
STEEPEST = 0.5


@dataclass(frozen=True)
class LearningCurve:
    """e(n) = scale · n^(−slope), an error after training on n units."""

    scale: float
    slope: float

    def error(self, units: float) -> float:
        """The error that is expected after training on so many units."""
        return min(1.0, self.scale * units**-self.slope)


def learning_curve(units: Sequence[int], errors: Sequence[float], trial: int) -> LearningCurve:
    """The power law through measured errors, by least squares of logarithms.

    Args:
        units: numbers of units trained on, ascending; at least two.
        errors: on a trial part, one for each.
        trial: units of that part; errors below half a unit are read as half a unit.
    """
    n = np.log(np.asarray(units, dtype=np.float64))
    e = np.log(np.maximum(np.asarray(errors, dtype=np.float64), 0.5 / trial))
    slope = -float(np.polyfit(n - n.mean(), e, 1)[0])
    slope = min(max(slope, 0.0), STEEPEST)
    # Through the last point, which knows most.
    return LearningCurve(math.exp(e[-1] + slope * n[-1]), slope)


def prior_units(
    curve: LearningCurve,
    units: int,
    pilot: int,
    *,
    nats: float,
    closeness: float | None,
    disagreement: float,
    delta: float,
) -> int:
    """m_0 with the smallest limit to expect, among those within ``closeness`` of its error if any.

    Args:
        curve: of the pilot.
        units: m, of the whole sample.
        pilot: units of the pilot, the least that m_0 can be.
        nats: that the bound is expected to pay, ln(1/δ) included.
        closeness: largest share of the error by which the limit may lie above it, or None.
        disagreement: of two networks that are drawn, to expect.
        delta: δ' of the draws, two pairs a unit.
    """
    most = max(pilot, min(int(MOST * units), units - 8))
    tried = sorted({int(n) for n in np.linspace(pilot, most, STEPS)})
    rate = best_rate(disagreement, 2 * (units - pilot), delta)
    limits, close = [], []
    for m_0 in tried:
        error, left = curve.error(m_0), units - m_0
        drawn = paired_limit(error, disagreement, 2 * left, delta, rate)
        limit = float(kl_inverse_upper(drawn, nats / left))
        limits.append(limit)
        close.append(closeness is None or limit <= (1.0 + closeness) * error)
    allowed = [i for i in range(len(tried)) if close[i]] or list(range(len(tried)))
    return tried[min(allowed, key=lambda i: limits[i])]

"""Time and memory are known beforehand: counts of work, not seconds.

Nothing here looks at a clock; `benchmarks/bench_work.py` does.
"""

from __future__ import annotations

import copy
import math
import pickle
import tracemalloc
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import family
import recert
import recert.networks.forward
from recert.certification.certify import evaluate_menu, menu, prepare
from recert.errors import InputError
from recert.networks.blocks import Block
from recert.networks.network import MarginForm, Network, vanilla
from recert.numerics import norms
from recert.perturbation import posterior_risk as sequences_module
from recert.perturbation.adjoint import pieces, walked
from recert.perturbation.ball import BallParts, parts_of
from recert.perturbation.plan import estimate
from recert.perturbation.posterior_risk import Sequences
from recert.perturbation.work import A_SECOND, MEMORY, NOMINAL, NUMBER, work_of
from recert.theorems.local_ball import LocalBall


def sample(
    net: Network | MarginForm, m: int, T: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    if net.input_kind == "onehot":
        return rng.integers(0, net.d_x, (m, T)), rng.integers(0, net.head.rows, m)
    return rng.standard_normal((m, T, net.d_x)), rng.integers(0, net.head.rows, m)


def parted(form: MarginForm) -> BallParts:
    return parts_of(tuple(form.blocks()), columns=True)


# The first order, and all classes at once.


@pytest.mark.parametrize("cell", family.CELLS)
@pytest.mark.parametrize("read", ["step", "final", "mean"])
def test_tangents_price_what_enclosures_price_to_first_order(cell: str, read: str) -> None:
    filters = cell.startswith("conv")
    net = family.random_network(
        np.random.default_rng(1), cell, d_h=4, K=3, layers=1 if filters else 2,
        two_way=not filters, tokens=True, embedding=4 * filters, hidden=3, read=read,
    ).margin_form()  # fmt: skip
    parts, (x, y) = parted(net), sample(net, 7, 5)
    (_, plain), = pieces(walked(net, x, parts, None), y, parts, 9)  # fmt: skip
    (_, full), = pieces(walked(net, x, parts, np.zeros(parts.count)), y, parts, 9)  # fmt: skip
    np.testing.assert_array_equal(plain.M, full.M)
    np.testing.assert_allclose(plain.S, full.S, rtol=1e-12, atol=1e-300)
    assert (full.Q >= 0).all() and (full.Q > 0).any() and (plain.Q <= 1e-139).all()


def test_classes_side_by_side_are_classes_one_by_one() -> None:
    net = family.random_network(np.random.default_rng(2), "lstm", d_h=3, K=6).margin_form()
    parts, (x, y) = parted(net), sample(net, 5, 4)
    radii = np.full(parts.count, 1e-3)
    (_, whole), = pieces(walked(net, x, parts, radii), y, parts, 9)  # fmt: skip
    for place, one in pieces(walked(net, x, parts, radii), y, parts, 2):
        for part, all_of_it in ((one.M, whole.M), (one.S, whole.S), (one.Q, whole.Q)):
            np.testing.assert_allclose(part, all_of_it[place], rtol=1e-12)


def test_a_settled_value_is_not_asked_for_what_it_gave_up() -> None:
    net = family.random_network(np.random.default_rng(3), "gru", d_h=3).margin_form()
    parts, (x, _) = parted(net), sample(net, 2, 3)
    algebra, _ = walked(net, x, parts, np.full(parts.count, 1e-3))
    gone = [node for node in algebra.nodes if node._gone]
    assert gone and all(node.J is None for node in gone)
    untouched = next(node for node in gone if "entries" not in vars(node))
    with pytest.raises(RuntimeError, match="settled"):
        _ = untouched.entries


# Memory.


@pytest.mark.parametrize("classes", [2, 400])
@pytest.mark.parametrize("memory", [1 << 26, 1 << 27])
def test_memory_stays_within_its_limit(classes: int, memory: int) -> None:
    rng = np.random.default_rng(0)
    net = vanilla(
        U=0.3 * np.eye(2), W=rng.standard_normal((2, 200)), V=rng.standard_normal((classes, 2))
    ).margin_form()
    parts, T = parted(net), 2
    x, y = rng.integers(0, 200, (3000, T)), rng.integers(0, classes, 3000)
    data = Sequences(x, y, np.full(3000, T), memory=memory)
    radii = np.full(parts.count, 1e-4)
    tracemalloc.start()
    data.losses(net, parts, None, data.pilot(net, parts)).in_margins(np.ones(parts.count))
    data.left(net, parts, radii, np.arange(256))
    data.left_of_draws(net, parts, radii, radii, np.arange(64), rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < memory


def test_batches_are_as_large_as_their_memory() -> None:
    """What was counted is what is held, within a factor of two and a half."""
    for cell, T, tokens in (("lstm", 12, False), ("gru", 30, True), ("vanilla", 40, True)):
        net = family.random_network(
            np.random.default_rng(0), cell, d_h=16, K=5, tokens=tokens
        ).margin_form()
        parts, (x, y) = parted(net), sample(net, 24, T)
        work = work_of(net, parts, T)
        tracemalloc.start()
        for _ in pieces(walked(net, x, parts, np.full(parts.count, 1e-4)), y, parts, 4):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        counted = NUMBER * len(x) * (work.forward + 4 * work.each_class)
        assert 0.15 * counted < peak < counted, cell
        tracemalloc.start()
        for _ in pieces(walked(net, x, parts, None), y, parts, 4):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        counted = NUMBER * len(x) * (work.first + 4 * work.each_class)
        assert 0.15 * counted < peak < counted, cell


def test_draws_do_not_depend_on_memory() -> None:
    net = family.random_network(np.random.default_rng(4), "mgu", d_h=3, tokens=True).margin_form()
    parts, (x, y) = parted(net), sample(net, 90, 4)
    radii = np.full(parts.count, 0.01)
    found = []
    for memory in (MEMORY, 1 << 19):
        data = Sequences(x, y, np.full(90, 4), memory=memory)
        rng = np.random.default_rng(1)
        found.append(data.left_of_draws(net, parts, radii, radii, data.all(), rng))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)


# Time.


def test_work_grows_with_sequences_steps_classes_and_parts() -> None:
    def taken(m: int = 1000, T: int = 10, K: int = 10, letters: int = 20) -> float:
        rng = np.random.default_rng(0)
        net = vanilla(
            U=0.3 * np.eye(4), W=rng.standard_normal((4, letters)), V=rng.standard_normal((K, 4))
        ).margin_form()
        return estimate(work_of(net, parted(net), T), m, drawing=True).all

    base = taken()
    assert 1.7 < taken(m=2000) / base < 2.1
    assert 1.3 < taken(T=20) / base < 2.1
    assert 4.0 < taken(K=100) / base < 15.0
    assert 1.5 < taken(letters=200) / base < 10.0


# Units, inputs, classes, sequences, steps; seconds with enclosures and to first order, on two
# shared cores.
MEASURED = [
    ((32, 8, 4, 50, 1000), None, 2.8),
    ((32, 8, 4, 4, 1000), 15.6, 0.68),
    ((32, 28, 10, 1, 28), 0.11, 0.019),
    ((32, 28, 10, 200, 28), 3.1, 0.15),
    ((8, 8, 4, 8, 100), 0.40, 0.074),
    ((8, 8, 4, 400, 100), 3.9, 0.22),
]


@pytest.mark.parametrize(("shape", "full", "first"), MEASURED)
def test_estimates_are_what_was_measured(
    shape: tuple[int, ...], full: float | None, first: float
) -> None:
    """Within a factor of 2.5, for one sequence as for hundreds, for few steps as for many."""
    d_h, d_x, K, n, T = shape
    net = family.random_network(np.random.default_rng(0), "lstm", d_h=d_h, d_x=d_x, K=K)
    form = net.margin_form()
    work, room = work_of(form, parted(form), T), MEMORY / 2
    taken = (work.tangent * n + work.batching(n, room, first=True)) / A_SECOND
    assert 0.7 < taken / first < 2.5
    taken = (work.full * n + work.batching(n, room)) / A_SECOND
    assert full is None or 0.7 < taken / full < 2.5


def test_few_sequences_share_what_a_batch_costs() -> None:
    net = family.random_network(np.random.default_rng(0), "gru", d_h=16, K=3).margin_form()
    work = work_of(net, parted(net), 300)
    for first in (False, True):
        size, _ = work.batch(MEMORY, NOMINAL, first=first)
        cost = work.batching(1, MEMORY, first=first)
        assert 1 < size < 512 and work.batching(size, MEMORY, first=first) == cost
        assert work.batching(size + 1, MEMORY, first=first) == 2 * cost
    assert work.batch(MEMORY, 2, first=True)[0] > 3 * work.batch(MEMORY, 2)[0]
    less, more = (
        estimate(work, 100, drawing=True, memory=memory).all for memory in (MEMORY / 8, MEMORY)
    )
    assert less > 1.2 * more


def test_the_first_order_of_long_sequences_is_followed_in_few_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fifty of 1,000 steps came one by one, as memory for enclosures has it, and took 41 s."""
    net = family.random_network(np.random.default_rng(0), "lstm", d_h=16, K=2).margin_form()
    parts, (x, y) = parted(net), sample(net, 20, 120)
    sizes: list[int] = []

    def counted(network: MarginForm, x: Any, parts: BallParts, radii: Any, *more: Any) -> Any:
        sizes.append(len(x))
        return walked(network, x, parts, radii, *more)

    monkeypatch.setattr(sequences_module, "walked", counted)
    monkeypatch.setattr(sequences_module, "threads", lambda: 1)
    data = Sequences(x, y, np.full(20, 120), memory=5e7)
    found = data.losses(net, parts, None, data.all())
    assert len(sizes) <= 2 and sum(sizes) == 20
    sizes.clear()
    full = data.losses(net, parts, np.zeros(parts.count), data.all())
    assert len(sizes) >= 5 and sum(sizes) == 20
    np.testing.assert_allclose(found.S, full.S, rtol=1e-10)


def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts sequences that are followed, with enclosures and to first order."""
    found: Counter[str] = Counter()

    def counted(network: MarginForm, x: Any, parts: BallParts, radii: Any, *more: Any) -> Any:
        found["first order" if radii is None else "full"] += len(x)
        return walked(network, x, parts, radii, *more)

    monkeypatch.setattr(sequences_module, "walked", counted)
    return found


def test_what_is_hopeless_is_skipped_after_a_look_to_first_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A 28-32-10 LSTM on 600 sequences: 8,105 parameters."""
    rng = np.random.default_rng(0)
    net = family.random_network(rng, "lstm", d_h=32, d_x=28, K=10)
    x, y = sample(net, 600, 6)
    counted = passes(monkeypatch)
    found = recert.certify(net, 0.1 * x, y, max_length=6, input_bound=9.0)
    row = found["local_ball"]
    assert counted == {"first order": 512}
    assert row.kind == "not applicable" and row.delta is None
    assert row.reason == (
        "skipped as hopeless: to first order no radii promise a value below 0.98 (sequences: 600, "
        f"steps: 6, wrong classes: 9, parts: {parted(net.margin_form()).count}, "
        f"weights: {sum(b.parameters for b in net.margin_form().blocks()):,})"
    )
    assert recert.verify(found, net)


def easy(m: int = 400) -> tuple[Network, np.ndarray, np.ndarray]:
    """Two letters that decide, with margins: the local ball says something."""
    W = np.array([[3.0, -3.0]])
    net = vanilla(np.zeros((1, 1)), W, np.array([[1.0], [-1.0]]))
    x = np.random.default_rng(0).integers(0, 2, (m, 2))
    return net, x, x[:, 1]


def test_a_budget_is_kept_and_no_share_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = easy()
    usual = recert.certify(net, x, y, max_length=2)
    assert usual["local_ball"].value < 0.2
    counted = passes(monkeypatch)
    for budget, followed in ((1e-9, {}), (0.02, {"first order": 400})):
        counted.clear()
        found = recert.certify(net, x, y, max_length=2, budget=budget)
        assert dict(counted) == followed
        row = found["local_ball"]
        assert row.kind == "not applicable"
        assert row.reason.startswith("skipped: it takes about 1 s of one core, the budget is ")
        for other in found.bounds:
            if other.name != "local_ball":
                assert other == usual[other.name]


def test_an_infinite_budget_follows_what_is_hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x, y = easy(20)
    assert recert.certify(net, x, 1 - y, max_length=2)["local_ball"].kind == "not applicable"
    found = recert.certify(net, x, 1 - y, max_length=2, budget=math.inf)["local_ball"]
    assert found.kind == "certificate" and found.value == 1.0


def test_without_memory_it_is_skipped() -> None:
    net, x, y = easy()
    row = recert.certify(net, x, y, max_length=2, memory=1e-7)["local_ball"]
    assert "GiB of memory, the limit is 1e-07 GiB" in row.reason and row.kind == "not applicable"
    for wrong in ({"budget": 0}, {"budget": -1}, {"memory": math.nan}, {"budget": "long"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            recert.certify(net, x, y, max_length=2, **wrong)


def test_shares_do_not_depend_on_what_is_skipped() -> None:
    """A share that moved with the sample would have to be paid for."""
    net, x, y = easy()
    for labels in (y, 1 - y):
        case = prepare(net, x, labels, max_length=2)
        for budget in (1e-9, 60.0):
            setting = replace(case.setting, budget=budget)
            assert LocalBall().supports(setting) == ""
            found = evaluate_menu(menu("all"), setting, 0.01, case.rows)
            shares = [b.delta for b in found if b.delta is not None]
            assert shares == [pytest.approx(0.001, rel=1e-12)] * len(shares)
            assert math.fsum(shares) <= 0.01


# Norms.


def test_norms_of_a_block_are_worked_out_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[tuple[int, ...]] = Counter()
    true = norms._spectral

    def counted(S: np.ndarray) -> float:
        seen[S.shape] += 1
        return true(S)

    monkeypatch.setattr(norms, "_spectral", counted)
    rng = np.random.default_rng(0)
    net = vanilla(
        rng.standard_normal((7, 7)) / 7, rng.standard_normal((7, 13)), rng.standard_normal((3, 7))
    )
    x, y = sample(net, 200, 3)
    recert.certify(net, x, y, max_length=3)
    recert.certify(net, x, y, max_length=3)
    # V's margin form is made anew by every run; U and W are the network's own.
    assert seen[(7, 7)] == 1 and seen[(7, 13)] == 1 and seen[(3, 7)] == 1 and seen[(2, 7)] == 2


def test_nobody_can_change_a_block_behind_its_norms() -> None:
    source = np.eye(3)
    block = Block("U", source, "spectral")
    assert block.norm_bound() == pytest.approx(1.0)
    source[0, 0] = 9.0
    assert block.norm_bound() == pytest.approx(1.0) and block.value[0, 0] == 1.0
    for same in (block, copy.copy(block), copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        with pytest.raises(ValueError, match="read-only"):
            same.value[0, 0] = 2.0
        with pytest.raises(ValueError, match="WRITEABLE"):
            same.value.setflags(write=True)
        np.testing.assert_array_equal(same.value, np.eye(3))
    assert replace(block, value=2.0 * np.eye(3)).norm_bound() == pytest.approx(2.0)


@pytest.mark.parametrize("what", norms.BOUNDS)
def test_kept_norms_are_the_norms(what: norms.MatrixNorm) -> None:
    A = np.random.default_rng(0).standard_normal((4, 6))
    block = Block("W", A, "spectral")
    assert block.matrix_norm(what) == getattr(norms.norm_bounds(A), what)
    assert getattr(block.matrix_norms(), what) == block.matrix_norm(what)


# Walks.


def walked_steps(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts steps that are walked, and walks."""
    from recert.sensitivities import unroll

    found: Counter[str] = Counter()
    step, track = unroll.Walk.step, unroll.Walk.track

    def counted_step(self: Any, *norms_of: Any) -> Any:
        found["steps"] += 1
        return step(self, *norms_of)

    def counted_track(self: Any, *steps: Any, **options: Any) -> Any:
        found["walks"] += 1
        return track(self, *steps, **options)

    monkeypatch.setattr(unroll.Walk, "step", counted_step)
    monkeypatch.setattr(unroll.Walk, "track", counted_track)
    return found


def class_wide() -> list[str]:
    return [theorem.name for theorem in menu("all") if theorem.name != "local_ball"]


def test_long_sequences_of_an_lstm_take_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """At T = 1,000 its menu took 11,352 steps in 22 walks."""
    net = family.random_network(np.random.default_rng(0), "lstm", d_h=8, K=3)
    x, y = sample(net, 100, 3)
    case = prepare(net, 0.1 * x, y, max_length=1000, input_bound=3.0)
    counted = walked_steps(monkeypatch)
    evaluate_menu(menu(class_wide()), case.setting, 0.01, case.rows)
    assert counted["walks"] <= 5 and counted["steps"] <= 2000


def test_candidates_without_hope_are_left_out_and_no_value_changes() -> None:
    for m, scale in ((100, 1.0), (3000, 0.3)):
        net = family.random_network(
            np.random.default_rng(0), "gru", d_h=2, K=2, tokens=True, scale=scale
        )
        x, _ = sample(net, m, 3)
        y = recert.networks.forward.network_predictor(net)(x, np.full(m, 3), "last").argmax(axis=1)
        case = prepare(net, x, y, max_length=3)
        short = evaluate_menu(menu(class_wide()), case.setting, 0.01, case.rows)
        whole = replace(case.setting, budget=math.inf)
        for one, other in zip(
            short, evaluate_menu(menu(class_wide()), whole, 0.01, case.rows), strict=True
        ):
            assert one.kind == other.kind and one.delta == other.delta
            if one.log10 is not None:
                assert one.value == pytest.approx(other.value, rel=1e-9)
                assert one.choices.get("gamma") == other.choices.get("gamma")

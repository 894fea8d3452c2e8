"""Time and memory that are promised, as ratios: to what they grow with, and to an estimate.

    python benchmarks/bench_work.py [--quick]

* The local ball: seconds to follow sequences with enclosures and to first order, over the estimate
  (`recert.perturbation.work`), and the memory that a batch holds over what was counted.
* The menu of an LSTM of 32 units: seconds at T = 1,000 over those at T = 100.
* ONNX: seconds to read 4n nodes, and n outputs behind n nodes, over those of a quarter.
* Short token sequences: peak memory of a certificate, over the memory of its margins.
"""

from __future__ import annotations

import argparse
import contextlib
import time
import tracemalloc
from collections.abc import Callable

import numpy as np

import recert
from recert.certification.certify import evaluate_menu, menu, prepare
from recert.errors import UnsupportedModelError
from recert.networks.layers import Layer, layer_of
from recert.networks.network import Block, Head, Network, vanilla
from recert.perturbation.adjoint import pieces, walked
from recert.perturbation.ball import parts_of
from recert.perturbation.posterior_risk import Sequences
from recert.perturbation.work import A_SECOND, MEMORY, NUMBER, Work, work_of


def lstm(units: int, reads: int, classes: int) -> Network:
    rng = np.random.default_rng(0)
    scale = 1.0 / np.sqrt(units)
    roles = {
        f"{letter}_{gate}": rng.uniform(-scale, scale, shape)
        for gate in "groc"
        for letter, shape in (("U", (units, units)), ("W", (units, reads)), ("b", (units,)))
    }
    layer: Layer = layer_of("lstm", roles)
    V = rng.uniform(-scale, scale, (classes, units))
    return Network((layer,), Head(Block("V", V, "spectral")), "real")


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def counted_time(work: Work, n: int, *, first: bool = False) -> float:
    """The seconds that n sequences of one length are said to take."""
    products = n * (work.tangent if first else work.full)
    return (products + work.batching(n, MEMORY / 2, first=first)) / A_SECOND


def local_ball(quick: bool) -> None:
    rng = np.random.default_rng(0)
    n = 32 if quick else 200
    tokens = vanilla(
        U=0.3 * np.eye(8), W=rng.standard_normal((8, 30)), V=rng.standard_normal((3, 8))
    )
    cases = {
        "LSTM 28-32-10, T = 28": (lstm(32, 28, 10), rng.random((n, 28, 28)), 10),
        "one of them": (lstm(32, 28, 10), rng.random((1, 28, 28)), 10),
        "LSTM 8-32-4, T = 1,000, two": (lstm(32, 8, 4), rng.standard_normal((2, 1000, 8)), 4),
        "vanilla 30-8-3, T = 12": (tokens, rng.integers(0, 30, (20 * n, 12)), 3),
    }
    for name, (network, x, classes) in cases.items():
        form, T = network.margin_form(), x.shape[1]
        parts, y = parts_of(tuple(form.blocks()), columns=True), rng.integers(0, classes, len(x))
        data, radii = Sequences(x, y, np.full(len(x), T)), np.full(parts.count, 1e-4)
        work = work_of(form, parts, T)
        full = seconds(lambda: data.left(form, parts, radii, data.all()))  # noqa: B023
        plain = seconds(lambda: data.losses(form, parts, None, data.all()))  # noqa: B023
        few = slice(0, 16)
        tracemalloc.start()
        for _ in pieces(walked(form, x[few], parts, radii), y[few], parts, classes):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        counted = NUMBER * 16 * (work.forward + (classes - 1) * work.each_class)
        print(
            f"{name}: time over estimate {full / counted_time(work, len(x)):.2f} with enclosures, "
            f"{plain / counted_time(work, len(x), first=True):.2f} without; memory over what was "
            f"counted {peak / counted:.2f}"
        )


def walks() -> None:
    network = lstm(32, 28, 10)
    rng = np.random.default_rng(0)
    x, y = 0.1 * rng.standard_normal((200, 5, 28)), rng.integers(0, 10, 200)
    names = [theorem.name for theorem in menu("all") if theorem.name != "local_ball"]
    taken = {}
    for T in (100, 1000):
        case = prepare(network, x, y, max_length=T, input_bound=3.0)
        taken[T] = seconds(lambda: evaluate_menu(menu(names), case.setting, 0.01, case.rows))  # noqa: B023
    print(
        f"menu of an LSTM of 32 units: T = 1,000 over T = 100 {taken[1000] / taken[100]:.2f}, "
        f"over half a second {taken[1000] / 0.5:.2f}"
    )


def onnx_files(quick: bool) -> None:
    from onnx import TensorProto, helper, numpy_helper

    from recert.readers.onnx import read as onnx_reader

    def model(kind: str, n: int) -> bytes:
        weights = {"W": (1, 4, 3), "R": (1, 4, 4), "V": (4, 2)}
        constants = [
            numpy_helper.from_array(np.full(shape, 0.1, np.float32), name)
            for name, shape in weights.items()
        ]
        constants.append(numpy_helper.from_array(np.array([0]), "ax"))
        nodes = [
            helper.make_node("RNN", ["x", "W", "R"], ["Y", "Yh"], hidden_size=4),
            helper.make_node("Squeeze", ["Yh", "ax"], ["h"]),
            helper.make_node("MatMul", ["h", "V"], ["v0"]),
        ]
        for i in range(n):
            source = "v0" if kind == "outputs" else f"v{i}"
            nodes.append(helper.make_node("Identity", [source], [f"v{i + 1}"]))
        outputs = [f"v{i + 1}" for i in range(n)] if kind == "outputs" else [f"v{n}"]
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", "N", 3])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            constants,
        )
        opset = [helper.make_opsetid("", 17)]
        raw: bytes = helper.make_model(graph, opset_imports=opset).SerializeToString()
        return raw

    def read(raw: bytes) -> None:
        with contextlib.suppress(UnsupportedModelError):  # many outputs are many answers
            onnx_reader.read(raw, "model")

    n = 2_000 if quick else 50_000
    for kind in ("outputs", "chain"):
        few, many = (seconds(lambda m=size: read(model(kind, m))) for size in (n, 4 * n))  # noqa: B023
        print(f"ONNX, {kind}: {4 * n:,} nodes over {n:,} {many / few:.2f}")


def margins(quick: bool) -> None:
    m = 20_000 if quick else 1_000_000
    rng = np.random.default_rng(0)
    network = vanilla(
        U=0.3 * np.eye(4), W=rng.standard_normal((4, 8)), V=rng.standard_normal((2, 4))
    )
    x, y = rng.integers(0, 8, (m, 4)).astype(np.int8), rng.integers(0, 2, m)
    tracemalloc.start()
    recert.certify(network, x, y, max_length=4, bounds="margin_ball")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(
        f"certificate of {m:,} short sequences: peak memory over that of margins {peak / m / 8:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="reduced sizes")
    quick = parser.parse_args().quick
    local_ball(quick)
    walks()
    onnx_files(quick)
    margins(quick)


if __name__ == "__main__":
    main()

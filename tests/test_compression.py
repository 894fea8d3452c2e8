"""Programs as files: exact, short, self-delimiting, and safe to read from strangers."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from family import CELLS, random_network
from recert.compression import (
    CodedBlock,
    Grid,
    Program,
    code_length_bits,
    coded_bits,
    compress,
    decode,
    encode,
    file_bytes,
    load_program,
    program_of,
    save_program,
    with_values,
)
from recert.compression import file as files
from recert.compression.architecture import ArchitectureCode
from recert.compression.coder import SCALE, Meter, Reader, Writer, natural, signed
from recert.compression.integers import IntegerCode
from recert.compression.parts import CodedPart, notched
from recert.compression.search import certified
from recert.errors import FileError, InputError, MissingDependencyError, RecertError
from recert.networks.blocks import Block, FixedMap
from recert.networks.forward import network_predictor
from recert.networks.layers import Dense, group_average, layer_of
from recert.networks.network import Head, Network

pytest.importorskip("constriction")


def random_grid(
    rng: np.random.Generator, shape: tuple[int, ...], zeros: tuple[int, ...] = (), size: float = 3.0
) -> Grid:
    integers = np.rint(rng.laplace(size=shape) * size * rng.random()).astype(np.int64)
    integers[..., list(zeros)] = 0
    return Grid(integers, int(rng.integers(1, 16)), int(rng.integers(-6, 1)))


def random_program(network: Network, rng: np.random.Generator, size: float = 3.0) -> Program:
    """Random grids for a network's blocks, some of them products of two."""
    blocks = {}
    for block in network.blocks():
        zeros = block.zero_columns
        if len(block.shape) == 2 and rng.random() < 0.25:
            rank = int(rng.integers(1, 4))
            left = random_grid(rng, (block.shape[0], rank), size=size)
            right = random_grid(rng, (rank, block.shape[1]), zeros, size)
            blocks[block.name] = CodedBlock((left, right))
        else:
            blocks[block.name] = CodedBlock((random_grid(rng, block.shape, zeros, size),))
    return program_of(network, blocks)


def any_network(rng: np.random.Generator, cell: str) -> Network:
    """A network of the family with whatever parts a seed gives it."""
    conv, tokens = cell.startswith("conv"), bool(rng.integers(2))
    free = cell in ("vanilla", "conv", "conv_averaged")
    return random_network(
        rng,
        cell,
        d_x=8 if conv else int(rng.integers(1, 9)),
        d_h=4,
        K=int(rng.integers(2, 5)),
        layers=int(rng.integers(1, 3)),
        two_way=bool(rng.integers(2)),
        bias=bool(rng.integers(2)),
        proj=2 if cell == "lstm" and rng.integers(2) else 0,
        tokens=tokens,
        embedding=4 if tokens and (conv or rng.integers(2)) else 0,
        encoder=4 * int(rng.integers(2)),
        hidden=3 * int(rng.integers(2)),
        read=str(rng.choice(["step", "final", "mean"])),
        activation="relu" if free and rng.integers(2) else "tanh",
        head_activation=str(rng.choice(["relu", "tanh", "elu", "identity"])),
    )


def assert_same_network(one: Network, other: Network) -> None:
    assert one.description() == other.description()
    blocks = {block.name: block for block in other.blocks()}
    for block in one.blocks():
        found = blocks[block.name]
        assert np.array_equal(block.value, found.value) and block.norm == found.norm
        assert block.zero_columns == found.zero_columns and block.positions == found.positions


def round_trip(program: Program) -> Program:
    data = encode(program)
    found = decode(data)
    assert encode(found) == data and file_bytes(program) == len(data)
    assert len(data) <= 1 + math.ceil((coded_bits(program) + 9) / 8)
    return found


@cache
def small_files() -> tuple[bytes, ...]:
    rng = np.random.default_rng(5)
    return tuple(
        encode(random_program(any_network(rng, cell), rng)) for cell in CELLS for _ in range(2)
    )


# Grids and programs.


def test_a_grid_is_exact() -> None:
    grid = Grid(np.array([[3, -1], [0, 7]]), 12, -3)
    assert (grid.mantissa, grid.exponent, grid.step) == (3, -1, 1.5)
    assert np.array_equal(grid.value(), [[4.5, -1.5], [0.0, 10.5]])
    assert grid == Grid(np.array([[3.0, -1], [0, 7]]), 3, -1)
    assert grid != Grid(np.array([[3, -1], [0, 7]]), 3, 0)
    assert Grid(np.zeros(3, dtype=int), 7, -5) == Grid(np.zeros(3))
    assert not np.signbit(Grid(np.zeros(3)).value()).any()
    with pytest.raises(ValueError, match="read-only"):
        grid.integers[0, 0] = 1


@given(
    st.lists(st.integers(-(2**44), 2**44), min_size=1, max_size=20),
    st.integers(1, 255),
    st.integers(-400, 390),
)
def test_values_are_the_rational_numbers_they_stand_for(
    integers: list[int], mantissa: int, exponent: int
) -> None:
    value = Grid(np.array(integers), mantissa, exponent).value()
    for n, x in zip(integers, value, strict=True):
        assert Fraction(float(x)) == Fraction(n) * mantissa * Fraction(2) ** exponent


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_products_are_the_rational_numbers_they_stand_for(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, r, k = rng.integers(1, 6, size=3)
    left, right = (
        Grid(rng.integers(-(2**18), 2**18, size=s), int(rng.integers(1, 64)), -9)
        for s in ((n, r), (r, k))
    )
    value = CodedBlock((left, right)).value((n, k))
    exact = left.integers.astype(object) @ right.integers.astype(object)
    scale = Fraction(left.mantissa * right.mantissa) * Fraction(2) ** (
        left.exponent + right.exponent
    )
    assert all(
        Fraction(float(x)) == int(e) * scale
        for x, e in zip(value.ravel(), exact.ravel(), strict=True)
    )


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Grid(np.array([0.5])), "whole numbers"),
        (lambda: Grid(np.array([np.nan])), "whole numbers"),
        (lambda: Grid(np.array(["a"])), "whole numbers"),
        (lambda: Grid(np.array([2**60])), "2\\^53"),
        (lambda: Grid(np.array([2**53]), 3), "exactly"),
        (lambda: Grid(np.zeros((0, 3))), "nothing"),
        (lambda: Grid(np.array(3)), "nothing"),
        (lambda: Grid(np.ones(2), 257), "mantissa"),
        (lambda: Grid(np.ones(2), 0), "mantissa"),
        (lambda: Grid(np.ones(2), 1, 401), "exponent"),
        (lambda: CodedBlock(()), "not 0"),
        (lambda: CodedBlock((Grid(np.ones((2, 2))), Grid(np.ones((3, 2))))), "no product"),
        (lambda: CodedBlock((Grid(np.ones(2)), Grid(np.ones((2, 2))))), "no product"),
        (lambda: CodedBlock((Grid(np.full((1, 1), 2**30)),) * 2).value(), "whole numbers"),
        (lambda: CodedBlock((Grid(np.ones((2, 2))),)).value((2, 3)), "shape"),
    ],
)
def test_what_is_not_exact_or_does_not_fit_is_refused(make: object, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        make()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


def test_a_program_needs_every_block_in_its_shape() -> None:
    rng = np.random.default_rng(0)
    network = random_network(rng, "vanilla")
    blocks = dict(random_program(network, rng).blocks)
    with pytest.raises(InputError, match="'V'"):
        program_of(network, {name: b for name, b in blocks.items() if name != "V"})
    with pytest.raises(InputError, match="shape"):
        program_of(network, {**blocks, "V": CodedBlock((Grid(np.ones((2, 2))),))})


@pytest.mark.parametrize("cell", CELLS)
def test_other_weights_in_the_same_architecture(cell: str) -> None:
    rng = np.random.default_rng(3)
    network = any_network(rng, cell)
    values = {block.name: rng.normal(size=block.shape) for block in network.blocks()}
    changed = with_values(network, values)
    assert changed.description() == network.description()
    assert all(np.array_equal(b.value, values[b.name]) for b in changed.blocks())
    assert with_values(network, {}).digest == network.digest


# The stream of decisions.

CHANCES = st.one_of(st.integers(1, SCALE - 1), st.sampled_from([1, SCALE // 2, SCALE - 1]))


@given(st.lists(st.tuples(CHANCES, st.integers(0, 1)), max_size=200), st.binary(max_size=20))
def test_every_continuation_of_a_stream_decodes_alike(
    decisions: list[tuple[int, int]], rest: bytes
) -> None:
    writer, meter = Writer(), Meter()
    for chance, value in decisions:
        writer.bit(chance, value)
        meter.bit(chance, value)
    data = writer.finish()
    lost = 0.006 * len(decisions)  # the coder's chances have 24 digits, its range 32 to 64
    assert meter.bits - lost - 1e-3 <= 8 * len(data) < meter.bits + lost + 9.1
    for after in (b"", rest, bytes(12), b"\xff" * 12):
        reader = Reader(data + after)
        assert [reader.bit(chance, 0) for chance, _ in decisions] == [v for _, v in decisions]


def streams(number: int, seed: int) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """Every sequence of so many decisions, whose chances depend on those before, with its bytes."""
    rng = np.random.default_rng(seed)
    table = rng.integers(1, SCALE, size=2**number)
    for values in itertools.product((0, 1), repeat=number):
        writer, place = Writer(), 1
        for value in values:
            writer.bit(int(table[place]), value)
            place = 2 * place + value
        yield writer.finish(), values


def kraft(codes: list[bytes]) -> Fraction:
    return sum((Fraction(1, 256 ** len(code)) for code in codes), Fraction(0))


@pytest.mark.parametrize("seed", range(4))
def test_streams_obey_kraft_and_those_that_end_with_their_file_do_not(seed: int) -> None:
    codes = [code for code, _ in streams(8, seed)]
    assert len(set(codes)) == len(codes) and kraft(codes) <= 1
    for one, two in itertools.pairwise(sorted(codes)):  # a prefix sorts next to what it begins
        assert not two.startswith(one)
    # Broken: zeros at the end are left out, and the decoder knows the end from the end of the file.
    trimmed = [code.rstrip(b"\0") for code in codes]
    shorter = {code for code in trimmed if any(o != code and o.startswith(code) for o in trimmed)}
    assert shorter


def test_a_stream_without_its_own_end_breaks_kraft() -> None:
    """All strings of up to three bytes are files for a decoder that reads until the end."""
    broken = [Fraction(256**n, 256**n) for n in range(4)]
    assert sum(broken) == 4


@given(st.integers(-(2**50), 2**50), st.integers(0, 2**50))
def test_numbers_come_back(whole: int, size: int) -> None:
    writer = Writer()
    signed(writer, whole, 2**50)
    natural(writer, size, 2**50, least=0)
    reader = Reader(writer.finish())
    assert signed(reader, 0, 2**50) == whole and natural(reader, 0, 2**50, least=0) == size


def test_a_number_above_its_limit_is_refused() -> None:
    writer = Writer()
    natural(writer, 1000, 1000)
    with pytest.raises(InputError, match="passes 999"):
        natural(Reader(writer.finish()), 0, 999)
    with pytest.raises(InputError, match="passes"):
        natural(Writer(), 12, 3)


INTEGERS = st.one_of(st.integers(-3, 3), st.integers(-300, 300), st.integers(-(2**53), 2**53))


@given(st.lists(st.lists(INTEGERS, min_size=3, max_size=3), max_size=8), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_integers_come_back(rows: list[list[int]], zeros: int) -> None:
    grids = [np.array(rows, dtype=np.int64).reshape(-1, 3), np.zeros((4, zeros), dtype=np.int64)]
    writer = Writer()
    code = IntegerCode(writer)
    for grid in (*grids, grids[0]):
        code.grid("W", *grid.shape, grid)
    back = IntegerCode(Reader(writer.finish()))
    for grid in (*grids, grids[0]):
        assert np.array_equal(back.grid("W", *grid.shape, None), grid)


def test_integers_cost_about_their_entropy() -> None:
    rng = np.random.default_rng(1)
    grid = rng.choice([-1, 0, 0, 0, 0, 0, 0, 1], size=(40, 50))
    entropy = 2000 * (0.75 * math.log2(4 / 3) + 0.25 * math.log2(8))
    meter = Meter()
    IntegerCode(meter).grid("U", 40, 50, grid)
    assert entropy * 0.95 < meter.bits < entropy * 1.02 + 10
    assert meter.bits == pytest.approx(code_length_bits(grid), rel=0.02)
    # Columns that are empty in one gate are expected to be empty in the next.
    columns = np.where(np.arange(50) % 2, rng.choice([-1, 1], size=(40, 50)), 0)
    meter, bits = Meter(), []
    code = IntegerCode(meter)
    for _ in range(2):
        code.grid("W", 40, 50, columns)
        bits.append(meter.bits)
    assert bits[0] < 0.45 * code_length_bits(columns)
    assert bits[1] - bits[0] < 1100 < bits[0]


@pytest.mark.parametrize("scale", [1, 10, 1000])
def test_the_fast_estimate_of_a_length_is_close(scale: int) -> None:
    rng = np.random.default_rng(2)
    grid = np.rint(rng.normal(size=(30, 40)) * scale).astype(np.int64)
    meter = Meter()
    IntegerCode(meter).grid("U", 30, 40, grid)
    assert code_length_bits(Grid(grid, 3, -2)) == pytest.approx(meter.bits, rel=0.15)
    assert code_length_bits(np.zeros((3, 4), dtype=int)) < 10


# Files.


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("seed", range(6))
def test_every_network_of_the_family_comes_back_exactly(cell: str, seed: int) -> None:
    rng = np.random.default_rng([seed, CELLS.index(cell)])
    program = random_program(any_network(rng, cell), rng)
    assert_same_network(round_trip(program).network(), program.network())


@given(st.integers(0, 2**32 - 1), st.sampled_from(CELLS), st.sampled_from([0.1, 1.0, 30.0, 1e6]))
@settings(max_examples=12, deadline=None)
def test_random_programs_come_back(seed: int, cell: str, size: float) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(any_network(rng, cell), rng, size)
    found = round_trip(program)
    assert dict(found.blocks) == dict(program.blocks)


def tagged(network: Network, zeros: tuple[int, ...]) -> Network:
    """The network with columns declared zero in every block that reads tokens, and in V."""

    def block(b: Block) -> Block:
        if b.norm != "column" and b.name != "V":
            return b
        columns = tuple(c for c in zeros if c < b.shape[-1])
        value = b.value.copy()
        value[..., list(columns)] = 0.0
        return Block(b.name, value, b.norm, columns)

    layers = tuple(
        type(layer)(layer.cell, {r: block(b) for r, b in layer.blocks.items()}, layer.activation)
        for layer in network.layers
    )
    head = Head(block(network.head.V), network.head.b)
    return Network(layers, head, network.input_kind, read=network.read)


def test_columns_that_are_always_zero_are_kept_and_cost_little() -> None:
    rng = np.random.default_rng(4)
    plain = random_network(rng, "gru", d_x=9, d_h=4, tokens=True)
    network = tagged(plain, (8, 0, 3))
    program = random_program(network, rng)
    found = round_trip(program).network()
    assert found.block("W_r").zero_columns == (0, 3, 8) == found.block("W_n").zero_columns
    assert found.block("V").zero_columns == (0, 3)
    assert np.array_equal(found.block("W_r").value, program.network().block("W_r").value)
    wrong = dict(program.blocks) | {"W_r": CodedBlock((Grid(np.ones((4, 9))),))}
    with pytest.raises(InputError, match="zero"):
        encode(program_of(network, wrong))


def with_head(network: Network, head: Head) -> Network:
    return Network(network.layers, head, network.input_kind, read=network.read)


@pytest.mark.parametrize("pool", ["group", "any", "huge numbers"])
def test_pools_come_back(pool: str) -> None:
    rng = np.random.default_rng(6)
    network = random_network(rng, "vanilla", d_h=4)
    V = Block("V", np.ones((6, 4)), "spectral")
    matrix = {"group": None, "any": rng.normal(size=(3, 6)), "huge numbers": np.full((3, 6), 1e300)}
    given_pool = group_average(6, 3) if pool == "group" else FixedMap(matrix[pool])
    network = with_head(network, Head(V, Block("b_V", np.zeros(3), "euclidean"), (), given_pool))
    program = random_program(network, rng)
    found = round_trip(program).network()
    assert found.head.pool is not None and found.K == 3
    assert np.array_equal(found.head.pool.matrix, given_pool.matrix)
    assert (len(encode(program)) > 150) == (pool != "group")


def test_filter_banks_in_head_and_encoder_come_back() -> None:
    rng = np.random.default_rng(7)
    layer = random_network(rng, "vanilla", d_x=6, d_h=6).layers[0]
    bank = Block("F", rng.normal(size=(2, 2, 3)), "operator", positions=3)
    V = Block("V", rng.normal(size=(1, 2, 2)), "operator", positions=3)
    hidden = (Dense(Block("G", rng.normal(size=(6, 6)), "spectral"), None, "sigmoid"),)
    network = Network((layer,), Head(V, None, hidden), "real", None, (Dense(bank),))
    found = round_trip(random_program(network, rng)).network()
    assert found.block("F").positions == 3 == found.K
    assert found.description() == network.description()


def test_other_names_and_orders_become_the_usual_ones() -> None:
    rng = np.random.default_rng(8)
    usual = random_network(rng, "gru", tokens=True)
    layer = usual.layers[0]
    blocks = {
        role: Block(f"my.{role}", block.value, block.norm)
        for role, block in reversed(list(layer.blocks.items()))
    }
    head = Head(Block("out", usual.head.V.value, "spectral"), usual.head.b)
    other = Network((type(layer)("gru", blocks),), head, "onehot")
    program = random_program(other, rng)
    found = decode(encode(program))
    assert [block.name for block in found.network().blocks()] == [b.name for b in usual.blocks()]
    for role in blocks:
        assert found.blocks[role] == program.blocks[f"my.{role}"]
    assert found.blocks["V"] == program.blocks["out"]


def test_some_biases_and_mixed_cells_come_back() -> None:
    rng = np.random.default_rng(9)
    lower = layer_of("vanilla", {"U": np.eye(3), "W": np.ones((3, 2))}, suffix="0")
    values = {f"{k}{g}": rng.normal(size=(3, 3)) for g in ("_r", "_z", "_n") for k in "UW"}
    upper = layer_of("gru", {**values, "b_z": np.ones(3), "b_hn": np.ones(3)}, suffix="1")
    network = Network((lower, upper), Head(Block("V", np.ones((2, 3)), "spectral")), "real")
    found = round_trip(random_program(network, rng)).network()
    assert set(found.layers[1].blocks) == set(upper.blocks)


def test_the_header_of_a_common_network_takes_four_bytes() -> None:
    rng = np.random.default_rng(10)
    meter = Meter()
    network = random_network(rng, "gru", d_x=30, d_h=16, K=3, tokens=True)
    ArchitectureCode(meter, 10**6).network(network)
    assert meter.bits < 32
    one = {b.name: CodedBlock((Grid(np.ones(b.shape), 5, -4),)) for b in network.blocks()}
    assert len(encode(program_of(network, one))) < 36  # with its step, and all integers


def test_bytes_never_change() -> None:
    """A file that was written must be read by every later version of the package."""
    integers = {"U": [[1, 0], [-2, 3]], "W": [[0, 1, 1], [5, 0, -1]], "V": [[1, -1], [40, 0]]}
    network = layer_of("vanilla", {"U": np.eye(2), "W": np.ones((2, 3))}, reads_tokens=True)
    whole = Network((network,), Head(Block("V", np.eye(2), "spectral")))
    blocks = {
        name: CodedBlock((Grid(np.array(n), 2 * k + 1, -k),))
        for k, (name, n) in enumerate(integers.items())
    }
    data = encode(program_of(whole, blocks))
    assert data.hex() == "cebba250f37d5188394c9b1c45"
    assert dict(decode(data).blocks) == blocks


FRESH = """
import hashlib, sys
import numpy as np
from recert.compression import load_program
from recert.networks.forward import network_predictor
network = load_program(sys.argv[1]).network()
x = np.random.default_rng(0).integers(0, network.d_x, size=(500, 7))
y = network_predictor(network)(x, np.full(500, 7), "last")
print(hashlib.sha256(y.argmax(axis=1).astype("<i8").tobytes()).hexdigest(), y.sum().hex())
"""


def test_a_fresh_process_decodes_the_file_and_predicts_the_same(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    network = random_network(rng, "lstm", d_x=7, d_h=4, tokens=True, two_way=True, hidden=3)
    program = random_program(network, rng)
    path = tmp_path / "alone" / "network.rcz"
    assert save_program(program, path) == path.stat().st_size == len(encode(program))
    assert [p.name for p in path.parent.iterdir()] == ["network.rcz"]
    found = subprocess.run(
        [sys.executable, "-I", "-c", FRESH, str(path)], capture_output=True, text=True, check=True
    )
    x = np.random.default_rng(0).integers(0, 7, size=(500, 7))
    y = network_predictor(program.network())(x, np.full(500, 7), "last")
    import hashlib

    digest = hashlib.sha256(y.argmax(axis=1).astype("<i8").tobytes()).hexdigest()
    assert found.stdout.split() == [digest, y.sum().hex()]


# Self-delimiting, and safe.


def test_no_file_begins_another() -> None:
    rng = np.random.default_rng(12)
    codes = {*small_files()}
    tiny = random_network(rng, "vanilla", d_x=1, d_h=1, K=2, bias=False)
    for _ in range(300):  # many networks that differ in little
        codes.add(encode(random_program(tiny, rng, 0.7)))
    assert len(codes) > 150
    for one, two in itertools.pairwise(sorted(codes)):
        assert not two.startswith(one)
    assert kraft(sorted(codes)) <= 1


def test_files_with_something_after_them_are_refused() -> None:
    rng = np.random.default_rng(13)
    for data in small_files():
        for after in (b"\0", b"\xff", data, rng.bytes(3)):
            with pytest.raises(FileError, match="follow the"):
                decode(data + after)


def test_every_shortened_file_is_refused() -> None:
    for data in small_files():
        for length in range(0, len(data), 1 + len(data) // 40):
            with pytest.raises(FileError) as caught:
                decode(data[:length])
            assert "\n" not in str(caught.value) and len(str(caught.value)) > 20


def attempt(data: bytes) -> bool:
    """Whether the bytes are a file; if not, they give one typed line and nothing else."""
    try:
        found = decode(data)
    except FileError as error:
        assert "\n" not in str(error)
        return False
    assert encode(found) == data
    return True


def hostile(rng: np.random.Generator, number: int) -> int:
    """How many of so many mutated and random files are files."""
    files_, valid = small_files(), 0
    for k in range(number):
        data = bytearray(files_[k % len(files_)])
        kind = rng.integers(5)
        if kind == 0:
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            i = int(rng.integers(1, len(data)))
            data[i : i + int(rng.integers(3))] = rng.bytes(int(rng.integers(4)))
        elif kind == 2:
            data = data[: int(rng.integers(1, 12))] + rng.bytes(int(rng.integers(120)))
        elif kind == 3:
            fill = bytes([int(rng.choice([0, 255]))]) * int(rng.integers(1, 120))
            data = data[: int(rng.integers(1, 12))] + fill
        else:
            data = bytearray(b"\xce" + rng.bytes(int(rng.integers(120))))
        started = time.perf_counter()
        valid += attempt(bytes(data))
        assert time.perf_counter() - started < 5.0
    return valid


def test_hostile_files_give_one_line_or_a_network() -> None:
    valid = hostile(np.random.default_rng(14), 300)
    assert valid < 30  # a mutation is mostly noticed, because files are as short as can be


@pytest.mark.slow
def test_many_hostile_files() -> None:
    hostile(np.random.default_rng(15), 4000)


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_bytes_give_one_line_or_a_network(data: bytes) -> None:
    attempt(data)
    attempt(files.MAGIC + data)
    attempt(files.SPELT + data)


class Forger(Writer):
    """Writes an architecture without weights: what a short file may claim."""


def claimed(network: Network) -> bytes:
    writer = Forger()
    ArchitectureCode(writer, 10**9).network(network)
    return files.MAGIC + writer.finish()


def wide(rows: int, columns: int) -> Network:
    """A network with huge blocks that take no memory."""
    network = random_network(np.random.default_rng(0), "vanilla", d_x=2, d_h=2)
    network.layers[0].blocks["W"].__dict__["value"] = np.broadcast_to(np.zeros(1), (2, columns))
    network.head.V.__dict__["value"] = np.broadcast_to(np.zeros(1), (rows, 2))
    network.head.b.__dict__["value"] = np.broadcast_to(np.zeros(1), (rows,))  # type: ignore[union-attr]
    return network


@pytest.mark.parametrize(("rows", "columns"), [(2, 2**23), (2**23, 2), (3000, 3), (2, 2**40)])
def test_a_short_file_cannot_claim_much(rows: int, columns: int) -> None:
    writer = Writer()
    try:
        ArchitectureCode(writer, 10**9).network(wide(rows, columns))
    except InputError:
        assert columns == 2**40  # no writer says so
        return
    data = files.MAGIC + writer.finish()
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match="more weights"):
            decode(data + bytes(2))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_program_that_is_too_sparse_for_its_length_is_refused_when_written() -> None:
    network = random_network(np.random.default_rng(0), "vanilla", d_x=40_000, d_h=2, tokens=True)
    blocks = {b.name: CodedBlock((Grid(np.zeros(b.shape)),)) for b in network.blocks()}
    with pytest.raises(InputError, match="more weights"):
        encode(program_of(network, blocks))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "not a compressed network"),
        (b"PK\x03\x04 and so on", "not a compressed network"),
        (b"\xce", "truncated|damaged"),
        (b"\xce" + bytes(2**22), "more than"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "n.rcz"
    path.write_bytes(content)
    with pytest.raises(FileError, match=match) as caught:
        load_program(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        load_program(tmp_path / "none.rcz")
    with pytest.raises(FileError, match="cannot read"):
        load_program(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileError, match="cannot write"):
        save_program(random_program(random_network(rng, "mgu"), rng), tmp_path / "file" / "n.rcz")


def test_without_constriction_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['constriction'] = None\n"
        "from recert.compression import decode\n"
        "from recert.errors import MissingDependencyError\n"
        "try: decode(b'\\xce1234')\n"
        "except MissingDependencyError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "recert[compress]" in found.stdout and "constriction" in found.stdout
    assert issubclass(MissingDependencyError, RecertError)


def test_importing_loads_neither_constriction_nor_torch() -> None:
    code = "import recert.compression, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"constriction", "torch", "scipy.stats"} & set(found.stdout.split())


# The search.


def teacher() -> tuple[Network, np.ndarray, np.ndarray]:
    """A network, sequences, and the classes that it gives them."""
    rng = np.random.default_rng(16)
    network = random_network(rng, "gru", d_x=6, d_h=4, K=2, tokens=True, scale=2.0)
    x = rng.integers(0, 6, size=(400, 5))
    logits = network_predictor(network)(x, np.full(400, 5), "last")
    bias = network.block("b_V").value - np.median(logits, axis=0)  # each class about as often
    network = with_values(network, {"b_V": bias})
    y = network_predictor(network)(x, np.full(400, 5), "last").argmax(axis=1)
    return network, x, y


def disagreement(x: np.ndarray, y: np.ndarray) -> object:
    lengths = np.full(len(x), x.shape[1])

    def error(network: Network) -> float:
        return float((network_predictor(network)(x, lengths, "last").argmax(axis=1) != y).mean())

    return error


@cache
def searched() -> tuple[Network, object, object]:
    network, x, y = teacher()
    error = disagreement(x, y)
    calls: list[tuple[int, int]] = []
    found = compress(
        network,
        error,  # type: ignore[arg-type]
        m=20_000,
        quick=disagreement(x[:200], y[:200]),  # type: ignore[arg-type]
        evaluations=120,
        progress=lambda done, most: calls.append((done, most)),
    )
    assert calls[-1] == (120, 120) and found.evaluations <= 120 + 16
    return network, error, found


def test_the_search_finds_short_files_and_says_what_they_do() -> None:
    network, error, found = searched()
    for candidate in (*found.frontier, found.best):  # type: ignore[attr-defined]
        data = encode(candidate.program)
        assert len(data) == candidate.bytes
        assert error(decode(data).network()) == candidate.error  # type: ignore[operator]
        expected = certified(candidate.error, candidate.bytes, 20_000, 0.05)
        assert candidate.certificate == expected
    lengths = [c.bytes for c in found.frontier]  # type: ignore[attr-defined]
    errors = [c.error for c in found.frontier]  # type: ignore[attr-defined]
    assert lengths == sorted(set(lengths)) and errors == sorted(set(errors), reverse=True)
    assert len(found.frontier) >= 4  # type: ignore[attr-defined]
    best = found.best  # type: ignore[attr-defined]
    assert best.certificate == min(c.certificate for c in found.frontier)  # type: ignore[attr-defined]
    # Eight-bit grids are what one would do without a search.
    plain = {
        b.name: CodedBlock((CodedPart(b.value, notched(float(np.abs(b.value).max()) / 127)).grid,))
        for b in network.blocks()
    }
    program = program_of(network, plain)
    at_first = certified(error(program.network()), file_bytes(program), 20_000, 0.05)  # type: ignore[operator]
    assert best.certificate < 0.8 * at_first


def test_the_search_goes_on_from_a_program_and_repeats_itself() -> None:
    _, error, found = searched()
    start = found.best.program  # type: ignore[attr-defined]
    again = [compress(start, error, m=20_000, evaluations=40, seed=3) for _ in range(2)]  # type: ignore[arg-type]
    assert again[0].best.certificate <= found.best.certificate  # type: ignore[attr-defined]
    assert encode(again[0].best.program) == encode(again[1].best.program)


@pytest.mark.parametrize("cell", CELLS)
def test_the_search_takes_every_cell(cell: str) -> None:
    rng = np.random.default_rng(17)
    network = any_network(rng, cell)

    def far(other: Network) -> float:
        blocks = zip(network.blocks(), other.blocks(), strict=True)
        return min(1.0, sum(float(np.mean((a.value - b.value) ** 2)) for a, b in blocks))

    found = compress(network, far, m=5000, evaluations=30)
    assert_same_network(decode(encode(found.best.program)).network(), found.best.program.network())


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"m": 0}, "m is 0"),
        ({"delta": 1.0}, "delta"),
        ({"evaluations": 3}, "evaluations"),
        ({"error": lambda network: math.nan}, "error function"),
        ({"error": lambda network: 1.5}, "error function"),
    ],
)
def test_bad_arguments_of_the_search(changes: dict[str, object], match: str) -> None:
    network = random_network(np.random.default_rng(0), "vanilla")
    arguments = {"m": 100, "evaluations": 20, "error": lambda network: 0.5} | changes
    error = arguments.pop("error")
    with pytest.raises(InputError, match=match):
        compress(network, error, **arguments)  # type: ignore[arg-type]


def test_a_matrix_of_low_rank_is_found_to_be_one() -> None:
    rng = np.random.default_rng(18)
    A = rng.integers(-2, 3, size=(16, 2)) @ rng.integers(-2, 3, size=(2, 40)) / 4.0
    network = random_network(rng, "vanilla", d_x=40, d_h=16, tokens=True, bias=False)
    network = with_values(network, {"W": A})

    def far(other: Network) -> float:
        return min(1.0, float(np.mean((other.block("W").value - A) ** 2)))

    found = compress(network, far, m=3000, evaluations=250)
    assert found.best.program.blocks["W"].rank in (4, 8)

"""Rough handling: no room, no permission, Ctrl-C and worse at any moment, two runs in one folder.

After whatever happens every file under its final name is whole: the old one, the new one, or none.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hostile
from recert.certificates.certificate import load_certificate
from recert.errors import FileError, RecertError
from recert.pac_bayes.posterior import around, load_posterior, save_posterior
from recert.readers import load_network, save_network
from recert.utils import files

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
DATA = ["synthetic", "-o", "m=1500"]
SMALL = ["--hidden", "2", "--epochs", "2"]
COMMANDS: dict[str, list[str]] = {
    "train": ["train", *DATA, *SMALL, "--out", "{out}"],
    "certify": ["certify", "{network}", "--data", *DATA, "--out", "{out}"],
    "compress": ["compress", "--data", *DATA, *SMALL, "--out", "{out}"],
    "pacbayes": ["pacbayes", *DATA, *SMALL, "--repetitions", "1", "--out", "{out}"],
    "compare": ["compare", "--data", *DATA, *SMALL, "--cells", "vanilla,gru", "--out", "{out}"],
}


def arguments(command: str, out: Path, network: Path) -> list[str]:
    given = [part.format(out=out, network=network) for part in COMMANDS[command]]
    return [sys.executable, "-m", "recert.cli", *given]


def begin(command: list[str]) -> subprocess.Popen[bytes]:
    """A process group of its own, in which Ctrl-C is not ignored."""
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    }


def check_whole(folder: Path) -> None:
    """Every file in a folder is complete, and those that belong together do."""
    for path in sorted(folder.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.name == "certificate.json":
            load_certificate(path)
        elif path.suffix == ".rcz" or path.name == "network.safetensors":
            load_network(path)
        elif path.name == "posterior.json":
            load_posterior(path.parent)
        elif path.suffix == ".json":
            files.read_json(path)
        elif path.suffix == ".png":
            raw = path.read_bytes()
            assert raw.startswith(b"\x89PNG") and raw.endswith(b"IEND\xaeB`\x82")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network on disk, trained once."""
    pytest.importorskip("torch")
    out = tmp_path_factory.mktemp("rough") / "network"
    subprocess.run(arguments("train", out, out), check=True, capture_output=True)
    return out


# Ctrl-C, and being killed, at any moment.


def stopped(command: str, number: int, delay: float, out: Path, network: Path) -> tuple[int, bytes]:
    """Begin, wait, send the signal to the whole group as a terminal does; status and stderr."""
    process = begin(arguments(command, out, network))
    time.sleep(delay)
    try:
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, err


def seconds_of(command: str, out: Path, network: Path) -> float:
    start = time.monotonic()
    found = subprocess.run(arguments(command, out, network), capture_output=True)
    assert found.returncode == 0, found.stderr
    return time.monotonic() - start


def one_stop(
    command: str, number: int, delay: float, tmp_path: Path, network: Path, old: bool
) -> None:
    """Stop a run, over earlier results or not; then all files must be whole, and a rerun work."""
    out = tmp_path / f"{command}-{number}-{delay:.3f}-{old}"
    before = tmp_path / f"{command}-before"
    if old:
        shutil.copytree(before, out)
    status, err = stopped(command, number, delay, out, network)
    if number == signal.SIGINT:
        # Before its first line Python itself answers Ctrl-C, with a traceback of its own.
        early = b"recert" not in err and delay < 0.5
        assert status in (130, -signal.SIGINT, 0), (status, err)
        assert b"Traceback" not in err or early, err.decode()
    try:
        if out.exists():
            check_whole(out)
    except RecertError as error:
        # Killed between two moves: refused in one line, never read as something else.
        assert number == signal.SIGKILL and "\n" not in str(error)
    if old and number == signal.SIGINT and status != 0:
        kept, now = contents(before), contents(out)
        assert set(kept) <= set(now)
    shutil.rmtree(out, ignore_errors=True)


@POSIX
@pytest.mark.parametrize("command", ["train", "certify"])
def test_ctrl_c_once(command: str, network: Path, tmp_path: Path) -> None:
    one_stop(command, signal.SIGINT, 1.3, tmp_path, network, old=False)


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["int", "kill"])
@pytest.mark.parametrize("command", COMMANDS)
def test_stopped_at_random_moments(
    command: str, number: int, network: Path, tmp_path: Path
) -> None:
    pytest.importorskip("constriction")
    pytest.importorskip("matplotlib")
    took = seconds_of(command, tmp_path / f"{command}-before", network)
    rng = random.Random(f"{command} {number}")
    for k in range(8):
        delay = rng.uniform(0.3, 1.05 * took)
        one_stop(command, number, delay, tmp_path, network, old=bool(k % 2))
    again = tmp_path / "again"
    seconds_of(command, again, network)
    check_whole(again)


# No room and no permission.


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITERS: dict[str, Callable[[Path], object]] = {
    "network": lambda folder: save_network(hostile.small_network(7), folder),
    "posterior": lambda folder: save_posterior(
        around(hostile.small_network(7), 9, "b" * 64, 0.2), folder
    ),
    "text": lambda folder: files.write_text(folder / "a.json", "{}"),
}


@pytest.mark.parametrize("moment", ["write", "chmod", "replace"])
@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_leaves_everything_as_it_was(
    what: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[what](tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(b"old")
    before = contents(tmp_path)
    wanted = {"write": ("write_bytes", "write_text"), "chmod": ("chmod",), "replace": ()}[moment]
    for name in wanted:
        monkeypatch.setattr(Path, name, no_room)
    if moment == "replace":
        monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(FileError, match="No space left"):
        WRITERS[what](tmp_path)
    monkeypatch.undo()
    assert contents(tmp_path) == before and not list(tmp_path.glob(".*"))


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from recert.cli import main
main()
"""


def one_line(status: int, err: str, *words: str) -> None:
    assert status == 2, (status, err)
    assert err.startswith("recert: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err, err


@POSIX
@pytest.mark.parametrize("size", [100, 9_000])
def test_files_that_cannot_grow(size: int, network: Path, tmp_path: Path) -> None:
    """The kernel refuses to write beyond a size, as it does on a full disk."""
    (tmp_path / "certificate.json").write_text("old")
    command = [arg.format(out=tmp_path, network=network) for arg in COMMANDS["certify"]]
    found = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *command], capture_output=True, text=True
    )
    one_line(found.returncode, found.stderr, "cannot write", "certificate.json")
    assert contents(tmp_path) == {"certificate.json": b"old"}
    assert not list(tmp_path.glob(".*"))


@POSIX
def test_a_disk_that_is_really_full(network: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        found = subprocess.run(
            arguments("certify", disk, network), capture_output=True, text=True, check=False
        )
        one_line(found.returncode, found.stderr, "No space left")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("command", [["data", "list"], ["version"], ["--help"]])
def test_what_is_printed_to_a_full_disk(command: list[str]) -> None:
    with open("/dev/full", "w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "recert.cli", *command],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    one_line(found.returncode, found.stderr, "No space left")


@POSIX
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be(command: str, network: Path, tmp_path: Path) -> None:
    """Below a plain file nobody may write, not even root."""
    (tmp_path / "file").write_text("old")
    found = subprocess.run(
        arguments(command, tmp_path / "file" / "out", network), capture_output=True, text=True
    )
    one_line(found.returncode, found.stderr, "cannot write to", "choose another folder")
    assert (tmp_path / "file").read_text() == "old"


@POSIX
def test_devices_and_folders_are_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("pipe", "folder", "null"):
        with pytest.raises(FileError, match="cannot write"):
            files.write_text(tmp_path / name, "x")
        with pytest.raises(FileError, match="cannot write"):
            files.write_together({tmp_path / "a": b"", tmp_path / name: b"x"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "null", "pipe"]


# Ctrl-C during the moves, and destructors that swallow it.


@POSIX
def test_ctrl_c_comes_before_or_after_all_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_network(hostile.small_network(1), tmp_path)
    moved, move = [], os.replace

    def interrupted(source: Path, target: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        move(source, target)
        moved.append(target)

    monkeypatch.setattr(os, "replace", interrupted)
    # A test run in the background passes on that Ctrl-C is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            save_network(hostile.small_network(2), tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(moved) == 2 and not list(tmp_path.glob(".*"))
    assert load_network(tmp_path).digest == hostile.small_network(2).digest


SWALLOWED = """
import os, signal, sys, time
from recert.cli import entry, main

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

@entry.app.command()
def late():
    late = Late()
    del late
    for _ in range(100):
        time.sleep(0.1)

sys.argv = ["recert", "late"]
main()
"""


@POSIX
def test_ctrl_c_inside_a_destructor_is_not_lost() -> None:
    process = begin([sys.executable, "-c", SWALLOWED])
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGINT)
    assert err.count(b"\n") == 1 and b"interrupted" in err


# Processes that train, of which one is killed.


def _killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@POSIX
def test_a_killed_process_is_one_line_not_a_wait() -> None:
    from recert.utils.processes import in_processes

    assert list(in_processes(_killed, [(0,), (2,)], 2)) == [0, 2]
    with pytest.raises(RecertError, match="ended from outside"):
        list(in_processes(_killed, [(1,), (1,)], 2))


# Two runs in one folder.


def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    """What is read is one writer's network, or refused in a line; never a mixture."""
    networks = [hostile.small_network(seed) for seed in (1, 2)]
    digests = {network.digest for network in networks}
    end, failed = time.monotonic() + 1.5, []

    def write(which: int) -> None:
        while time.monotonic() < end:
            save_network(networks[which], tmp_path)

    threads = [threading.Thread(target=write, args=(k,)) for k in (0, 1)]
    save_network(networks[0], tmp_path)
    for thread in threads:
        thread.start()
    read = 0
    while time.monotonic() < end:
        try:
            assert load_network(tmp_path).digest in digests
            read += 1
        except FileError as error:
            failed.append(str(error))
    for thread in threads:
        thread.join()
    assert read and all("\n" not in text and "save the network" in text for text in failed)
    assert not list(tmp_path.glob(".*"))


@POSIX
@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "certify", "pacbayes"])
def test_two_runs_into_one_folder(command: str, network: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs = [begin(arguments(command, out, network)) for _ in range(2)]
    for process in runs:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    check_whole(out)

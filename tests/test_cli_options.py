"""Bad values of every option of every command: one line on stderr, status 2, nothing trained."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., tuple[int, str, str]]

# A command and a word of what it is told. FILE, FOLDER and BAD are a text, an empty folder and a
# damaged JSON; NET a network. What needs torch is told before anything is trained.
CERTIFY = """
certify NET --data synthetic --delta x           | delta
certify NET --data synthetic --delta nan         | delta
certify NET --data synthetic --delta -1          | delta
certify NET --data synthetic --require x         | require
certify NET --data synthetic --require nan       | between 0 and 1
certify NET --data synthetic --require -0.1      | between 0 and 1
certify NET --data synthetic --require 1.1       | between 0 and 1
certify NET --data synthetic --units 0           | units
certify NET --data synthetic --units 1.5         | units
certify NET --data synthetic --max-length -1     | max_length
certify NET --data synthetic --max-length 99999999999999999999 | max_length
certify NET --data synthetic --tried 99999999999999999999999 | tried
certify NET --data synthetic --encoding ''       | encoding
certify NET --data synthetic --encoding -3       | encoding
certify NET --data synthetic --encoding ٣        | encoding
certify NET --data synthetic --at ''             | at is
certify NET --data synthetic --at --5            | at is
certify NET --data synthetic --at ²              | at is
certify NET --data synthetic --caps ''           | caps
certify NET --data synthetic --caps U=           | caps
certify NET --data synthetic --caps U=-1,W=1,V=1 | cap
certify NET --data synthetic --caps U=inf,W=1,V=1 | cap
certify NET --data synthetic --caps U=1,U=2,W=1,V=1 | once
certify NET --data synthetic --bounds ,          | menu
certify NET --data synthetic --input-bound nan   | input_bound
certify NET --data synthetic --input-bound -1    | input_bound
certify NET --data synthetic -o m=-4             | m is
certify NET --data synthetic -o m=NaN            | m
certify NET --data synthetic -o m=true           | m
certify NET --data synthetic -o =3               | NAME=VALUE
certify NET --data synthetic --out FILE          | cannot write
certify NET --data ''                            | data set
certify NET                                      | data
certify FOLDER --data synthetic                  | holds no
certify FILE --data synthetic                    | no network
certify BAD --data synthetic                     | BAD
certify NET NET --data synthetic                 | twice
certify NET NOWHERE --data synthetic             | NOWHERE
verify NOWHERE                                   | NOWHERE
verify FOLDER                                    | FOLDER
verify BAD                                       | BAD
verify FILE --data synthetic                     | --model
compare NOWHERE                                  | NOWHERE
compare FOLDER                                   | FOLDER
compare BAD                                      | BAD
data info nothing                                | nothing
data nothing                                     | nothing
nothing                                          | nothing
--nothing                                        | nothing
reproduce nothing                                | nothing
reproduce table1 --seeds x                       | seeds
reproduce table1 --seeds ''                      | seeds
reproduce table1 --seeds 0,0                     | seeds
reproduce table1 --seeds 99999999999999999999    | seed
reproduce table1 --device nope                   | device
reproduce table1 -o nope=1                       | nope
reproduce open-1 -o smallest=x                   | smallest
reproduce open-1 -o delta=0                      | delta
reproduce open-1 -o delta=7                      | delta
reproduce figure4 --data-path NOWHERE            | NOWHERE
reproduce figure4 --images FILE                  | labels
reproduce table1 --out FILE                      | cannot write
demo --seed x                                    | seed
demo --out FILE                                  | cannot write
"""
TRAIN = """
train nothing                                    | nothing
train synthetic --cell LSTM                      | LSTM
train synthetic --hidden 0                       | hidden
train synthetic --hidden 99999999999             | memory
train synthetic --epochs x                       | epochs
train synthetic --seed -1                        | seed
train synthetic --seed 99999999999999999999999   | seed
train synthetic --units 99999999                 | 99999999
train synthetic --holdout nan                    | holdout
train synthetic --holdout ''                     | holdout
train synthetic --activation ''                  | activation
train synthetic --cell conv --width 0            | width
train synthetic --width 3                        | --width
train synthetic --caps U=1 --free                | exclude
train synthetic --out FILE                       | cannot write
compress --data nothing                          | nothing
compress --data synthetic --prices ''            | prices
compress --data synthetic --prices 3,x           | prices
compress --data synthetic --prices nan           | price
compress --data synthetic --prices -1            | price
compress --data synthetic --delta nan            | delta
compress --data synthetic --bounds nope          | nope
compress --data synthetic --cell nope            | nope
compress --data synthetic --require 7            | between 0 and 1
compress --data synthetic --out FILE             | cannot write
compress NET --data synthetic --cell lstm        | drop
compress NOWHERE --data synthetic                | NOWHERE
pacbayes                                         | data set
pacbayes nothing                                 | nothing
pacbayes synthetic --posterior FOLDER            | one of the two
pacbayes --posterior FOLDER                      | FOLDER
pacbayes --posterior NOWHERE                     | NOWHERE
pacbayes synthetic --share 1                     | share
pacbayes synthetic --share nan                   | share
pacbayes synthetic --closeness -1                | closeness
pacbayes synthetic --delta 0                     | delta
pacbayes synthetic --repetitions 0               | repetitions
pacbayes synthetic --holdout 7777777             | 7777777
pacbayes synthetic --tried 999999999999999999999 | tried
pacbayes synthetic --require 2                   | between 0 and 1
pacbayes synthetic --out FILE                    | cannot write
ladder nothing                                   | nothing
ladder synthetic --delta nan                     | delta
ladder synthetic --units 99999999                | 99999999
ladder synthetic --out FILE                      | cannot write
compare                                          | --data
compare --data synthetic --cells ''              | cell
compare --data synthetic --cells vanilla,        | cell
compare --data synthetic --hidden 0              | hidden
compare --data synthetic --out FILE              | cannot write
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from recert import readers
    from recert.networks.network import vanilla

    folder = tmp_path_factory.mktemp("options")
    (folder / "FILE").write_text("x")
    (folder / "FOLDER").mkdir()
    (folder / "BAD").write_text("{")
    network = vanilla(0.5 * np.eye(2), np.full((2, 3), 0.1), np.eye(3)[:, :2])
    readers.save_network(network, folder / "NET")
    return {name: str(folder / name) for name in ("FILE", "FOLDER", "BAD", "NET", "NOWHERE")}


def told(run: Run, places: dict[str, str], case: str) -> None:
    command, _, word = case.rpartition(" | ")
    before = sorted(Path(places["NET"]).parent.rglob("*"))
    status, out, err = run(*(places.get(part, part) for part in shlex.split(command)))
    assert status == 2 and not out, (status, out)
    assert err.startswith("recert: ") and err.count("\n") == 1 and "Traceback" not in err, err
    assert word.strip() in err, err
    assert sorted(Path(places["NET"]).parent.rglob("*")) == before


def cases(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


@pytest.mark.parametrize("case", cases(CERTIFY))
def test_bad_values(
    run: Run, places: dict[str, str], case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    told(run, places, case)


@pytest.mark.parametrize("case", cases(TRAIN))
def test_bad_values_of_training(
    run: Run, places: dict[str, str], case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    told(run, places, case)

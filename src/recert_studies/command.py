"""``recert reproduce``: the paper's own evaluation, and what carries it on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recert.cli.common import Options, check_writable, given, options_of
from recert.errors import InputError
from recert.utils.consoles import results


def reproduce(
    name: Annotated[
        str, typer.Argument(help="A study, such as table1; 'list' names all, with options.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for everything; reproduce/NAME by default.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A small run, under two minutes on two cores.")
    ] = False,
    seeds: Annotated[str | None, typer.Option(help="Seeds, separated by commas, as 0,1,2.")] = None,
    data_path: Annotated[
        Path | None, typer.Option(help="figure4: a UTF-8 text, such as WikiText-2's.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="figure4: images in MNIST's format instead of a text.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="figure4: the labels of the images.")] = None,
    device: Annotated[
        str,
        typer.Option(
            help="Where networks are trained: auto takes a GPU if there is one; cpu, cuda, cuda:N."
        ),
    ] = "auto",
    option: Options = None,
) -> None:
    """Reproduce a part of the paper's evaluation; interrupted runs go on where they were."""
    from recert_studies.menu import STUDIES, study

    console = results()
    if name == "list":
        for known in STUDIES:
            console.print(f"{known.name}: {known.summary}", soft_wrap=True)
            for key, what in known.options.items():
                usual = "" if what.default is None else f" [{what.default}]"
                console.print(f"    -o {key}=…  {what.help}{usual}", soft_wrap=True, markup=False)
        return
    from recert_studies.framework import run

    paths = given(data_path=data_path, images=images, labels=labels)
    asked: dict[str, Any] = options_of(option)
    asked |= {key: str(path) for key, path in paths.items()}
    chosen = study(name)
    request = chosen.request(
        out or Path("reproduce") / name,
        quick=quick,
        seeds=_seeds(seeds),
        given=asked,
        device=device,
    )
    check_writable(request.out)
    run(chosen, request, console=console)


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise InputError(f"seeds {text!r} are not whole numbers separated by commas")
    return [int(part) for part in parts]

"""The command that shows a training's rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from slime_tau2.errors import ConfigError

console = Console()


def rollouts(
    directory: Annotated[
        Path, typer.Argument(help="Directory of a quickstart, or what --save or --dump-details names.")
    ],
    output: Annotated[Path | None, typer.Option(help="The page; by default rollouts.html in the directory.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Serve the page on 127.0.0.1 and read on while the training runs.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --live; 0: any that is free.")] = 8400,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Directory of the model: slime's own dumps (ROLLOUT.pt) need it.")
    ] = None,
) -> None:
    """Show a training's rollouts on one page: each step, group, sample and turn, with rewards, advantages and log-probs
    by token, what the filters did and why each task came next.
    """
    from slime_tau2.rollouts import page
    from slime_tau2.rollouts.found import find
    from slime_tau2.rollouts.live import serve
    from slime_tau2.rollouts.reader import Reader
    from slime_tau2.viewer import document

    reader = Reader(find(directory, tokenizer))
    if live:
        if output is not None:
            raise ConfigError("--live serves the page and writes none; leave --output out")
        serve(reader, port, lambda address: console.print(f"rollouts of {directory}: {address} (Ctrl-C ends it)"))
        return
    path = output or directory / "rollouts.html"
    document.check_target(path)
    reader.refresh()
    without = page.write(reader, path)
    index = reader.index()
    counts = f"{len(index['steps'])} rollouts, {len(index['groups'])} groups, {len(index['samples'])} samples"
    console.print(f"{counts}: {path}", soft_wrap=True)
    if index["stale"]:
        console.print(f"left out, of before the run was resumed: rollouts {index['stale']}", soft_wrap=True)
    if without:
        console.print(f"without the tokens of the first {without} rollouts, for which --live is", soft_wrap=True)

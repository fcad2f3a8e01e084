"""``python -m benchmarks.peers install [FOLDER]``: make the environments of the frameworks compared with."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks.events.catalogue import FASTAPI
from benchmarks.jobs.catalogue import OTHERS
from benchmarks.peers.catalogue import FOLDER, PEERS, Peer
from benchmarks.servers import REPOSITORY

ALL = {peer.name: peer for peer in (*OTHERS, FASTAPI, *PEERS)}


@click.group()
def main() -> None:
    """The frameworks that enricher is compared with."""


@main.command("install")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER)
@click.option("--only", multiple=True, type=click.Choice(tuple(ALL)), help="This peer; may be repeated.")
def install_peers(folder: Path, only: tuple[str, ...]) -> None:
    """Make a virtual environment per peer below FOLDER (default: $ENRICHER_PEERS or ~/.cache/enricher-peers).

    Takes about 100 MB of disk each. With another FOLDER set ENRICHER_PEERS to it to run the part.
    """
    wanted = [peer for peer in ALL.values() if not only or peer.name in only]
    install(folder.absolute(), wanted)
    click.echo("run them with: python -m benchmarks peers jobs")


def own_requirements() -> list[str]:
    """What enricher's market functions take to be imported: all but redis, whose version is the peer's."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        wanted: list[str] = tomllib.load(file)["project"]["dependencies"]
    return ["hiredis", *(one for one in wanted if not one.startswith("redis"))]


def install(folder: Path, peers: Sequence[Peer]) -> None:
    """Make (or make anew) an environment per peer below ``folder``; CalledProcessError when one fails."""
    for peer in {peer.place(folder): peer for peer in peers}.values():
        place = peer.place(folder)
        print(f"{place}: {' '.join(peer.requirements)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        wanted = (*peer.requirements, *own_requirements())
        command = [str(peer.python(folder)), "-m", "pip", "install", "--quiet", *wanted]
        subprocess.run(command, check=True)
        (place / "finished").touch()


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.peers")

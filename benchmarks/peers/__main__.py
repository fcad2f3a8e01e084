"""``python -m benchmarks.peers install [FOLDER]``: make the environments of the frameworks compared with."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.peers.catalogue import FOLDER, PEERS
from benchmarks.peers.install import install

NAMES = tuple(peer.name for peer in PEERS)


@click.group()
def main() -> None:
    """The frameworks that enricher is compared with."""


@main.command("install")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=FOLDER)
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="This peer; may be repeated.")
def install_peers(folder: Path, only: tuple[str, ...]) -> None:
    """Make a virtual environment per peer below FOLDER (default: $ENRICHER_PEERS or ~/.cache/enricher-peers).

    Takes about 100 MB of disk each. With another FOLDER set ENRICHER_PEERS to it to run the part.
    """
    wanted = [peer for peer in PEERS if not only or peer.name in only]
    install(folder.absolute(), wanted)
    click.echo("run them with: python -m benchmarks peers")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.peers")

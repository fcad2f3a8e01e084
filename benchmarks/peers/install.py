"""Makes the peers' virtual environments."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.catalogue import PEERS, Peer
from benchmarks.servers import REPOSITORY


def own_requirements() -> list[str]:
    """What enricher's market functions take to be imported: all but redis, whose version is the peer's."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        wanted: list[str] = tomllib.load(file)["project"]["dependencies"]
    return ["hiredis", *(one for one in wanted if not one.startswith("redis"))]


def install(folder: Path, peers: Sequence[Peer] = PEERS) -> None:
    """Make (or make anew) an environment per peer below ``folder``; CalledProcessError when one fails."""
    for peer in {peer.place(folder): peer for peer in peers}.values():
        place = peer.place(folder)
        print(f"{place}: {' '.join(peer.requirements)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        wanted = (*peer.requirements, *own_requirements())
        command = [str(peer.python(folder)), "-m", "pip", "install", "--quiet", *wanted]
        subprocess.run(command, check=True)
        (place / "finished").touch()

"""The Lua scripts in the folder ``lua``: loaded once, called by their SHA-1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

_FOLDER = Path(__file__).with_name("lua")


class Script:
    """A Lua script: its ``text``, and the ``sha`` by which a server that has seen it knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, client: Redis, keys: Sequence[str], *arguments: str | bytes | float) -> Any:
        """Its reply. A server that does not know it (yet, or any more) is given it first.

        Errors of ``client`` are passed on.
        """
        call: Any = (self.sha, len(keys), *keys, *arguments)
        try:
            return await client.evalsha(*call)
        except NoScriptError:
            await client.script_load(self.text)
            return await client.evalsha(*call)


@cache
def load(name: str, *before: str, constants: str = "") -> Script:
    """The script ``lua/{name}.lua``.

    ``constants`` come first, then the functions of ``lua/shared.lua``, then those of the files ``before``.
    """
    files = ("shared", *before, name)
    texts = ((_FOLDER / f"{file}.lua").read_text(encoding="utf-8") for file in files)
    return Script(constants + "".join(texts))

"""What ``enricher check`` asks the search server."""

from __future__ import annotations

import asyncio

from enricher.adapters.search import SearchIndices, search_client
from enricher.config import SearchSettings
from enricher.errors import SinkUnavailable


async def ask_search(settings: SearchSettings, timeout: float) -> tuple[str, str]:
    """What the server says of itself, and why it could not be asked; one of them is empty.

    Raises `WrongSetting` where the package of its client is missing.
    """
    # Its package is large: imported here, the other servers would be waited for in vain meanwhile.
    client = await asyncio.to_thread(search_client, settings)
    try:
        return await SearchIndices(client, {}, timeout=timeout, max_bulk=settings.max_bulk).info(), ""
    except SinkUnavailable as error:
        return "", error.reason
    finally:
        await client.close()

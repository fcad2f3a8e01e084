"""The names of the three market channels, as publishers use them."""

from typing import Final

UNDERLYING: Final = "market:underlying"
OPTION_QUOTE: Final = "market:option_quote"
OPTION_CHAIN: Final = "market:option_chain"

Message = tuple[str, bytes]
"""A channel and the body published there."""

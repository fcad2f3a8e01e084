"""What vendors hand out, one module a vendor; the test of each says who describes its layout."""

from enricher.market.files.contract import Format
from enricher.market.files.vendors import (
    angel,
    bhavcopy,
    binance,
    cboe,
    cboe_table,
    deribit,
    dhan,
    fyers,
    kite,
    nse_chain,
    nse_export,
    okx,
    option_tape,
    polygon,
    schwab,
    tradier,
    upstox,
    yahoo,
)

VENDORS: tuple[Format, ...] = (
    nse_chain.FORMAT, nse_export.FORMAT, bhavcopy.UDIFF, bhavcopy.OLD, option_tape.FORMAT, yahoo.TABLE,
    yahoo.ANSWER, kite.QUOTES, kite.TICKS, upstox.CHAIN, upstox.FEED, dhan.CHAIN, dhan.FEED, fyers.CHAIN,
    fyers.SOCKET, angel.FORMAT, angel.QUOTES, deribit.FORMAT, deribit.TABLE, binance.FORMAT, okx.FORMAT,
    cboe.FORMAT, cboe_table.FORMAT, polygon.FORMAT, tradier.FORMAT, schwab.FORMAT,
)  # fmt: skip
"""In the order in which they are asked; no file is of two of them."""

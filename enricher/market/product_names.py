"""What a product's name says: its exchange, the name of an entry, and an expiry that may follow.

Names are compared exactly, in capitals. Vendors' own names of the indices stand in `INDEX_NAMES`, by the
word that they spell without blanks and dashes; all else is nobody's name.
"""

from __future__ import annotations

import re
from collections.abc import Container
from types import MappingProxyType
from typing import Final

import msgspec

_MONTHS = "JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC"
_DAY, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:20)?\d\d"
_KIND = r"(?:CE|PE|C|P|FUT)"
_IN_WORDS = rf"{_DAY}[ -]?(?:{_MONTHS})[ -]?{_YEAR}"  # 27DEC24, 28-OCT-2025
_IN_NUMBERS = r"(?:20)?\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])"  # 251028, 2025-10-28
_MONTH_OF_YEAR = rf"\d\d(?:{_MONTHS})"  # 25OCT
_WEEKLY = r"\d\d(?:[1-9OND])(?:0[1-9]|[12]\d|3[01])"  # 25O28: one character for the month
_MONTHLY = rf"(?:{_MONTHS})-?20\d\d"  # OCT2025
_CUSTOM = rf"{_DAY} (?:{_MONTHS}) \d+(?:\.\d+)? (?:CALL|PUT)"  # 28 OCT 25000 CALL
_OPTION = rf"(?:[ _-]?\d+(?:[.D]\d+)?[ _-]?{_KIND}|[ _-]?{_KIND}\d*)?"
_DATED = rf"(?:{_IN_WORDS}|{_IN_NUMBERS}|{_MONTH_OF_YEAR}|{_MONTHLY}|{_WEEKLY})"
_EXPIRY = re.compile(rf"[ _-]*(?:{_CUSTOM}|{_DATED}{_OPTION})")
_IN_WORDS_ONLY = re.compile(rf"-?{_IN_WORDS}{_OPTION}")
_LONGEST = 40  # characters of a name before its expiry
_OF_ENDINGS = {".NS": "NSE", ".BO": "BSE"}
_BETWEEN = re.compile(r"(?<=[A-Z0-9])[ _-]+(?=[A-Z0-9])")
_ENDINGS = re.compile(r"(?:\.NS|\.BO|\.X|-INDEX|-EQ)$")


class Name(msgspec.Struct, frozen=True):
    """A product's name: ``exchange`` (empty if it names none) and the rest in capitals."""

    exchange: str
    text: str


def name_of(product: str) -> Name:
    """The parts of a name: ``NSE:NIFTY50-INDEX`` and ``NSE_INDEX|Nifty 50`` are of exchanges.

    A leading ``^ . $ _`` and ``I:`` stand for an index.
    """
    text = product.strip().upper()
    exchange, _, text = text.rpartition("|" if "|" in text else ":")
    text = text.strip().lstrip("^.$_")
    return Name(exchange.removesuffix("_INDEX").removesuffix("_EQ") or _OF_ENDINGS.get(text[-3:], ""), text)


def entry_of(name: Name, entries: Container[str], coins: Container[str]) -> str | None:
    """Which of ``entries`` a name belongs to, exactly or before an expiry; None for none.

    Entries in ``coins`` are priced in the coin at Deribit, which writes the month in letters: the same name
    before an expiry in numbers is an option of Binance, in dollars.
    """
    text = name.text
    if (found := _named(text, entries)) is not None:
        return found
    for length in range(min(len(text) - 1, _LONGEST), 0, -1):
        found = _named(text[:length], entries)
        if found is None:
            continue
        rest = text[length:]
        if found in coins:
            if _IN_WORDS_ONLY.fullmatch(rest):
                return found
            if _EXPIRY.fullmatch(rest) and f"{found}USDT" in entries:
                return f"{found}USDT"
        elif _EXPIRY.fullmatch(rest):
            return found
    return None


def _named(text: str, entries: Container[str]) -> str | None:
    bare = _ENDINGS.sub("", text)
    for name in (text, bare):
        if name in entries:
            return name
        if name in SYMBOLS:
            return SYMBOLS[name]
    return INDEX_NAMES.get(_BETWEEN.sub("", bare))


_COINS = ("SOL", "XRP", "AVAX", "TRX", "HYPE")

INDEX_NAMES: Final = MappingProxyType(
    {
        "NIFTY": "NIFTY", "NIFTY50": "NIFTY", "CNXNIFTY": "NIFTY", "NSEI": "NIFTY",
        "BANKNIFTY": "BANKNIFTY", "NIFTYBANK": "BANKNIFTY", "NSEBANK": "BANKNIFTY",
        "FINNIFTY": "FINNIFTY", "NIFTYFINSERVICE": "FINNIFTY", "NIFTYFINANCIALSERVICES": "FINNIFTY",
        "MIDCPNIFTY": "MIDCPNIFTY", "NIFTYMIDSELECT": "MIDCPNIFTY", "NIFTYMIDCAPSELECT": "MIDCPNIFTY",
        "NIFTYNXT50": "NIFTYNXT50", "NIFTYNEXT50": "NIFTYNXT50", "NSMIDCP": "NIFTYNXT50",
        "SENSEX": "SENSEX", "BSESENSEX": "SENSEX", "S&PBSESENSEX": "SENSEX", "BSESN": "SENSEX",
        "BANKEX": "BANKEX", "BSEBANKEX": "BANKEX", "BSEBANK": "BANKEX",
    }
)  # fmt: skip
"""The words that the names of an index spell: at NSE, BSE, Kite, Upstox, Fyers, Dhan, Angel and Yahoo."""

SYMBOLS: Final = MappingProxyType(
    {
        "GSPC": "SPX", "SPX.X": "SPX", "NDX.X": "NDX", "RUT.X": "RUT", "VIX.X": "VIX", "DJX.X": "DJX",
        "BTC_USD": "BTC", "ETH_USD": "ETH", **{f"{coin}_USDC": "DERIBIT_USDC" for coin in _COINS},
        "DERIBIT_PRICE_INDEX.BTC_USD": "BTC", "DERIBIT_PRICE_INDEX.ETH_USD": "ETH",
    }
)  # fmt: skip
"""Symbols of indices at Yahoo, at brokers (``$SPX.X``) and at Deribit."""

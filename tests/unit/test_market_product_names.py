"""Names of products as vendors write them, and those that only look alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.errors import ConfigError
from enricher.market.products import SHIPPED, Contracts
from enricher.market.settings import MarketSettings
from enricher.systems import load

CONTRACTS = Contracts()

# Each list is of the names of one vendor, with where they are told.
KNOWN = {
    # NSE, Indices dashboard and option-chain page: index names and symbols.
    "NSE": {
        "NIFTY 50": "NIFTY", "NIFTY BANK": "BANKNIFTY", "NIFTY FIN SERVICE": "FINNIFTY",
        "NIFTY FINANCIAL SERVICES": "FINNIFTY", "NIFTY MID SELECT": "MIDCPNIFTY",
        "NIFTY MIDCAP SELECT": "MIDCPNIFTY", "NIFTY NEXT 50": "NIFTYNXT50", "MIDCPNIFTY": "MIDCPNIFTY",
        "NIFTYNXT50": "NIFTYNXT50",
    },
    # Kite Connect, "Market quotes and instruments": exchange:tradingsymbol.
    "Kite": {
        "NSE:NIFTY 50": "NIFTY", "NSE:NIFTY BANK": "BANKNIFTY", "NSE:NIFTY FIN SERVICE": "FINNIFTY",
        "NSE:NIFTY MID SELECT": "MIDCPNIFTY", "BSE:SENSEX": "SENSEX", "BSE:BANKEX": "BANKEX",
        "NFO:NIFTY25OCTFUT": "NIFTY", "NFO:NIFTY25O2825000CE": "NIFTY",
        "NFO:BANKNIFTY25OCT55000PE": "BANKNIFTY",
    },
    # Upstox Developer API, "Instruments": the field instrument_key.
    "Upstox": {
        "NSE_INDEX|Nifty 50": "NIFTY", "NSE_INDEX|Nifty Bank": "BANKNIFTY",
        "NSE_INDEX|Nifty Fin Service": "FINNIFTY", "NSE_INDEX|NIFTY MID SELECT": "MIDCPNIFTY",
        "NSE_INDEX|Nifty Next 50": "NIFTYNXT50", "BSE_INDEX|SENSEX": "SENSEX", "BSE_INDEX|BANKEX": "BANKEX",
        "NSE_FO|NIFTY 28 OCT 25": "NIFTY",
    },
    # Fyers API v3, "Symbology format" and the symbol master files.
    "Fyers": {
        "NSE:NIFTY50-INDEX": "NIFTY", "NSE:NIFTYBANK-INDEX": "BANKNIFTY", "NSE:FINNIFTY-INDEX": "FINNIFTY",
        "NSE:MIDCPNIFTY-INDEX": "MIDCPNIFTY", "NSE:NIFTYNXT50-INDEX": "NIFTYNXT50",
        "BSE:SENSEX-INDEX": "SENSEX", "BSE:BANKEX-INDEX": "BANKEX", "NSE:NIFTY2641324000CE": "NIFTY",
    },
    # DhanHQ, "Instrument list": SEM_TRADING_SYMBOL and SEM_CUSTOM_SYMBOL.
    "Dhan": {"NIFTY": "NIFTY", "Nifty 50": "NIFTY", "NIFTY-Oct2025-25000-CE": "NIFTY",
             "NIFTY 28 OCT 25000 CALL": "NIFTY"},
    # Angel One SmartAPI, OpenAPIScripMaster.json: name and symbol.
    "Angel": {
        "Nifty 50": "NIFTY", "Nifty Bank": "BANKNIFTY", "Nifty Fin Service": "FINNIFTY",
        "NIFTY28OCT2525000CE": "NIFTY", "SENSEX": "SENSEX",
    },
    # Yahoo Finance, world indices: the ticker.
    "Yahoo": {
        "^NSEI": "NIFTY", "^NSEBANK": "BANKNIFTY", "NIFTY_FIN_SERVICE.NS": "FINNIFTY",
        "NIFTY_MID_SELECT.NS": "MIDCPNIFTY", "^NSMIDCP": "NIFTYNXT50", "^BSESN": "SENSEX",
        "BSE-BANK.BO": "BANKEX", "^GSPC": "SPX", "^NDX": "NDX", "^RUT": "RUT", "^VIX": "VIX",
        "SPXW251017C06000000": "SPXW",
    },
    # Cboe, delayed quotes (the underscore), OCC's option symbols, and the index prefix of Polygon.
    "Cboe": {
        "_SPX": "SPX", "_VIX": "VIX", "^SPX": "SPX", "$SPX.X": "SPX", "I:NDX": "NDX",
        "SPXW  251017C06000000": "SPXW", "O:SPXW251017C06000000": "SPXW",
    },
    # Deribit API, "Naming": instruments, and the names of its price indices.
    "Deribit": {
        "BTC": "BTC", "BTC-27DEC24-100000-C": "BTC", "ETH-5AUG23-580-P": "ETH", "btc_usd": "BTC",
        "deribit_price_index.eth_usd": "ETH", "XRP_USDC": "DERIBIT_USDC",
        "XRP_USDC-30JUN23-0d625-C": "DERIBIT_USDC",
        "BTC_USDC-27DEC24": "BTC_USDC",
    },
    # Binance, European options, GET /eapi/v1/exchangeInfo: underlying and symbol.
    "Binance": {"BTCUSDT": "BTCUSDT", "BTC-220815-50000-C": "BTCUSDT", "ETHUSDT": "ETHUSDT"},
    # OKX, GET /api/v5/public/instruments?instType=OPTION: instFamily and instId.
    "OKX": {"BTC-USD": "BTC-USD", "BTC-USD-241227-100000-C": "BTC-USD", "ETH-USD-241227": "ETH-USD"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "entry"), [pair for names in KNOWN.values() for pair in names.items()]
)
def test_vendors_names_are_known(name: str, entry: str) -> None:
    found = CONTRACTS.of(name)
    assert (found.name, found.assumed) == (entry, False)


@pytest.mark.parametrize(
    "name",
    [
        "NIFTY-IT", "NIFTY IT", "NIFTY100", "NIFTY500", "NSE:NIFTY100-INDEX", "NIFTY MIDCAP 50", "^NSEMDCP50",
        "^DJI", "NIFTYBEES", "NIFTY-I", "NIFTY1!", "NIFTYX25OCT", "NIFTY25ABC", "NIFTY259925", "NIFTY-",
        "NIFTY 5", "BTC-PERPETUAL", "BTC-USDT", "BTC/USD", "BTC-USDT-241227", "BTCUSDC", "SPXL", "SPX500",
        "VIX9D", "NASDAQ:AAPL", "NYSE:SPXC", "NSE:RELIANCE", "RELIANCE.NS", "NIFTY25OCTOBER", "XNIFTY",
        "NIFTY25OCT-X",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_name_has_assumed_terms(name: str) -> None:
    assert CONTRACTS.of(name).assumed


@given(st.sampled_from(sorted(SHIPPED)), st.text(min_size=1, max_size=12))
def test_only_an_expiry_may_follow_an_entry(entry: str, rest: str) -> None:
    found = CONTRACTS.of(entry + rest)
    assert found.assumed or not rest.strip() or any(map(str.isdigit, rest)) or found.name != entry


def test_a_name_of_any_length_is_answered() -> None:
    assert CONTRACTS.of("NIFTY" * 5_000).assumed
    assert CONTRACTS.of("NIFTY25OCT" + "9" * 20_000 + "CE").name == "NIFTY"


def test_a_table_adds_more_names() -> None:
    contracts = Contracts({}, {"NIFTY SPOT": "NIFTY", "my btc": "BTC"})
    assert contracts.of("NIFTY SPOT") == SHIPPED["NIFTY"]
    assert contracts.of("my btc").price_unit == "underlying"
    assert contracts.of("NIFTY SPOT2").assumed


def test_a_name_needs_an_entry_that_there_is() -> None:
    environ = {"ENRICHER_MARKET__NAMES": "NIFTY SPOT=NIFTI"}
    with pytest.raises(ConfigError, match=r"'NIFTI' is none.*did you mean 'NIFTY'"):
        load(environ=environ, sections={"market": MarketSettings})

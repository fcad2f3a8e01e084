"""Open interest by strike, that of all live expiries of a product added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.messages.models import Number

Held = dict[Number, Number]

_ANEW = 2  # expiries, of which one that changes is half or more: adding all anew costs no more


class StrikeInterest:
    """The sums of calls and of puts, kept: a new chain costs its own strikes, not those of all expiries.

    Only whole numbers leave no trace when they are taken out of a sum, so others are added anew each time.
    """

    __slots__ = ("_calls", "_puts", "_rows")

    def __init__(self) -> None:
        self._rows: dict[str, ExpirySnapshot] = {}
        self._calls: Held = {}
        self._puts: Held = {}

    def of(self, rows: Sequence[ExpirySnapshot]) -> tuple[Held, Held]:
        """The open interest of calls and of puts by strike, that of these chains, one an expiry."""
        held, self._rows = self._rows, {}  # nothing is held if this fails
        now = {row.expiry: row for row in rows}
        gone = [row for expiry, row in held.items() if now.get(expiry) is not row]
        new = [row for expiry, row in now.items() if held.get(expiry) is not row]
        kept = len(gone) + len(new) < len(rows) and self._are_whole()
        if kept:
            self._add(gone, -1)
            self._add(new, 1)
        if not (kept and self._are_whole()):
            self._calls, self._puts = {}, {}
            self._add(rows, 1)
        found = self._calls, self._puts
        if len(rows) > _ANEW:
            self._rows = now
        else:
            self._calls, self._puts = {}, {}
        return found

    def _are_whole(self) -> bool:
        return type(sum(self._calls.values())) is int and type(sum(self._puts.values())) is int

    def _add(self, rows: Iterable[ExpirySnapshot], sign: int) -> None:
        calls, puts = self._calls, self._puts
        for row in rows:
            for strike, call, put in zip(row.quotes.strikes, *row.oi, strict=True):
                if call is not None:
                    calls[strike] = calls.get(strike, 0) + sign * call
                if put is not None:
                    puts[strike] = puts.get(strike, 0) + sign * put
        if sign < 0:
            for sums in (calls, puts):
                for strike in [strike for strike, amount in sums.items() if not amount]:
                    del sums[strike]

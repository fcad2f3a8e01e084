"""The market lots of Indian index options: what one contract is for, by its expiry and the day of looking.

Lots belong to contracts, not to days: when an exchange announces another one, weekly and monthly contracts
keep theirs until they expire, and the quarterly and half-yearly ones that are listed already change on a day
of their own. Announcements of NSE: 31 March 2023, 2 April 2024, 18 October 2024, 28 March 2025, 3 October
2025; of BSE: 28 March 2023 and the revision of November 2024, whose January contracts are not known here.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec


class Lots(msgspec.Struct, frozen=True):
    """Units of the underlying in one contract: ``lot`` for the expiries from the last date of ``before`` on.

    ``before`` ((date, lot), ...) says what it was for expiries before a date, ascending. ``until``
    ((day, date, lot), ...) says what it was up to the end of a day for expiries from a date on. Lots of
    expiries before ``known_from`` are assumed.
    """

    lot: float
    before: tuple[tuple[str, float], ...] = ()
    until: tuple[tuple[str, str, float], ...] = ()
    known_from: str = ""

    def of(self, expiry: str) -> float:
        """Units in one contract of this expiry (YYYY-MM-DD), as it is at last."""
        return next((lot for before, lot in self.before if expiry < before), self.lot)

    def assumed(self, expiry: str) -> bool:
        """Whether the lot of this expiry is a guess."""
        return expiry < self.known_from

    def on(self, changed: int) -> Lots:
        """The lots as they were when so many of the changes of ``until`` had come."""
        if changed >= len(self.until):
            return self
        _, first, lot = self.until[changed]
        kept = tuple(entry for entry in self.before if entry[0] < first)
        following = next((held for before, held in self.before if before >= first), self.lot)
        return Lots(lot, (*kept, (first, following)), (), self.known_from)


_2023: Final = "2023-04-01"  # the announcement of March 2023 names the lots of all NSE indices
_2026: Final = "2026-01-01"  # the first expiries of the lots announced in October 2025
_FEBRUARY: Final = "2025-02-01"  # monthly contracts up to January 2025 kept their lots

INDIAN: Final = MappingProxyType(
    {
        "NIFTY": Lots(
            65.0,
            # The monthly contract of January 2025 was older than the weekly ones before it.
            (("2024-05-02", 50.0), ("2025-01-02", 25.0), ("2025-01-30", 75.0), ("2025-01-31", 25.0),
             (_2026, 75.0)),
            (("2024-04-25", "2024-05-02", 50.0), ("2024-12-26", "2025-03-27", 25.0),
             ("2025-12-30", "2026-03-31", 75.0)),
            _2023,
        ),
        "BANKNIFTY": Lots(
            30.0,
            (("2023-07-27", 25.0), (_FEBRUARY, 15.0), ("2025-07-01", 30.0), (_2026, 35.0)),
            (("2023-06-30", "2023-09-01", 25.0), ("2024-12-24", "2025-03-26", 15.0),
             ("2025-04-24", "2025-09-01", 30.0), ("2025-12-30", "2026-03-31", 35.0)),
            _2023,
        ),
        "FINNIFTY": Lots(60.0, (("2024-07-30", 40.0), (_FEBRUARY, 25.0), (_2026, 65.0)), (), _2023),
        "MIDCPNIFTY": Lots(
            120.0, (("2024-07-29", 75.0), (_FEBRUARY, 50.0), ("2025-07-01", 120.0), (_2026, 140.0)), (), _2023
        ),
        "NIFTYNXT50": Lots(25.0, ((_FEBRUARY, 10.0),), (), "2024-10-01"),
        "SENSEX": Lots(20.0, (("2025-01-01", 10.0),), (), _FEBRUARY),
        "BANKEX": Lots(30.0, (("2025-01-01", 15.0),), (), _FEBRUARY),
    }
)  # fmt: skip

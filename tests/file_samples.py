"""A small file of every format that is read, invented in the layout of those who hand it out."""

from __future__ import annotations

import json
from typing import Any
from zoneinfo import ZoneInfo

INDIA = ZoneInfo("Asia/Kolkata")

NSE = {
    "records": {
        "timestamp": "03-Jun-2030 10:47:19",
        "underlyingValue": 101.5,
        "data": [
            {
                "strikePrice": 100,
                "expiryDate": "27-Jun-2030",
                "CE": {"underlying": "DEMO", "identifier": "C100", "lastPrice": 3.5, "openInterest": 10},
                "PE": {"underlying": "DEMO", "identifier": "P100", "lastPrice": 2.5, "openInterest": 20},
            }
        ],
    }
}
CHAINS = """time,symbol,expiryDate,strikePrice,underlying,CE_OI,CE_LTP,PE_OI,PE_LTP
2030-06-03 10:47:19,DEMO,27-Jun-2030,100,101.5,10,3.5,20,2.5
"""
TICK = '{"product":"DEMO","price":25010.5,"timestamp":"2030-06-03T10:47:19+05:30","tick_id":1}'
SAID = json.dumps({"at": "2030-06-03T05:17:19+00:00", "topic": "market:underlying", "body": TICK})

SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "recording": (SAID + "\n" + SAID + "\n", {}),
    "redis-log": (f"message\nmarket:underlying\n{TICK}\n", {}),
    "messages": (f"{TICK}\n{TICK}\n", {}),
    "nse": (json.dumps(NSE), {"zone": INDIA}),
    "csv-chains": (CHAINS, {"zone": INDIA}),
    "csv-ticks": ("time,price\n2030-06-03 10:47:19,101.5\n", {"zone": INDIA, "product": "DEMO"}),
}
"""Name of a format -> its text, and the options that it needs."""

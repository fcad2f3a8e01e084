"""Messages as JSON and in logs of redis-cli, and what is said of files that are of no known format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enricher.clock import event_us
from enricher.errors import EnricherError
from enricher.market.files import BadRecord, Notes, Options, Recorded, read
from tests.file_samples import INDIA

TICK = '{"product": "N", "price": 25000, "timestamp": "2026-08-13T09:15:00", "tick_id": 1}'
QUOTE = json.dumps(
    {"symbol": "S", "product": "N", "strike": 1, "option_type": "CALL", "timestamp": "2026-08-13T09:15:01"}
)
CHAIN = '{"product": "N", "spot_price": NaN, "calls": [], "puts": [], "timestamp": "2026-08-13T09:15:02"}'
AT = event_us("2026-08-13T09:15:00+05:30")[0]


def records(folder: Path, text: str, notes: Notes | None = None) -> list[Recorded]:
    path = folder / "file.txt"
    path.write_text(text)
    return list(read(path, Options(zone=INDIA), notes))


def refused(folder: Path, text: str) -> str:
    with pytest.raises(EnricherError) as raised:
        records(folder, text)
    return str(raised.value)


def test_lines_of_messages_go_to_the_channels_of_their_fields_as_they_are(tmp_path: Path) -> None:
    found = records(tmp_path, "\n".join([TICK, QUOTE, "", CHAIN]))
    assert [record.topic[7:] for record in found] == ["underlying", "option_quote", "option_chain"]
    assert [record.body.decode() for record in found] == [TICK, QUOTE, CHAIN]
    assert [record.at_us - AT for record in found] == [0, 1_000_000, 2_000_000]


def test_a_list_of_messages_and_a_single_one_are_read_too(tmp_path: Path) -> None:
    for text, number in ((f"[{TICK},\n{QUOTE}]", 2), (json.dumps(json.loads(TICK), indent=1), 1)):
        found = records(tmp_path, text)
        assert (len(found), found[0].at_us) == (number, AT)
        assert json.loads(found[0].body) == json.loads(TICK)


def test_counts_since_1970_are_times_and_never_days_of_long_ago(tmp_path: Path) -> None:
    texts = ["1743090350654", "1786591500000", "1757052241452"]
    found = records(tmp_path, "\n".join(TICK.replace("2026-08-13T09:15:00", text) for text in texts))
    assert [record.at_us for record in found] == [int(text) * 1000 for text in texts]
    assert "a time that" in refused(tmp_path, TICK.replace("2026-08-13T09:15:00", "2026-13-13T09:15:00"))


def test_a_line_that_is_no_message_is_named(tmp_path: Path) -> None:
    for line, said in (('{"product": "N"}', "a message with"), ("[1", "column"), ("5", "a message with")):
        with pytest.raises(BadRecord, match=f"line 2, .*{said}"):
            records(tmp_path, f"{TICK}\n{line}\n{TICK}\n")


LOGS = {
    "numbered": 'Reading messages...\n1) "subscribe"\n2) "c"\n3) (integer) 1\n'
    '1) "message"\n2) "c"\n3) {}\n1) "pmessage"\n2) "*"\n3) "d"\n4) "\\xff\\n"\n',
    "csv": 'Reading messages...\n"subscribe","c",1\n"message","c",{}\n"pmessage","*","d","\\xff\\n"\n',
    "json": '["subscribe","c",1]\n["message","c",{}]\n["pmessage","*","d","\u00ff\\n"]\n',
    "monitor": 'OK\n1786591500.000000 [0 127.0.0.1:5] "GET" "a"\n'
    '1786591500.000001 [0 127.0.0.1:5] "publish" "c" {}\n'
    '1786591500.000002 [0 lua] "PUBLISH" "d" "\\xff\\n"\n',
}


@pytest.mark.parametrize("way", LOGS)
def test_a_log_of_redis_cli_gives_back_what_was_published(tmp_path: Path, way: str) -> None:
    notes = Notes()
    body = TICK.replace("}", ', "x": "\u00e9 \\" \\\\"}')
    one, two = records(tmp_path, LOGS[way].replace("{}", json.dumps(body, ensure_ascii=False)), notes)
    assert (one.topic, one.body.decode(), two.topic) == ("c", body, "d")
    assert two.body == ("\u00ff\n".encode() if way == "json" else b"\xff\n")
    if way == "monitor":
        assert (one.at_us, two.at_us) == (1786591500_000001, 1786591500_000002)
    else:
        assert one.at_us == two.at_us == AT
        assert "what has no time (1 messages)" in notes.doubts[0]


def test_the_bare_lines_of_a_piped_redis_cli_are_read(tmp_path: Path) -> None:
    text = f"psubscribe\n*\n1\npmessage\n*\nc\n{{}}\npmessage\n*\nc\n{TICK}\n"
    found = records(tmp_path, text)
    assert [(record.at_us, record.body.decode()) for record in found] == [(AT, "{}"), (AT, TICK)]
    (alone,) = records(tmp_path, '1) "message"\n2) "market:underlying"\n3) "{\\"product\\":\\"NIFTY\\"}"\n')
    assert (alone.topic, alone.body) == ("market:underlying", b'{"product":"NIFTY"}')
    assert "line 4, line: expected message" in refused(tmp_path, "message\nc\n{}\nmesage\nc\n{}\n")


FAILED = "looks like a blocked or failed request"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", FAILED),
        ("[]", FAILED),
        ("<!DOCTYPE html><html><title>Not found</title></html>", f"HTML or XML, no data: it {FAILED}"),
        ('{"data":"00","error":"Unauthorized"}', f'{FAILED}, which says {{"error":"Unauthorized"}}'),
        ('{"status":false,"message":"Invalid Token","data":null}', "Invalid Token"),
        ('{"status":"SUCCESS","data":[]}', 'an answer without data, which says {"status":"SUCCESS"}'),
        ('{"success":true,"msg":"ok","errorcode":"","data":null}', "an answer without data"),
        ('{"code":"00000","error":false,"data":[]}', "an answer without data"),
        ('{"code":"50011","msg":"Too Many Requests","data":[]}', FAILED),
        ('{"s":"error"}', FAILED),
        ('{"status":"SUCCESS","quotes":{"a":1}}', "its keys are status, quotes"),
        ('{"jsonrpc":"2.0","outcome":[{"a":1}]}', "(records.data); its keys are jsonrpc, outcome"),
        ('[{"sym":"X","mark":1}]', 'a JSON list, whose first item is {"sym":"X","mark":1}'),
        ('{"mode":"full"}\n{"mode":"full"}', "JSON Lines, but no recording, which has at and topic"),
        ('{"records":{"data":[]}}\n{"records":{"data":1}}', "line 2, $.records.data: expected a list"),
        ("Access Denied", "it begins with 'Access Denied'"),
        ("time^price\n", "of a table --delimiter what parts its cells"),
        ('{"records": {"data": [', "file.txt, line 1, column 23: expected JSON"),
    ],
)
def test_what_is_no_known_format_is_told_by_what_was_seen(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_a_kind_that_does_not_fit_is_contradicted_by_what_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "ticks"
    path.write_text("time,price\n2026-08-13 09:15:00,1\n")
    with pytest.raises(EnricherError, match=r"It looks like a table of ticks \(a table"):
        list(read(path, Options(kind="recording")))

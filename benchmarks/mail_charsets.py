"""Compares our charsets, byte by byte, with a reference for the WHATWG Encoding standard.

    python -m benchmarks.mail_charsets [MODULE]

The reference is the TextDecoder of a JavaScript module that `node` can import. The package `@exodus/bytes`
(install it with npm; MODULE is the path of its `encoding.js`) follows the standard; without a module it is
node's own, which has the tables of ICU and differs from the standard in most charsets of East Asia.

Read are all labels; all single bytes; of charsets with several bytes also all pairs, and fixed random
sequences, cut ones among them. Printed are the differences, and a digest of what the reference reads: the
tests have those. What is known to differ is left out: Big5's slashes at A241 and A242 come as those at A1FE
and A240; of ISO-2022-JP only what is within its rules is compared, since we read on where mails break them.
"""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator

import webencodings
from webencodings.labels import LABELS

from enricher.mail.charsets import codec, decode

SEVERAL = ("big5", "euc-jp", "euc-kr", "gb18030", "gbk", "iso-2022-jp", "shift_jis", "utf-8")
_KNOWN = (b"\xa2\x41", b"\xa2\x42")
# What begins, goes on and ends characters, and what never does.
_TELLING = bytes.fromhex("0a1b2030394041415b7e7f8081828e8f90a0a1a2a4a8b0c6c9e0efedf0f4fafcfdfeff")
_DECODES = """
const found = process.argv[1] ? (await import(process.argv[1])).TextDecoder : TextDecoder
let text = ''
for await (const piece of process.stdin) text += piece
const {labels, samples} = JSON.parse(text)
const names = {}, read = {}
for (const label of labels) try { names[label] = new found(label).encoding } catch { names[label] = null }
for (const [name, all] of Object.entries(samples)) {
  if (!names[name]) continue
  const decoder = new found(name, {ignoreBOM: true})
  read[name] = all.map((hex) => decoder.decode(Uint8Array.from(Buffer.from(hex, 'hex'))))
}
process.stdout.write(JSON.stringify({names, read}))
"""


def names() -> list[str]:
    """The standard's charsets, but for the one that refuses everything."""
    return sorted({name for name in LABELS.values() if name != "replacement"} - {"utf-16"})


def samples(name: str) -> Iterator[bytes]:
    """What is read in a charset."""
    every = range(256)
    if name == "iso-2022-jp":
        in_row = range(0x21, 0x7F)
        yield from (bytes((first,)) for first in range(128) if first not in b"\x0e\x0f")
        yield from (b"\x1b(%c%c\x1b(Ba" % (way, one) for way in b"BJ" for one in in_row)
        yield from (b"\x1b(I%ca" % one for one in range(0x21, 0x60))
        yield from (b"\x1b$B%c%c\x1b(Ba" % (first, second) for first in in_row for second in in_row)
        return
    yield from (bytes((first,)) for first in every)
    if name not in SEVERAL:
        return
    chance = random.Random(name)
    more = [bytes(chance.choices(_TELLING, k=chance.randint(3, 7))) for _ in range(5_000)]
    for sample in (*(bytes((a, b)) for a in every for b in every), *more):
        if name != "big5" or not any(pair in sample for pair in _KNOWN):
            yield sample
    if name == "euc-jp":
        yield from (bytes((0x8F, a, b)) for a in range(0xA1, 0xFF) for b in range(0x7F, 256))


def ours(name: str) -> list[str]:
    """What we read of the samples."""
    known = codec(name)
    assert known is not None, name
    return [decode(sample, known, "replace") for sample in samples(name)]


def digest(texts: list[str]) -> str:
    """What tells one reading from another."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def main(module: str) -> None:
    asked = {
        "labels": sorted(LABELS),
        "samples": {name: [sample.hex() for sample in samples(name)] for name in names()},
    }
    command = ["node", "--input-type=module", "-e", _DECODES, module]
    run = subprocess.run(command, input=json.dumps(asked), stdout=subprocess.PIPE, check=True, text=True)
    reference = json.loads(run.stdout)
    for label, name in reference["names"].items():
        known = webencodings.lookup(label)
        if name is not None and (known is None or codec(label) != codec(name)):
            print(f"label {label}: {name}, ours {codec(label)}")
    for name, texts in reference["read"].items():
        mine = ours(name)
        wrong = [triple for triple in zip(samples(name), texts, mine, strict=True) if triple[1] != triple[2]]
        print(f'{name}: {len(wrong)} of {len(mine)} differ, "{digest(texts)}"')
        for sample, text, own in wrong[:10]:
            print(f"    {sample.hex()}: {text!a}, ours {own!a}")
    single = [text for name in names() if name not in SEVERAL for text in reference["read"].get(name, ())]
    print(f'all others: "{digest(single)}"')
    print(f"not known to the reference: {', '.join(set(names()) - set(reference['read'])) or 'none'}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")

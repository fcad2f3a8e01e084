"""The door for files: whatever a desk has, recognised by what is in it and read as messages of the feed.

`recognise` looks at a file and says which `Format` it is; `read` yields its messages. Each layout is one
small module with one `Format`, registered in ``formats.FORMATS``. The order there is the order of asking:
what has the surer marks comes first.

What every reader keeps to (a test asks all of them):

- ``seen(source)`` answers with what was seen ("columns TckrSymb, StrkPric"), or None; it looks at the head
  of the file only, and never depends on the name of the file.
- ``read(source, options, notes)`` yields ``Recorded(at_us, topic, body)``: bodies in the shape of the feed,
  one chain for each product, expiry and moment, legs that are not there left out, unknown values null.
- A value that is wrong raises `BadRecord` (file, line, column, what was expected). What the layout does not
  say (product, expiry, spot, time) comes from ``options``; without it `OptionNeeded` names the option.
- A row that is left out is counted: ``notes.skip(reason)``. Whatever was guessed is noted:
  ``notes.guess(text)``; a guess that may be wrong is a ``notes.doubt(text)``, which is always shown.
- A layout that is known but not read has no ``read``; ``missing`` says what it lacks.
- A file without one message is an error (`read` of this package sees to it).

Times: a local time without an offset stays without one in the message, and ``at_us`` reads it as UTC (only
distances matter to a replay), unless ``options.zone`` says whose local time it is: the message then carries
the offset.
"""

from enricher.market.feed.recording import BadRecord, Recorded
from enricher.market.files.contract import Format, Notes, OptionNeeded, Options
from enricher.market.files.formats import FORMATS, read, recognise

__all__ = ["FORMATS", "BadRecord", "Format", "Notes", "OptionNeeded", "Options", "Recorded"]
__all__ += ["read", "recognise"]

"""What can be wrong with a mail, by name. Where Python's `email.errors` has a name for it, it is that one."""

from __future__ import annotations

from typing import Final

# The header.
INVALID_HEADER: Final = "InvalidHeaderDefect"
OBSOLETE_HEADER: Final = "ObsoleteHeaderDefect"
FIRST_LINE_FOLDED: Final = "FirstHeaderLineIsContinuationDefect"
ENVELOPE_LINE: Final = "MisplacedEnvelopeHeaderDefect"
NO_SEPARATOR: Final = "MissingHeaderBodySeparatorDefect"
BYTE_ORDER_MARK: Final = "ByteOrderMarkDefect"
LEADING_BLANK_LINES: Final = "LeadingBlankLinesDefect"
LINE_ENDS: Final = "InvalidLineEndsDefect"
LONG_HEADER: Final = "LongHeaderDefect"
TOO_MANY_HEADERS: Final = "TooManyHeadersDefect"

# Parts.
NO_BOUNDARY: Final = "NoBoundaryInMultipartDefect"
NO_START: Final = "StartBoundaryNotFoundDefect"
NO_CLOSE: Final = "CloseBoundaryNotFoundDefect"
NO_PARTS: Final = "MultipartInvariantViolationDefect"
ENCODED_MULTIPART: Final = "InvalidMultipartContentTransferEncodingDefect"
INVALID_PARAMETERS: Final = "InvalidParametersDefect"
TOO_MANY_PARTS: Final = "TooManyPartsDefect"
TOO_MANY_LEVELS: Final = "TooManyLevelsDefect"

# Bytes and text.
BASE64_CHARACTERS: Final = "InvalidBase64CharactersDefect"
BASE64_PADDING: Final = "InvalidBase64PaddingDefect"
BASE64_LENGTH: Final = "InvalidBase64LengthDefect"
UNDECODABLE: Final = "UndecodableBytesDefect"
UNKNOWN_ENCODING: Final = "UnknownTransferEncodingDefect"

# What is in the bodies.
LONG_HTML: Final = "LongHtmlDefect"
TOO_MANY_LINKS: Final = "TooManyLinksDefect"
INVALID_CALENDAR: Final = "InvalidCalendarDefect"
LONG_CALENDAR: Final = "LongCalendarDefect"

# People and dates.
INVALID_ADDRESS: Final = "InvalidAddressDefect"
TOO_MANY_ADDRESSES: Final = "TooManyAddressesDefect"
INVALID_DATE: Final = "InvalidDateDefect"
UNKNOWN_ZONE: Final = "UnknownZoneDefect"

Defects = dict[str, None]
"""Those of one mail, each once, in the order in which they were met."""

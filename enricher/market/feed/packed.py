"""Packed files opened for reading: what a file is packed with is told by its first bytes, not by its name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from enricher.errors import EnricherError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PIECE = 1 << 16
_TOLD = 262  # bytes that tell a packing
_LAYERS = 3  # a .csv.gz in a .zip is met, more is a trap


@contextmanager
def open_packed(path: Path) -> Iterator[IO[bytes]]:
    """The content of a file, unpacked (gzip, zstd, zip, bzip2, xz, one in another) as it is read.

    A zip file holds exactly one file of data. Reading to the end of what was cut off raises EOFError. Raises
    EnricherError for what is no text: a workbook, a Parquet file and their like.
    """
    with ExitStack() as layers:
        yield _opened(path, layers)[0]


def name_inside(path: Path) -> str:
    """The name of the data: that of the file in a zip file, else of the file itself."""
    with ExitStack() as layers:
        return _opened(path, layers)[1]


def unreadable() -> tuple[type[Exception], ...]:
    """What reading a packed file raises when its content is broken, beside EOFError where it is cut off."""
    broken: tuple[type[Exception], ...] = (OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
    broken = (*broken, RuntimeError)  # what is encrypted
    try:
        import zstandard
    except ImportError:
        return broken
    return (*broken, zstandard.ZstdError)


def _opened(path: Path, layers: ExitStack) -> tuple[IO[bytes], str]:
    file: IO[bytes] = layers.enter_context(path.open("rb"))
    name = path.name
    for _ in range(_LAYERS):
        head = _first_bytes(file)
        if head[257:262] == b"ustar":
            raise EnricherError(f"{path}: this is a tar archive; unpack it")
        for magic, what in _NOT_TEXT:
            if head.startswith(magic):
                raise EnricherError(f"{path}: this is {what}; save or export it as CSV or JSON")
        if head.startswith(_ZIP):
            file, name = _unzipped(path, layers.enter_context(zipfile.ZipFile(file)))
        elif unpack := next((unpack for magic, unpack in _PACKED if head.startswith(magic)), None):
            file = unpack(path, file)
        else:
            break
        layers.enter_context(file)
    return file, name


def _first_bytes(file: IO[bytes]) -> bytes:
    try:
        return cast("io.BufferedReader", file).peek(_TOLD)[:_TOLD]
    except EOFError:
        return b""  # cut off before its first byte: whoever reads is told


def _unzipped(path: Path, archive: zipfile.ZipFile) -> tuple[IO[bytes], str]:
    names = [one.filename for one in archive.infolist() if not one.is_dir()]
    if "[Content_Types].xml" in names:
        raise EnricherError(f"{path}: this is a workbook or another office document; save it as CSV")
    data = [one for one in names if not one.startswith("__MACOSX/")]
    if len(data) != 1:
        held = ", ".join(data[:5]) + (" ..." if len(data) > 5 else "") or "nothing"
        raise EnricherError(f"{path}: a zip file of {len(data)} files ({held}), not of one; unpack it")
    return archive.open(data[0]), Path(data[0]).name


def _zstd(path: Path, file: IO[bytes]) -> IO[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise EnricherError(f"{path}: a .zst file needs: pip install 'enricher[zstd]'") from error
    return io.BufferedReader(_Unpacked(file, zstandard.ZstdDecompressor()), PIECE)


_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PACKED: tuple[tuple[bytes, Callable[[Path, IO[bytes]], IO[bytes]]], ...] = (
    (b"\x1f\x8b", lambda _, file: cast("IO[bytes]", gzip.GzipFile(mode="rb", fileobj=file))),
    (b"\x28\xb5\x2f\xfd", _zstd),
    (b"BZh", lambda _, file: bz2.open(file)),  # noqa: SIM115 - whoever asks closes it
    (b"\xfd7zXZ\x00", lambda _, file: lzma.open(file)),  # noqa: SIM115
)
_NOT_TEXT = (
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"SQLite format", "an SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"\xd0\xcf\x11\xe0", "a workbook of old Excel"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
)


class _Unpacked(io.RawIOBase):
    """The content of a zstd file, frame after frame.

    The library's own reader takes a frame that was cut off for a complete one; this one raises
    EOFError, as gzip does.
    """

    def __init__(self, file: IO[bytes], decompressor: Any) -> None:
        self._file = file
        self._decompressor = decompressor
        self._frame: Any = None
        self._content = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        while not self._content:
            piece = self._file.read(PIECE)
            if not piece:
                if self._frame is not None:
                    raise EOFError("the file ends within a zstd frame")
                return 0
            self._content = self._unpack(piece)
        size = min(len(view), len(self._content))
        view[:size], self._content = self._content[:size], self._content[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()

    def _unpack(self, piece: bytes) -> bytes:
        content = b""
        while piece:
            if self._frame is None:
                self._frame = self._decompressor.decompressobj()
            content += self._frame.decompress(piece)
            piece = b""
            if self._frame.eof:
                piece, self._frame = self._frame.unused_data, None
        return content

"""Files of bytes, compressed or not as their suffix says."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from enricher.errors import EnricherError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PIECE = 1 << 16


def open_bytes(path: Path, mode: str) -> IO[bytes]:
    """Open a file for bytes (``rb``, ``wb``, ``xb``): ``.gz``, ``.zst``, else as it is.

    Reading to the end of a compressed file that was cut off raises EOFError.
    """
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path, mode))
    if path.suffix == ".zst":
        return _open_zstd(path, mode)
    return path.open(mode)


def _open_zstd(path: Path, mode: str) -> IO[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise EnricherError(f"{path}: a .zst file needs: pip install 'enricher[zstd]'") from error
    raw = path.open(mode)
    if mode == "rb":
        return io.BufferedReader(_Unpacked(raw, zstandard.ZstdDecompressor()), _PIECE)
    return cast("IO[bytes]", zstandard.ZstdCompressor().stream_writer(raw))


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
            piece = self._file.read(_PIECE)
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

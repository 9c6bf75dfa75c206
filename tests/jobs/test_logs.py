"""The bounded log: any output, any cut, any disk."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import logs


def whole(folder: Path, most: int = 1 << 20) -> list[logs.Piece]:
    found, offset = [], 0
    while (piece := logs.read(folder, offset, most)).data:
        found.append(piece)
        offset = piece.start + len(piece.data)
    return found


@settings(deadline=None)
@given(chunks=st.lists(st.binary(max_size=9000), max_size=30), most=st.integers(1, 5000))
def test_what_is_kept_is_what_was_written_there(tmp_path_factory: object, chunks: list[bytes], most: int) -> None:
    folder: Path = tmp_path_factory.mktemp("log")  # type: ignore[attr-defined]
    writer = logs.LogWriter(folder, 8 * 4096)
    for chunk in chunks:
        writer.write(chunk)
    writer.close()
    written = b"".join(chunks)
    assert (writer.position, writer.lost) == (len(written), 0)
    assert logs.size(folder) <= 8 * 4096
    pieces = whole(folder, most)
    for piece in pieces:
        assert written[piece.start : piece.start + len(piece.data)] == piece.data
    kept = sum(len(piece.data) for piece in pieces)
    assert kept == len(written) if len(written) <= 8 * 4096 else kept >= 7 * 4096
    if written:
        assert pieces[0].start == 0
        assert written.endswith(pieces[-1].data)


def test_a_full_disk_loses_output_and_says_so_later(tmp_path: Path) -> None:
    writer = logs.LogWriter(tmp_path, 1 << 20)
    writer.write(b"before\n")
    writer.close()
    segment = tmp_path / "log.000000000"
    kept = segment.read_bytes()
    segment.unlink()
    segment.symlink_to("/dev/full")
    writer.write(b"lost\n")
    assert writer.lost == 5
    writer.close()
    segment.unlink()
    segment.write_bytes(kept)
    writer.write(b"after\n")
    writer.close()
    assert segment.read_bytes() == b"before\n\n[sluice: 5 bytes of output lost, the disk was full]\nafter\n"


def test_nothing_there_yet(tmp_path: Path) -> None:
    assert logs.read(tmp_path / "absent", 7, 10) == logs.Piece(7, b"")

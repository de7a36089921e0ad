from __future__ import annotations

from provision.fetch import journal
from provision.fetch.journal import Identity, Replay, replay
from provision.fetch.pieces import Part, Span

IDENTITY = Identity(digest="a" * 64, size_bytes=100, piece_bytes=10)


class Writer:
    def __init__(self) -> None:
        self.content, self.chain = journal.header_line(IDENTITY)
        self.ends = [len(self.content)]

    def add(self, line: tuple[bytes, int]) -> Writer:
        self.content += line[0]
        self.chain = line[1]
        self.ends.append(len(self.content))
        return self

    def boot(self, boot: str | None) -> Writer:
        return self.add(journal.boot_line(boot, chain=self.chain))

    def piece(self, index: int, origin: str = "http://a") -> Writer:
        return self.add(journal.piece_line(index, [origin], chain=self.chain))

    def part(self, index: int, *spans: tuple[int, int], origin: str = "http://a") -> Writer:
        return self.add(journal.part_line(index, part(*spans, origin=origin), chain=self.chain))

    def synced(self, records: int) -> Writer:
        return self.add(journal.synced_line(records, chain=self.chain))

    def drop(self, index: int) -> Writer:
        return self.add(journal.dropped_line(index, chain=self.chain))


def part(*spans: tuple[int, int], origin: str = "http://a") -> Part:
    return Part(spans=tuple(Span(start=start, stop=stop) for start, stop in spans), sources=frozenset({origin}))


def read(content: bytes, boot: str | None = "b1") -> Replay:
    result = replay(content, IDENTITY, boot_id=boot)
    assert result is not None
    return result


def test_a_killed_process_keeps_every_recorded_piece() -> None:
    writer = Writer().boot("b1").piece(0).piece(3)
    assert set(read(writer.content).sources_of) == {0, 3}


def test_after_power_loss_only_synced_pieces_count() -> None:
    writer = Writer().boot("b1").piece(0).piece(3).synced(1)
    assert set(read(writer.content, boot="b2").sources_of) == {0}
    assert set(read(writer.content, boot=None).sources_of) == {0}


def test_a_later_boot_does_not_vouch_for_an_earlier_one() -> None:
    writer = Writer().boot("b1").piece(0).piece(1).synced(1).boot("b2").piece(2)
    assert set(read(writer.content, boot="b2").sources_of) == {0, 2}


def test_two_processes_of_one_boot_add_up() -> None:
    writer = Writer().boot("b1").piece(0).boot("b1").piece(1)
    assert set(read(writer.content).sources_of) == {0, 1}


def test_a_dropped_piece_is_gone_until_recorded_again() -> None:
    writer = Writer().boot("b1").piece(0).synced(1).drop(0)
    assert read(writer.content).sources_of == {}
    assert set(read(writer.piece(0).content).sources_of) == {0}


def test_sources_are_remembered() -> None:
    assert read(Writer().boot("b1").piece(4, "https://m").content).sources_of == {4: frozenset({"https://m"})}


def test_a_torn_line_ends_the_journal_at_the_line_before() -> None:
    writer = Writer().boot("b1").piece(0).piece(1)
    for cut in range(writer.ends[2], writer.ends[3]):
        result = read(writer.content[:cut])
        assert set(result.sources_of) == {0}
        assert result.valid_bytes == writer.ends[2]


def test_a_missing_line_in_the_middle_is_noticed() -> None:
    writer = Writer().boot("b1").piece(0).piece(1).piece(2)
    without = writer.content[: writer.ends[1]] + writer.content[writer.ends[2] :]
    assert read(without).sources_of == {}


def test_any_flipped_byte_invents_nothing() -> None:
    writer = Writer().boot("b1").piece(0).piece(1).synced(2)
    for position in range(len(writer.content)):
        damaged = bytearray(writer.content)
        damaged[position] ^= 1
        result = replay(bytes(damaged), IDENTITY, boot_id="b1")
        assert result is None or set(result.sources_of) <= {0, 1}


def test_the_last_word_on_a_part_counts_until_the_piece_is_whole() -> None:
    writer = Writer().boot("b1").part(2, (20, 23)).part(2, (20, 25), (28, 30), origin="http://b")
    known = read(writer.content)
    assert known.parts == {2: part((20, 25), (28, 30), origin="http://b")}
    assert known.trusted_bytes(IDENTITY) == 7
    whole = read(writer.piece(2).part(2, (20, 21)).content)
    assert (set(whole.sources_of), whole.parts, whole.trusted_bytes(IDENTITY)) == ({2}, {}, 10)


def test_after_power_loss_the_last_synced_word_on_a_part_counts() -> None:
    writer = Writer().boot("b1").part(2, (20, 23)).part(2, (20, 25)).synced(1)
    assert read(writer.content, boot="b2").parts == {2: part((20, 23))}
    assert read(writer.content, boot="b1").parts == {2: part((20, 25))}


def test_a_dropped_piece_takes_its_part_along() -> None:
    assert read(Writer().boot("b1").part(2, (20, 23)).synced(1).part(2, (20, 25)).drop(2).content).parts == {}


def test_a_part_that_cannot_be_ends_the_journal() -> None:
    for spans in ([(19, 22)], [(28, 31)], [(20, 30)], [(24, 22)], [(22, 22)], [(25, 26), (21, 22)], [(20, 22), (22, 24)], []):
        assert set(read(Writer().boot("b1").piece(0).part(2, *spans).piece(1).content).sources_of) == {0}


def test_other_content_other_journal() -> None:
    content = Writer().boot("b1").piece(0).content
    for other in (
        Identity(digest="b" * 64, size_bytes=100, piece_bytes=10),
        Identity(digest="a" * 64, size_bytes=101, piece_bytes=10),
        Identity(digest="a" * 64, size_bytes=100, piece_bytes=20),
    ):
        assert replay(content, other, boot_id="b1") is None
    assert replay(b"", IDENTITY, boot_id="b1") is None
    assert replay(b"garbage", IDENTITY, boot_id="b1") is None


def test_a_piece_outside_the_file_ends_the_journal() -> None:
    assert set(read(Writer().boot("b1").piece(0).piece(10).piece(1).content).sources_of) == {0}

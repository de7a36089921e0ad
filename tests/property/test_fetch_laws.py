"""Laws of the transfer: pieces partition the file, any crash order resumes to the same bytes, only exact ranges pass."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provision.fetch import growth, journal
from provision.fetch.journal import Identity, replay
from provision.fetch.judge import Kind, judge
from provision.fetch.pieces import Ledger, Part, Span, http_range, merge, piece_count, piece_span

SIZES = st.integers(0, 400)
PIECES = st.integers(1, 70)


@given(size=st.integers(0, 10**13), piece=st.integers(2**20, 2**27), data=st.data())
def test_neighbouring_pieces_meet_and_the_last_ends_the_file(size: int, piece: int, data: st.DataObject) -> None:
    count = piece_count(size, piece)
    assert (count == 0) == (size == 0)
    if count:
        index = data.draw(st.integers(0, count - 1))
        span = piece_span(index, size_bytes=size, piece_bytes=piece)
        assert 0 < len(span) <= piece
        following = (
            piece_span(index + 1, size_bytes=size, piece_bytes=piece) if index + 1 < count else Span(start=size, stop=size)
        )
        assert span.stop == following.start


STEPS = st.lists(st.tuples(st.integers(1, 100), st.integers(0, 100), st.booleans()), max_size=12)


BEGUN = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=5)


@given(size=SIZES, piece=PIECES, have=st.sets(st.integers(0, 30), max_size=8), begun=BEGUN, steps=STEPS)
def test_every_byte_is_lent_once_and_all_arrive(
    size: int, piece: int, have: set[int], begun: list[tuple[int, int]], steps: list[tuple[int, int, bool]]
) -> None:
    have = {index for index in have if index < piece_count(size, piece)}
    spans = merge(Span(start=min(start, size), stop=min(start + length, size)) for start, length in begun)
    ledger = Ledger(size_bytes=size, piece_bytes=piece, have=set(have), begun=spans)
    written = [0] * size
    for span in spans:
        for at in range(span.start, span.stop):
            written[at] = int(at // piece not in have)

    def write(span: Span) -> None:
        for at in range(span.start, span.stop):
            written[at] += 1

    for index in have:
        write(ledger.span(index))
    # After the drawn steps, readers that never fail take the rest.
    for most, keep, sweep in [*steps, *[(size + 1, size + 1, False)] * (size + 1)]:
        span = ledger.take(most)
        if span is None:
            break
        done = Span(start=span.start, stop=min(span.stop, span.start + keep))
        ledger.give_back(Span(start=done.stop, stop=span.stop))
        if len(done):
            write(done)
            ledger.wrote(done)
        for claimed in ledger.claim(Span(start=size // 3, stop=size // 2)) if sweep else ():
            write(claimed)
            ledger.wrote(claimed)
        assert ledger.written_bytes() == sum(written)
        here = {at for spans in ledger.filled().values() for span in spans for at in range(span.start, span.stop)}
        assert here == {at for at in range(size) if written[at] and at // piece not in ledger.have}
    assert ledger.complete
    assert written == [1] * size
    assert ledger.front() == size == ledger.written_bytes()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.integers(0, 19)),
        st.tuples(st.just("sync"), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 40)),
        st.tuples(st.just("power"), st.integers(0, 2**31)),
    ),
    max_size=40,
)


@given(operations=OPERATIONS)
def test_whatever_crashes_when_what_is_trusted_is_there(operations: list[tuple[str, int]]) -> None:
    """A model of a disk whose cache is lost with the power, except for what was synced and a random part of the rest.

    Of each of its ten pieces the bytes arrive in halves, and half a piece is a part.
    """
    identity = Identity(digest="a" * 64, size_bytes=100, piece_bytes=10)
    boot = 1
    cache: set[int] = set()  # halves right in the page cache
    medium: set[int] = set()  # halves right on the medium
    content, chain = journal.header_line(identity)
    line, chain = journal.boot_line(f"boot{boot}", chain=chain)
    content += line
    records = durable_journal = 0
    trusted: set[int] = set()
    for name, number in operations:
        if name == "fetch" and number not in trusted:
            cache.add(number)
            trusted.add(number)
            piece, other = number // 2, number ^ 1
            half = Part(spans=(Span(start=number * 5, stop=number * 5 + 5),), sources=frozenset({"x"}))
            line, chain = (
                journal.piece_line(piece, ["x"], chain=chain)
                if other in trusted
                else journal.part_line(piece, half, chain=chain)
            )
            content, records = content + line, records + 1
        elif name == "sync":
            medium |= cache
            line, chain = journal.synced_line(records, chain=chain)
            content += line
            durable_journal = len(content)
        elif name in ("kill", "power"):
            if name == "power":
                boot += 1
                lost = len(content) - durable_journal
                content = content[: durable_journal + (number % (lost + 1))]
                # Some unsynced halves may have reached the medium, some not.
                cache = medium | {half for half in cache if (number >> half) & 1}
                medium = set(cache)
            known = replay(content, identity, boot_id=f"boot{boot}")
            if known is None:
                content, chain = journal.header_line(identity)
                trusted, records = set(), 0
            else:
                content, chain = content[: known.valid_bytes], known.chain
                starts = {span.start for part in known.parts.values() for span in part.spans}
                whole = {half for index in known.sources_of for half in (2 * index, 2 * index + 1)}
                trusted, records = {start // 5 for start in starts} | whole, known.records
                assert known.trusted_bytes(identity) == 5 * len(trusted)
            assert trusted <= cache
            line, chain = journal.boot_line(f"boot{boot}", chain=chain)
            content += line
            durable_journal = min(durable_journal, len(content))


@given(
    asked=st.tuples(st.integers(0, 999), st.integers(1, 1000)).filter(lambda pair: pair[0] < pair[1]),
    answered=st.tuples(st.integers(0, 1100), st.integers(0, 1100), st.integers(0, 1100)),
    length=st.one_of(st.none(), st.integers(0, 1100)),
)
def test_the_judge_accepts_exactly_what_was_asked(
    asked: tuple[int, int], answered: tuple[int, int, int], length: int | None
) -> None:
    span = Span(start=asked[0], stop=asked[1])
    headers = {"content-range": "bytes {}-{}/{}".format(*answered)}
    if length is not None:
        headers["content-length"] = str(length)
    exact = answered == (span.start, span.stop - 1, 1000) and length in (None, len(span))
    assert (judge(206, headers, asked=span, size_bytes=1000).kind is Kind.EXACT) == exact
    right = {"content-range": f"{http_range(span).replace('=', ' ')}/1000"}
    assert judge(206, right, asked=span, size_bytes=1000).kind is Kind.EXACT


TICKS = st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 10**9), st.booleans()), max_size=60)


@given(size=st.integers(0, 10**11), ticks=TICKS)
def test_connections_grow_by_steps_to_the_most_and_never_after_trouble(size: int, ticks: list[tuple[float, int, bool]]) -> None:
    crew, now, received, last, troubled = growth.Growth(), 0.0, 0, growth.FIRST, False
    for passed, arrived, hindered in ticks:
        now, received, troubled = now + passed, min(size, received + arrived), troubled or hindered
        wanted = crew.wanted(now, received_bytes=received, missing_bytes=size - received, hindered=hindered)
        assert wanted - last in (0, growth.STEP)
        assert growth.FIRST <= wanted <= growth.MOST
        assert wanted == last or not (troubled or received == size)
        last = wanted

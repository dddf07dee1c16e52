"""Client sessions: at most once, and bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocinante import limits
from rocinante.errors import InvalidArgument, OutOfRange, RocinanteError, SessionExpired
from rocinante.pb.etcd import rpc_pb2
from rocinante.state.command import Kind
from tests.state.harness import Driver, copy, digest

S = 0x51


@pytest.fixture
def driver() -> Driver:
    made = Driver()
    made.do(Kind.SESSION_OPEN, session=S)
    return made


def put(key: bytes, value: bytes = b"", **more: bool | int) -> bytes:
    return rpc_pb2.PutRequest(key=key, value=value, **more).SerializeToString()  # type: ignore[arg-type]


def test_a_retry_is_answered_and_not_carried_out(driver: Driver) -> None:
    first = driver.do(Kind.KV_PUT, put(b"a", b"1"), S, 1)
    assert driver.changed()
    assert driver.do(Kind.KV_PUT, put(b"a", b"1"), S, 1) == first
    assert not driver.changed()
    assert (driver.machine.revision, driver.get(b"a")) == (2, b"1")


def test_what_a_caller_does_with_a_result_does_not_change_the_kept_one(driver: Driver) -> None:
    first = driver.do(Kind.KV_PUT, put(b"a"), S, 1)
    assert isinstance(first, rpc_pb2.PutResponse)
    first.header.member_id = 99
    retried = driver.do(Kind.KV_PUT, put(b"a"), S, 1)
    assert isinstance(retried, rpc_pb2.PutResponse)
    assert retried.header.member_id == 0


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (Kind.KV_DELETE, rpc_pb2.DeleteRangeRequest(key=b"a", prev_kv=True).SerializeToString()),
        (Kind.KV_TXN, rpc_pb2.TxnRequest(success=[rpc_pb2.RequestOp(request_range={"key": b"a"})]).SerializeToString()),
        (Kind.KV_COMPACT, rpc_pb2.CompactionRequest(revision=2).SerializeToString()),
        (Kind.FLOW_DELETE, b"\0\0\0\0\0"),
        (Kind.CLOCK, (5).to_bytes(8)),
        (Kind.KV_PUT, put(b"")),
        (Kind.KV_PUT, put(b"a", lease=1)),
        (Kind.KV_COMPACT, rpc_pb2.CompactionRequest(revision=77).SerializeToString()),
        (Kind.FLOW_PUT, b"\3dc1nonsense"),
        (Kind.KV_TXN, b"\xff\xff"),
        (200, b""),
    ],
)
def test_every_outcome_is_kept(driver: Driver, kind: int, body: bytes) -> None:
    driver.put(b"a", b"1")
    outcomes = []
    for machine in (driver, Driver(copy(driver.machine))):
        data = _raw(kind, body, seq=1)
        first = machine.machine.apply(50, 1, data).outcomes[0].result
        again = machine.machine.apply(51, 1, data).outcomes[0].result
        restored = copy(machine.machine).apply(52, 1, data).outcomes[0].result
        outcomes += [first, again, restored]
    assert len({_comparable(outcome) for outcome in outcomes}) == 1


def _raw(kind: int, body: bytes, seq: int) -> bytes:
    command = bytes((kind,)) + S.to_bytes(8) + seq.to_bytes(8) + bytes(8) + body
    return len(command).to_bytes(4) + command


def _comparable(outcome: object) -> tuple[str, str]:
    text = outcome.message if isinstance(outcome, RocinanteError) else str(outcome)
    field = outcome.field if isinstance(outcome, InvalidArgument) else ""
    return type(outcome).__name__ + field, text


def test_seqs_may_come_in_any_order(driver: Driver) -> None:
    for seq in (5, 3, 9, 1, 2):
        driver.do(Kind.KV_PUT, put(b"k%d" % seq), S, seq)
    assert driver.machine.keys_count() == 5
    for seq in (1, 2, 3, 5, 9):
        driver.do(Kind.KV_PUT, put(b"k%d" % seq), S, seq)
    assert driver.machine.revision == 6


def test_a_command_without_a_session_it_knows_is_refused() -> None:
    driver = Driver()
    with pytest.raises(SessionExpired, match="0000000000000051 is not known"):
        driver.do(Kind.KV_PUT, put(b"a"), S, 1)
    assert driver.machine.revision == 1


def test_an_acknowledged_result_is_forgotten_and_its_retry_refused(driver: Driver) -> None:
    for seq in (1, 2, 3):
        driver.do(Kind.KV_PUT, put(b"a"), S, seq)
    driver.do(Kind.KV_PUT, put(b"a"), S, 4, ack=3)
    assert driver.machine.sizes()["session_results"] == 2
    for seq in (1, 2):
        with pytest.raises(SessionExpired, match="no longer kept"):
            driver.do(Kind.KV_PUT, put(b"a"), S, seq)
    driver.do(Kind.KV_PUT, put(b"a"), S, 3)
    assert driver.machine.revision == 5


def test_an_older_ack_takes_nothing_back(driver: Driver) -> None:
    driver.do(Kind.KV_PUT, put(b"a"), S, 9, ack=9)
    with pytest.raises(SessionExpired):
        driver.do(Kind.KV_PUT, put(b"a"), S, 5, ack=2)


def test_seq_0_and_session_0_are_refused(driver: Driver) -> None:
    with pytest.raises(InvalidArgument, match=r"^seq: "):
        driver.do(Kind.KV_PUT, put(b"a"), S, 0)
    with pytest.raises(InvalidArgument, match=r"^session: "):
        driver.do(Kind.SESSION_OPEN)


def test_opening_again_forgets_nothing_and_closing_everything(driver: Driver) -> None:
    driver.do(Kind.KV_PUT, put(b"a"), S, 1)
    driver.do(Kind.SESSION_OPEN, session=S)
    driver.do(Kind.KV_PUT, put(b"a"), S, 1)
    assert driver.machine.revision == 2
    driver.do(Kind.SESSION_CLOSE, session=S)
    driver.do(Kind.SESSION_CLOSE, session=S)
    assert driver.machine.sizes()["session_result_bytes"] == 0
    with pytest.raises(SessionExpired):
        driver.do(Kind.KV_PUT, put(b"a"), S, 2)


def test_the_window_is_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_WINDOW_MAX", 3)
    for seq in (1, 2, 3, 4, 5):
        driver.do(Kind.KV_PUT, put(b"a"), S, seq)
    assert driver.machine.sizes()["session_results"] == 3
    with pytest.raises(SessionExpired):
        driver.do(Kind.KV_PUT, put(b"a"), S, 2)
    driver.do(Kind.KV_PUT, put(b"a"), S, 3)
    assert driver.machine.revision == 6


def test_the_bytes_of_all_results_are_bounded(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_RESULT_BYTES_MAX", 5000)
    driver.do(Kind.SESSION_OPEN, session=2)
    driver.put(b"a", bytes(1000))
    for seq in range(1, 4):
        driver.do(Kind.KV_PUT, put(b"a", bytes(1000), prev_kv=True), S, seq)
        driver.do(Kind.KV_PUT, put(b"a", bytes(1000), prev_kv=True), 2, seq)
    sizes = driver.machine.sizes()
    assert 3000 < sizes["session_result_bytes"] <= 5000
    for session in (S, 2):
        with pytest.raises(SessionExpired):
            driver.do(Kind.KV_PUT, put(b"a"), session, 1)
        driver.do(Kind.KV_PUT, put(b"a"), session, 3)
    assert driver.machine.revision == 8


def test_a_result_that_is_too_large_is_not_kept_and_the_retry_told_so(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSION_RESULT_BYTES_ONE_MAX", 500)
    driver.put(b"a", bytes(1000))
    driver.do(Kind.KV_PUT, put(b"a", b"new", prev_kv=True), S, 1)
    with pytest.raises(SessionExpired, match="was carried out"):
        driver.do(Kind.KV_PUT, put(b"a", b"new", prev_kv=True), S, 1)
    assert driver.machine.revision == 3


def test_of_too_many_sessions_the_one_not_used_for_longest_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_MAX", 3)
    driver = Driver()
    for session in (1, 2, 3):
        driver.do(Kind.SESSION_OPEN, session=session)
    driver.do(Kind.KV_PUT, put(b"a"), 1, 1)
    driver.do(Kind.SESSION_OPEN, session=4)
    assert [driver.machine.has_session(session) for session in (1, 2, 3, 4)] == [True, False, True, True]
    assert driver.machine.sessions_count() == 3


def test_idle_sessions_end_by_the_states_own_time() -> None:
    driver, idle = Driver(), limits.SESSION_IDLE_MS_MAX
    driver.clock(1_000)
    for session in (1, 2):
        driver.do(Kind.SESSION_OPEN, session=session)
    driver.clock(2_000)
    driver.do(Kind.KV_PUT, put(b"a"), 1, 1)
    driver.clock(1_000 + idle)
    assert driver.machine.sessions_count() == 2
    driver.clock(1_001 + idle)
    assert [driver.machine.has_session(session) for session in (1, 2)] == [True, False]
    driver.clock(5)
    assert driver.machine.now_ms == 1_001 + idle, "time does not go back"
    driver.clock(2_001 + idle)
    assert driver.machine.sessions_count() == 0


@given(st.data())
def test_each_command_is_carried_out_at_most_once(data: st.DataObject) -> None:
    """Retries, concurrent seqs, acks, a small window, snapshots in between: a put is seen once or not at all, and a
    retry that is answered is answered as the first time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "SESSION_WINDOW_MAX", 4)
        patch.setattr(limits, "SESSION_RESULT_BYTES_MAX", 8 * 200)
        patch.setattr(limits, "SESSIONS_MAX", 2)
        driver = Driver()
        answers: dict[tuple[int, int], object] = {}
        generation = dict.fromkeys((1, 2, 3), 0)
        steps = st.tuples(st.sampled_from([1, 2, 3]), st.integers(0, 8), st.integers(0, 8))
        for session, seq, ack in data.draw(st.lists(steps, max_size=60)):
            if seq == 0:
                if not driver.machine.has_session(session):
                    generation[session] += 1
                driver.do(Kind.SESSION_OPEN, session=session)
                continue
            if seq == 8 and ack == 8:
                driver = Driver(copy(driver.machine))
                continue
            name = (session * 1000 + generation[session], seq)
            outcome = driver.outcome(Kind.KV_PUT, put(b"%d-%d" % name), session, seq, min(ack, seq))
            if isinstance(outcome, SessionExpired):
                continue
            assert answers.setdefault(name, outcome) == outcome
        everything = driver.machine.kv_range(rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
        assert {pair.key for pair in everything.kvs} == {b"%d-%d" % name for name in answers}
        assert all(pair.version == 1 for pair in everything.kvs)
        assert digest(copy(driver.machine)) == digest(driver.machine)


def test_a_refused_command_is_refused_again_even_when_it_could_now_be_done(driver: Driver) -> None:
    request = put(b"a", ignore_value=True)
    for _ in range(2):
        with pytest.raises(InvalidArgument, match="key not found"):
            driver.do(Kind.KV_PUT, request, S, 1)
        driver.put(b"a")
    compact = rpc_pb2.CompactionRequest(revision=9).SerializeToString()
    for _ in range(2):
        with pytest.raises(OutOfRange, match="future"):
            driver.do(Kind.KV_COMPACT, compact, S, 2)
        for _ in range(9):
            driver.put(b"a")


def test_a_session_that_is_in_use_survives_the_first_clock_and_one_after_a_long_absence() -> None:
    """A new cluster's time begins at 0: its first clock must not end the sessions that were opened before it."""
    driver, idle = Driver(), limits.SESSION_IDLE_MS_MAX
    wall_ms = 1_800_000_000_000
    driver.do(Kind.SESSION_OPEN, session=1)
    driver.clock(wall_ms)
    assert driver.machine.sessions_count() == 1
    driver.clock(wall_ms + 60_000)
    driver.do(Kind.SESSION_OPEN, session=2)
    driver.clock(wall_ms + 3 * idle)
    assert driver.machine.sessions_count() == 1, "the one that was not used since, ended"
    driver.clock(wall_ms + 4 * idle)
    assert driver.machine.sessions_count() == 1, "an hour of idleness is not more than an hour"
    driver.clock(wall_ms + 4 * idle + 1)
    assert driver.machine.sessions_count() == 0

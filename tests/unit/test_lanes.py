"""A lane is data: each transition says what is to be done next, without a loop, a clock or a server."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from enricher.config import WriterSettings
from enricher.engine.lanes import Lane, LaneGroup, Share, Status, Step
from enricher.engine.ports import Delivery, Sink
from enricher.engine.router import Route, Slots
from enricher.engine.scheduler import LoadQueue, Scheduler
from enricher.engine.stats import Stats
from enricher.engine.writer import CommitGroup, Writer
from enricher.errors import SinkUnavailable
from tests.memory import MemoryDocuments, MemoryLive
from tests.rig import QUICK, Sums, echo, key_of, stateful


def commit_group(names: tuple[str, ...]) -> CommitGroup:
    sinks: list[Sink] = [MemoryDocuments(), MemoryLive()]
    writer = Writer(
        sinks,
        limits=WriterSettings(),
        most=100,
        most_bytes=1000,
        backoff=QUICK,
        stats=Stats(),
        clock=lambda: 0,
    )
    return writer.group(names)


def group(route: Route) -> LaneGroup:
    return LaneGroup([route], commit_group(route.sinks), Share(1))


def stateless() -> Lane:
    return group(Route(topic="t", handler=echo, key=key_of)).lane("a")


def restored() -> Lane:
    """A lane with state, idle."""
    lane = group(stateful(Sums())).lane("a")
    assert lane.add(message(0)) is Step.LOAD
    lane.loaded({}, 0)
    assert lane.rest() is Step.TURN
    assert lane.begin() is Step.RUN
    assert lane.take() is not None
    assert lane.end(0) is None
    return lane


def message(number: int) -> Delivery:
    return Delivery("t", b"%d" % number, 0)


def test_a_lane_has_one_turn_for_all_that_gathers_and_goes_when_it_is_empty() -> None:
    lane = stateless()
    assert [lane.add(message(n)) for n in range(3)] == [Step.TURN, None, None]
    assert lane.begin() is Step.RUN
    assert lane.take() is not None
    assert lane.end(5) is Step.TURN
    assert lane.begin() is Step.RUN
    while lane.take():
        pass
    assert lane.end(5) is Step.FORGET


def test_state_is_loaded_before_the_first_turn_and_stays() -> None:
    lane = restored()
    assert lane.status is Status.IDLE
    assert lane.add(message(1)) is Step.TURN


def test_what_asked_for_a_load_may_be_dropped_meanwhile() -> None:
    lane = group(stateful(Sums())).lane("a")
    delivery = message(0)
    lane.add(delivery)
    delivery.gone = True
    lane.drop(1)
    lane.loaded(None, 0)
    assert lane.rest() is Step.FORGET


def test_a_refused_fold_loads_the_state_anew_once_nothing_is_in_flight() -> None:
    lane = restored()
    lane.sent(3)
    assert lane.refused(folded=True) is None
    assert lane.add(message(1)) is None  # parked
    assert lane.status is Status.PARKED
    assert lane.settled() is None
    assert lane.settled() is Step.LOAD
    assert lane.waking
    assert lane.state is None
    lane.loaded({}, 0)
    assert lane.pop_show_again()
    assert not lane.pop_show_again()
    assert lane.rest() is Step.TURN


def test_a_refused_message_that_was_not_folded_changes_nothing() -> None:
    lane = restored()
    lane.sent()
    assert lane.refused(folded=False) is None
    assert not lane.stale


def test_a_lane_that_becomes_stale_while_it_waits_is_loaded_instead_of_served() -> None:
    lane = restored()
    assert lane.add(message(1)) is Step.TURN
    lane.distrust()
    assert lane.begin() is Step.LOAD


def test_nothing_but_its_time_wakes_a_parked_lane() -> None:
    lane = restored()
    lane.add(message(1))
    lane.begin()
    delivery = lane.take()
    assert delivery is not None
    lane.sent()
    lane.park(delivery, 100)
    assert lane.end(0) is None
    assert lane.refused(folded=True) is None
    assert lane.add(message(2)) is None
    assert lane.resume(99) is None
    assert lane.resume(100) is Step.LOAD
    assert [d.body for d in lane.queue] == [b"1", b"2"]


def test_of_clock_events_the_earliest_counts_and_comes_once() -> None:
    lane = restored()
    assert [lane.ask(20), lane.ask(30), lane.ask(10)] == [True, False, True]
    assert [lane.due(20), lane.due(10), lane.due(10)] == [False, True, False]


def scheduler(*routes: Route, slots: int = 8) -> Scheduler:
    return Scheduler(routes, commit_group, slots)


def queue(pool: Scheduler, topic: str, keys: str) -> None:
    for key in keys:
        lane = pool.by_name[topic].lane(key)
        assert lane.add(message(0)) is Step.TURN
        pool.queue(lane)


def order(pool: Scheduler, number: int) -> str:
    """The keys of the next turns, each for one message."""
    keys = ""
    for _ in range(number):
        lane = pool.pick()
        assert lane is not None
        keys += str(lane.key)
        pool.end(lane, 1)
    return keys


def test_turns_go_by_priority_then_by_weight() -> None:
    first = Route(topic="first", handler=echo, key=key_of, priority=1)
    heavy = Route(topic="heavy", handler=echo, key=key_of, weight=2)
    light = Route(topic="light", handler=echo, key=key_of)
    pool = scheduler(light, heavy, first)
    queue(pool, "light", "xyz")
    queue(pool, "heavy", "abcdef")
    queue(pool, "first", "1")
    assert order(pool, 7) == "1xabycd"
    assert order(pool, 3) == "zef"
    assert pool.pick() is None


def test_slots_and_caps_bound_the_turns() -> None:
    capped = Route(topic="capped", handler=echo, key=key_of, max_concurrency=1)
    free = Route(topic="free", handler=echo, key=key_of)
    pool = scheduler(capped, free, slots=2)
    queue(pool, "capped", "ab")
    queue(pool, "free", "xy")
    begun = [pool.pick(), pool.pick()]
    assert [str(lane.key) for lane in begun if lane] == ["a", "x"]
    assert pool.pick() is None
    assert begun[1] is not None
    pool.end(begun[1], 1)
    assert [lane.key for lane in (pool.pick(), pool.pick()) if lane] == ["y"]


def test_routes_of_one_share_have_its_slots_between_them_and_never_the_pools() -> None:
    jobs = Slots("jobs", 2)
    high = Route(topic="high", handler=echo, key=key_of, priority=1, slots=jobs)
    low = Route(topic="low", handler=echo, key=key_of, slots=jobs)
    ticks = Route(topic="ticks", handler=echo, key=key_of)
    pool = scheduler(ticks, low, high, slots=1)
    queue(pool, "low", "xy")
    queue(pool, "high", "ab")
    queue(pool, "ticks", "12")
    begun = [lane for lane in (pool.pick(), pool.pick(), pool.pick()) if lane]
    assert [lane.key for lane in begun] == ["a", "b", "1"]
    assert pool.pick() is None
    pool.end(begun[2], 1)
    assert [lane.key for lane in (pool.pick(), pool.pick()) if lane] == ["2"]
    pool.end(begun[0], 1)
    assert [lane.key for lane in (pool.pick(), pool.pick()) if lane] == ["x"]


def test_a_route_that_was_idle_gains_nothing_from_how_little_other_shares_have_served() -> None:
    busy = Route(topic="busy", handler=echo, key=key_of)
    idle = Route(topic="idle", handler=echo, key=key_of)
    other = Route(topic="other", handler=echo, key=key_of, slots=Slots("jobs", 1))
    pool = scheduler(busy, idle, other, slots=1)
    queue(pool, "other", "1")
    assert pool.pick() is not None  # and goes on for long
    queue(pool, "busy", "abcdefgh")
    assert order(pool, 4) == "abcd"
    queue(pool, "idle", "wxyz")
    assert order(pool, 4) == "ewfx"


def test_new_keys_are_loaded_together_and_stored_ones_each_for_itself() -> None:
    lanes = group(stateful(Sums()))
    loads = LoadQueue()
    stored, new = [lanes.lane(key) for key in "ab"], [lanes.lane(key) for key in "xyz"]
    for lane in stored:
        assert lane.restore() is Step.LOAD
        loads.add(lane)
    for lane in new:
        assert lane.add(message(0)) is Step.LOAD
        loads.add(lane)
    assert not loads.begin()  # it is not known yet what was left unfinished
    loads.asked = True
    assert [loads.begin() for _ in range(5)] == [True] * 4 + [False]
    assert loads.take(200) == (new, False)
    stored[1].add(message(1))
    assert loads.take(200) == ([stored[1]], True)  # a message waits for it
    assert loads.take(200) == ([stored[0]], True)
    assert loads.take(200) == ([], False)


def test_what_cannot_be_loaded_keeps_its_place_in_an_outage_and_else_goes_to_the_end() -> None:
    lanes = group(stateful(Sums()))
    loads = LoadQueue()
    loads.asked = True
    first, second, third = (lanes.lane(key) for key in "abc")
    for lane in (first, second, third):
        loads.add(lane)
    assert loads.begin()
    loads.put_back(loads.take(1)[0], False, SinkUnavailable("documents", "away"))
    assert not loads.begin()  # one load at a time asks a server that is away
    assert loads.take(1) == ([first], False)
    loads.put_back([first], False, ValueError("makes no sense"))
    assert loads.take(3) == ([second, third, first], False)


class Driver:
    """Acts on one lane as the engine does, in whatever order things happen."""

    def __init__(self) -> None:
        self.group = group(stateful(Sums()))
        self.lane = self.group.lane("a")
        self.loading = False
        self.added = self.done = 0

    def act(self, step: Step) -> None:
        if step is Step.TURN:
            self.group.ready.append(self.lane)
        elif step is Step.LOAD:
            self.loading = True
        elif step is Step.FORGET:
            self.group.forget(self.lane)

    def add(self) -> None:
        self.added += 1
        self.lane = self.group.lane("a")
        self.act(self.lane.add(message(self.added)))

    def turn(self, *, parks: bool = False, fails: bool = False) -> None:
        if not self.group.ready:
            return
        lane = self.group.ready.popleft()
        step = lane.begin()
        self.act(step)
        if step is not Step.RUN:
            return
        delivery = lane.take()
        if delivery is not None and parks:
            lane.park(delivery, 1)
        elif delivery is not None:
            self.done += 1
            lane.sent()
        if fails:
            lane.distrust()
        self.act(lane.end(0))

    def load(self) -> None:
        if self.loading:
            self.loading = False
            asked = self.lane.waking or any(not d.gone for d in self.lane.queue)
            self.lane.loaded({} if asked else None, 0)
            self.lane.pop_show_again()
            self.act(self.lane.rest())

    def drop(self) -> None:
        delivery = next((d for d in self.lane.queue if not d.gone), None)
        if delivery is not None:
            delivery.gone = True
            self.done += 1
            self.lane.drop(1)

    def settle(self, step: Callable[[], Step]) -> None:
        if self.lane.unsettled:
            self.act(step())

    def do(self, what: str) -> None:
        {
            "add": self.add,
            "turn": self.turn,
            "park": lambda: self.turn(parks=True),
            "fail": lambda: self.turn(fails=True),
            "load": self.load,
            "drop": self.drop,
            "commit": lambda: self.settle(self.lane.settled),
            "refuse": lambda: self.settle(lambda: self.lane.refused(folded=True)),
            "resume": lambda: self.act(self.lane.resume(1)),
        }[what]()

    def check(self) -> None:
        lane = self.lane
        assert (lane in self.group.ready) == (lane.status is Status.READY)
        assert self.loading == (lane.status is Status.LOADING)
        assert lane.status is not Status.IDLE or not lane.queue
        assert lane.status is not Status.PARKED or lane.unsettled or lane.resume_us is not None


WHAT = ["add", "turn", "park", "fail", "load", "drop", "commit", "refuse", "resume"]


@given(st.lists(st.sampled_from(WHAT), max_size=60))
def test_whatever_happens_no_message_is_left_behind(steps: list[str]) -> None:
    driver = Driver()
    for what in steps:
        driver.do(what)
        driver.check()
    for _ in range(4 * len(steps)):
        for what in ("resume", "commit", "load", "turn"):
            driver.do(what)
            driver.check()
    assert driver.done == driver.added
    assert driver.lane.status is Status.IDLE

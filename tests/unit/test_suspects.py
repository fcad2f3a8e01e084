"""In what company an entry that was left unfinished is tried again, and when it is the one that ends all."""

from __future__ import annotations

import random
from typing import cast

import pytest

from enricher.adapters.redis.stream.group import StreamGroup
from enricher.adapters.redis.stream.quarantine import COMPANIES, FEW, NOBODY, Suspect, next_trial

NO_GROUP = cast("StreamGroup", None)


def left(number: int, delivery: int = 2, *, exposed: int = 0, begin: int = 0) -> list[Suspect]:
    """``number`` entries that wait for that delivery."""
    return [Suspect(NO_GROUP, f"{begin + n}-0", delivery, exposed) for n in range(number)]


def test_of_many_that_were_merely_read_a_company_is_tried_and_it_counts_for_none_of_them() -> None:
    many = left(2000)
    trial = next_trial(many, 3, lived=0)
    assert (list(trial.suspects), trial.apart, trial.exposes) == (many[: COMPANIES[0]], True, 1)
    assert len(next_trial(many, 3, lived=0, largest=32).suspects) == 32
    assert len(next_trial(left(FEW + 1) + left(5, exposed=1, begin=10), 3, lived=0).suspects) == FEW + 1


@pytest.mark.parametrize(
    ("many", "exposes", "size"),
    [
        (left(200, exposed=1), 2, 128),
        (left(17, exposed=1), 2, 17),
        (left(16, exposed=1), 3, 16),
        (left(5, exposed=1) + left(5, exposed=2, begin=5), 3, 10),
        (left(100, exposed=2), 3, 16),
    ],
)
def test_those_whose_company_was_left_are_tried_in_a_smaller_one(
    many: list[Suspect], exposes: int, size: int
) -> None:
    trial = next_trial(many, 3, lived=0.5)
    assert (list(trial.suspects), trial.apart, trial.exposes) == (many[:size], True, exposes)
    assert next_trial(many, 3, lived=0.3) == NOBODY


@pytest.mark.parametrize("waiting", [left(FEW), left(FEW, exposed=1), left(100, exposed=3), left(100, 3)])
def test_a_few_and_those_whose_smallest_company_was_left_are_tried_one_by_one(waiting: list[Suspect]) -> None:
    trial = next_trial(waiting, 5, lived=0.5)
    assert (list(trial.suspects), trial.apart, trial.exposes) == (waiting[:1], True, 0)


def test_whoever_was_left_alone_comes_after_those_that_were_not() -> None:
    once, twice = left(3, exposed=3, begin=10), left(3, 3)
    assert next_trial(twice + once, 4, lived=0.5).suspects == (once[0],)


def test_the_last_delivery_waits_until_the_worker_has_lived_for_a_lease() -> None:
    last = left(2, 3)
    assert next_trial(last, 3, lived=0.9) == NOBODY
    assert next_trial(last, 3, lived=1.1).suspects == (last[0],)
    assert next_trial(left(100), 2, lived=0.9) == NOBODY
    assert len(next_trial(left(100), 2, lived=1.1).suspects) == 1


def test_what_nobody_died_of_and_what_nobody_will_try_waits_for_nothing() -> None:
    free = left(2, 1) + left(2, 4, begin=10)
    trial = next_trial(left(50, begin=20) + free, 3, lived=0)
    assert (list(trial.suspects), trial.apart, trial.exposes) == (free, False, 0)
    assert next_trial([], 3, lived=2) == NOBODY


class Life:
    """Processes that take what was left, as the source does, until ``ends`` says that they were killed."""

    def __init__(self, entries: int, max_deliveries: int) -> None:
        self.deliveries = dict.fromkeys((f"{n}-0" for n in range(entries)), 1)
        self.exposed: dict[str, int] = {}
        self.letters: list[str] = []
        self.max = max_deliveries

    def lived(self, poison: set[str], trials: float) -> bool:
        """A life that is killed in the last of so many trials; whether something it tried ended it before."""
        while trials > 0:
            exposed = self.exposed.get
            waiting = [Suspect(NO_GROUP, i, n + 1, exposed(i, 0)) for i, n in self.deliveries.items()]
            trial = next_trial(waiting, self.max, lived=2)
            if not trial.suspects:
                return False
            trials -= 1
            tried = [suspect.id for suspect in trial.suspects]
            for suspect in trial.suspects:
                if self.deliveries[suspect.id] >= self.max:
                    self.letters.append(suspect.id)
                    del self.deliveries[suspect.id]
            tried = [id_ for id_ in tried if id_ in self.deliveries]
            if trial.exposes:
                self.exposed |= dict.fromkeys(tried, trial.exposes)
            else:
                self.deliveries |= {id_: self.deliveries[id_] + 1 for id_ in tried}
            if poison & set(tried):
                return True
            if trials <= 0:
                return False  # killed, for whatever reason, in the middle of this one
            for id_ in tried:
                del self.deliveries[id_]
        return False


@pytest.mark.parametrize("max_deliveries", [2, 3, 5])
@pytest.mark.parametrize(("entries", "companies"), [(5, 0), (12, 2), (60, 3), (500, 3)])
def test_what_ends_every_process_is_set_aside_alone_and_after_few_of_them(
    entries: int, companies: int, max_deliveries: int
) -> None:
    life = Life(entries, max_deliveries)
    ended = 1  # by having been read with all the others
    while life.lived({"3-0"}, float("inf")):
        ended += 1
    assert (life.letters, life.deliveries) == (["3-0"], {})
    # A company that was left counts for none of its members, so that many take some processes more.
    assert ended == max_deliveries + (companies if max_deliveries > 2 else 0)


def test_processes_that_are_killed_again_and_again_in_the_middle_of_something_lose_nobody() -> None:
    chance = random.Random(7)
    for _ in range(100):
        life = Life(300, 3)
        for _ in range(50):
            life.lived(set(), chance.randint(1, 40))
        assert (life.letters, life.deliveries) == ([], {})

"""What happens to messages whose writes are committed, and to those that a sink will never take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from enricher.engine.admission import UNKNOWN, Admission, counted_as
from enricher.engine.effects import DeadLetter
from enricher.engine.lanes import Lane, Step
from enricher.engine.pool_parts import Core
from enricher.engine.ports import Answer, Claimed, Refused, Write
from enricher.log import log


class Completion:
    """Counts what has left and lets it go; ``act`` takes the next step of a lane."""

    def __init__(self, core: Core, admission: Admission, act: Callable[[Lane, Step | None], None]) -> None:
        self._core = core
        self._admission = admission
        self._act = act

    def settle(self, batch: Sequence[Write], answers: Mapping[int, Answer]) -> None:
        """A batch is committed: count it and let its messages go."""
        stats, now_us = self._core.stats, self._core.clock()
        claimed = {id(batch[index]) for index, answer in answers.items() if isinstance(answer, Claimed)}
        lanes: defaultdict[Lane, int] = defaultdict(int)
        labels: defaultdict[tuple[str, str], int] = defaultdict(int)
        since_receipt: list[int] = []
        since_event: list[int] = []
        size = 0
        for write in batch:
            lane, delivery, label = write.owner, write.delivery, write.label
            if lane is not None and label != "dead":
                lanes[lane] += 1
            if delivery is None:
                continue
            if claimed and id(write) in claimed:
                label = "duplicate"
            route = delivery.route
            topic = UNKNOWN if route is None else route.topic
            labels[topic, label] += 1
            since_receipt.append(now_us - delivery.received_us)
            if label == "processed":
                if write.event_us:
                    since_event.append(now_us - write.event_us)
            elif label == "dead":
                stats.dead[topic, _stage(write)] += 1
            size += write.body_size
            delivery.settled(label)
        for lane, number in lanes.items():
            step = lane.settled(number)
            if step is not None:
                self._act(lane, step)
        if since_receipt:
            self._admission.release(size, len(since_receipt))
        stats.histograms["commit"].record_all(since_receipt)
        stats.histograms["event"].record_all(since_event)
        for (topic, label), number in labels.items():
            stats.count(topic, label, number)
        if log.debugging():
            _tell(batch, answers)

    def refuse(self, write: Write, answer: Refused) -> None:
        """A sink will never take ``write``: its message is set aside, its lane's state loaded anew."""
        lane: Lane | None = write.owner
        if write.label == "dead":
            self._lose(write, answer)
        elif write.delivery is None:
            self._refuse_effects(write, lane, answer)
        else:
            if lane is not None:
                if write.folded and not lane.show_again:
                    lane.group.commit_group.unfinished += 1  # until it is shown again
                self._act(lane, lane.refused(folded=write.folded))
            dead = self._core.pipeline.dead(write.delivery, "commit", answer, effects=write.failed)
            self._core.writer.submit(dead)

    def _refuse_effects(self, write: Write, lane: Lane | None, answer: Refused) -> None:
        """Effects that are no message's own: those that are not to blame are written each for itself.

        The state stays: it is right, only this picture of it cannot be shown.
        """
        if len(write.effects) > 1:
            if lane is not None:
                lane.sent(len(write.effects) - 1)
            for effect in write.effects:
                part = Write((effect,), owner=lane, label=write.label, stateful=write.stateful)
                self._core.writer.submit(part)
            return
        if lane is not None:
            self._act(lane, lane.settled())
        if write.failed:
            self._core.writer.submit(Write(write.failed))
        self._core.stats.counters["refused_effects"] += 1
        log.error(
            "effect_refused",
            effect=type(write.effects[0]).__name__,
            key=None if lane is None else lane.key,
            reason=answer.reason,
            total=self._core.stats.counters["refused_effects"],
        )

    @staticmethod
    def is_stale(owner: Lane | None) -> bool:
        """Whether a state holds what was refused, and will be loaded anew."""
        return owner is not None and owner.stale

    def _lose(self, write: Write, answer: Refused) -> None:
        """Let go of a dead letter that its store refuses: asking again would never end."""
        delivery = write.delivery
        assert delivery is not None  # noqa: S101  a dead letter is always somebody's
        log.error(
            "dead_letter_refused",
            topic=delivery.topic,
            key=delivery.key,
            reason=answer.reason,
            body=delivery.body[:1000],
        )
        self._core.stats.count(counted_as(delivery), "lost")
        self._admission.release(write.body_size)
        delivery.settled("lost")


def _stage(write: Write) -> str:
    """At which stage the message of a dead letter failed."""
    return next(effect.stage for effect in write.effects if isinstance(effect, DeadLetter))


def _tell(batch: Sequence[Write], answers: Mapping[int, Answer]) -> None:
    """A debug line per message, under the names that the log's readers look for."""
    for index, write in enumerate(batch):
        delivery = write.delivery
        if delivery is None:
            continue
        if write.label == "dead":
            for letter in write.effects:
                if isinstance(letter, DeadLetter):
                    log.debug(
                        "task_failed", task_id=letter.task_id, task_name=letter.task_name, error=letter.error
                    )
        elif delivery.route is not None and write.label != "deferred":
            twice = write.label == "duplicate" or isinstance(answers.get(index), Claimed)
            log.debug(delivery.route.events[twice], topic=delivery.topic, key=delivery.key)

"""The time left, by a clock that the test sets."""

from __future__ import annotations

import pytest

from robusteval.cli.schedule import Planned, Schedule


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def of(*planned: Planned) -> tuple[Schedule, Clock]:
    clock = Clock()
    return Schedule(planned, clock), clock


def work(schedule: Schedule, clock: Clock, stage: str, seconds: float) -> None:
    schedule.start(stage, stage, 0, 10)
    clock.now += seconds
    schedule.end()


def test_what_was_planned_is_left_until_something_is_measured() -> None:
    schedule, _ = of(Planned("m", "a", 2.0), Planned("m", "b", 3.0))
    assert schedule.left() == 5.0
    assert schedule.share() == 0.0


def test_a_stage_takes_as_much_longer_than_planned_as_those_before_it() -> None:
    schedule, clock = of(Planned("m", "a", 2.0), Planned("m", "b", 3.0))
    schedule.begins("m", ["a", "b"])
    work(schedule, clock, "a", 4.0)
    assert schedule.left() == 6.0
    assert schedule.share() == pytest.approx(0.4)


def test_the_next_model_takes_what_this_one_took() -> None:
    schedule, clock = of(Planned("m", "a", 2.0), Planned("n", "a", 99.0))
    schedule.begins("m", ["a"])
    work(schedule, clock, "a", 4.0)
    assert schedule.left() == 4.0


def test_a_running_stage_says_by_its_images_how_long_it_takes() -> None:
    schedule, clock = of(Planned("m", "a", 2.0))
    schedule.begins("m", ["a"])
    schedule.start("a", "a", 0, 10)
    clock.now += 1.0
    assert schedule.left() == 1.0
    schedule.advance(1)
    assert schedule.left() == 9.0
    clock.now += 20.0
    schedule.advance(9)
    assert schedule.left() == 0.0


def test_of_what_nobody_planned_the_mean_of_the_others_is_left() -> None:
    schedule, clock = of()
    schedule.begins("m", ["a", "b", "c"])
    assert schedule.left() is None
    work(schedule, clock, "a", 4.0)
    assert schedule.left() == 8.0


def test_what_was_there_or_failed_says_nothing_of_the_others() -> None:
    schedule, clock = of(Planned("m", "a", 2.0), Planned("m", "b", 3.0), Planned("m", "c", 1.0))
    schedule.begins("m", ["a", "b", "c"])
    schedule.start("a", "a", 10, 10)
    schedule.end()
    schedule.start("b", "b", 0, 10)
    clock.now += 30
    schedule.end(worked=False)
    assert schedule.left() == 1.0
    assert (schedule.finished, schedule.total) == (2, 3)

"""Silence: nothing more at the broker, and nothing new for a while in which we listened."""

import pytest

from ingestion.consuming.silence import Silence

ONE, OTHER = ("iiot.one.telemetry.v1", 0), ("iiot.one.telemetry.v1", 1)


@pytest.fixture
def silence() -> Silence:
    found = Silence(10.0)
    for place in (ONE, OTHER):
        found.broken(place, 100.0)
        found.ended(place)
    return found


def test_both_are_silent_only_after_the_time_out(silence: Silence):
    assert silence.over(110.0) == []
    assert silence.over(110.1) == [ONE, OTHER]


def test_what_is_read_breaks_the_silence_of_its_partition_until_its_end_is_seen_again(silence: Silence):
    silence.broken(ONE, 105.0)
    assert silence.over(200.0) == [OTHER]
    silence.ended(ONE)
    assert silence.over(114.9) == [OTHER]
    assert silence.over(115.1) == [ONE, OTHER]


def test_a_partition_whose_end_was_never_seen_is_not_silent():
    silence = Silence(10.0)
    silence.broken(ONE, 100.0)
    assert silence.over(1e6) == []


def test_time_in_which_nobody_listened_does_not_count(silence: Silence):
    silence.listening_anew(150.0)
    assert silence.over(159.9) == []
    assert silence.over(160.1) == [ONE, OTHER]


def test_what_is_no_longer_ours_is_neither_silent_nor_remembered(silence: Silence):
    silence.forget(ONE)
    silence.ended(ONE)
    silence.listening_anew(150.0)
    assert silence.over(1e6) == [OTHER]
    silence.broken(ONE, 200.0)
    assert silence.over(1e6) == [OTHER]

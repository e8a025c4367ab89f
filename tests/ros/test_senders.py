"""Two nodes that send one arm's joint states are told from one that is slow, jumps a number or is started anew."""

from __future__ import annotations

import numpy as np

from skimo_ros.senders import SenderWatch

STILL = np.zeros(7)


def test_one_sender_whose_messages_are_lost_is_one() -> None:
    watch = SenderWatch()
    for k in range(1, 200):
        watch.note(10 * k, 0.1 * k, STILL + 0.001 * k, 0.1 * k)
        assert not watch.several(0.1 * k)


def test_a_driver_that_is_started_anew_is_still_one() -> None:
    watch = SenderWatch()
    for k in range(1, 60):
        watch.note(k % 30, 0.1 * k, STILL, 0.1 * k)
        assert not watch.several(0.1 * k)


def test_two_that_number_their_own_messages_are_found_at_the_second_turn() -> None:
    watch = SenderWatch()
    for number, now_s in ((500, 0.0), (3, 0.01), (501, 0.02)):
        watch.note(number, now_s, STILL, now_s)
        assert not watch.several(now_s)
    watch.note(4, 0.03, STILL, 0.03)
    assert watch.several(0.03)
    assert not watch.several(10.0)
    watch.clear()
    assert not watch.several(0.03)


def test_without_numbers_positions_that_no_arm_can_make_give_them_away() -> None:
    watch = SenderWatch()
    for k in range(4):
        watch.note(None, 0.01 * k, STILL + 0.3 * (k % 2), 0.01 * k)
    assert watch.several(0.03)
    watch.clear()
    for k in range(100):
        watch.note(None, 0.01 * k, STILL + 0.02 * k, 0.01 * k)
        assert not watch.several(0.01 * k)
    watch.clear()
    for k in range(4):
        watch.note(None, 0.01 * k, STILL + (np.nan if k % 2 else 0.0), 0.01 * k)
    assert watch.several(0.03)

"""The queue between decode and detect: bounded in bytes, never stuck."""

from __future__ import annotations

import threading
import time

from worker.analysis.byte_queue import ByteQueue


def test_items_come_out_in_order_and_an_empty_queue_returns_none():
    items = ByteQueue(100)
    for number in range(5):
        assert items.put(number, 10)
    assert [items.get(0.01) for _ in range(6)] == [0, 1, 2, 3, 4, None]


def test_one_item_larger_than_the_bound_still_fits():
    items = ByteQueue(100)
    assert items.put("huge", 10_000)
    assert items.get(0.01) == "huge"


def test_a_full_queue_makes_the_writer_wait_until_there_is_room():
    items = ByteQueue(100)
    items.put("first", 80)
    written = threading.Event()
    thread = threading.Thread(target=lambda: (items.put("second", 80), written.set()))
    thread.start()
    time.sleep(0.05)
    assert not written.is_set()
    assert items.get(1) == "first"
    assert written.wait(2)
    assert items.get(1) == "second"
    thread.join()


def test_events_without_pixels_pass_a_full_queue():
    items = ByteQueue(10)
    items.put("frame", 10)
    assert items.put("end", 0)


def test_closing_wakes_the_writer_and_refuses_further_items():
    items = ByteQueue(10)
    items.put("first", 10)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(items.put("second", 10)))
    thread.start()
    time.sleep(0.05)
    items.close()
    thread.join(2)
    assert answers == [False]
    assert not items.put("third", 1)

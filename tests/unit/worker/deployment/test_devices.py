"""Processes of one worker share its host's GPUs."""

from __future__ import annotations

import pytest

from worker.deployment import devices


@pytest.mark.parametrize(
    ("gpus", "name", "number", "expected"),
    [
        (0, "auto", 3, "auto"),
        (1, "auto", 3, "auto"),
        (4, "auto", 0, "cuda:0"),
        (4, "auto", 3, "cuda:3"),
        (4, "auto", 6, "cuda:2"),
        (4, "cpu", 1, "cpu"),
        (4, "cuda:1", 3, "cuda:1"),
    ],
)
def test_each_process_takes_a_gpu_in_turn_unless_one_is_named(monkeypatch, gpus, name, number, expected):
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: gpus)
    assert devices.device_of_process(name, number) == expected

"""Frames that stay on screen: a slide counts for as long as it is shown, frames of a constant rate count one step."""

import numpy as np
import pytest

from worker.analysis.tracking.holds import DEFAULT_STEP_SECONDS, Holds


@pytest.mark.parametrize(
    ("holds", "step", "screen", "pauses", "steps"),
    [
        ([0.5, 0.48, 0.52], 0.5, [0.5, 0.48, 0.52], [0, 0, 0], [1, 1, 1]),
        ([0.033], 0.5, [0.033], [0], [1]),
        ([10.0, 0.5], 0.5, [10.0, 0.5], [9.5, 0], [20, 1]),
        ([0.7, 0.75, 0.8], 0.5, [0.7, 0.75, 0.8], [0, 0, 0.3], [1, 1, 1.6]),
        ([60.0], None, [60.0], [60 - DEFAULT_STEP_SECONDS], [60 / DEFAULT_STEP_SECONDS]),
        ([0.04, 0.04], None, [0.04, 0.04], [0, 0], [1, 1]),
        ([None, None], 0.5, [0.5, 0.5], [0, 0], [1, 1]),  # rows stored without a hold
        ([None, 0.0], None, [0, 0], [0, 0], [1, 1]),
        ([], 0.5, [], [], []),
    ],
)
def test_holds_become_pauses_and_steps(holds, step, screen, pauses, steps):
    of = Holds.of(np.array(holds, np.float64), step)
    assert of.screen_seconds == pytest.approx(screen)
    assert of.pause_seconds == pytest.approx(pauses)
    assert of.steps == pytest.approx(steps)
    assert of[np.zeros(0, np.int64)].steps.shape == (0,)

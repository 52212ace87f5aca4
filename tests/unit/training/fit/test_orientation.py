"""Training the orientation model: it learns, it goes on exactly, it refuses another run."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from training.data.turned_crops import TurnedCrops
from training.errors import DataError, TrainingError
from training.fit.orientation import OrientationOptions, OrientationRun, score_orientation

OPTIONS = OrientationOptions(steps=6, batch=16, look_every=2)


@pytest.fixture(autouse=True)
def one_thread():
    """Compute on one thread: on a busy machine, small steps cost ten times as much on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def patches(count, seed=0):
    """Drawn faces: two dark eyes above a dark mouth on a bright skin."""
    random = np.random.default_rng(seed)
    found = random.integers(150, 200, (count, 160, 160))
    found[:, 74:81, 66:74] = found[:, 74:81, 87:95] = 20
    found[:, 98:103, 71:89] = 40
    return found.astype(np.uint8)


def faces(count=12, seed=0):
    """The same faces as the detector cuts them: upright ones and some that stand on their heads."""
    drawn = patches(count, seed)
    upright = np.ascontiguousarray(drawn[:, 52:108, 52:108])
    return TurnedCrops(drawn, np.concatenate((upright, upright[:, ::-1])), np.arange(2 * count) < count)


def run(folder, options=OPTIONS, until=None):
    found = OrientationRun(faces(), faces(5, seed=1), folder, options)
    found.run(until)
    return found


def log(folder):
    lines = csv.DictReader((folder / "log.csv").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


def test_turned_faces_are_noticed_after_some_steps(tmp_path):
    found = run(tmp_path, replace(OPTIONS, steps=60, batch=32, look_every=10))
    losses = [float(line["loss"]) for line in log(tmp_path)]
    assert losses[-1] < 0.5 * losses[0]
    assert found.score().detected == 0
    assert found.score().drawn < 0.3
    own = torch.from_numpy(faces(5, seed=1).crops)[:, None]
    assert (found.model(own) > 0).tolist() == [True] * 5 + [False] * 5


@pytest.mark.parametrize("stop", [2, 3])
def test_an_interrupted_run_goes_on_exactly(tmp_path, stop):
    whole = run(tmp_path / "whole")
    run(tmp_path / "parts", until=stop)
    again = run(tmp_path / "parts")
    assert again.step == 6
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert log(tmp_path / "parts")[-1] == log(tmp_path / "whole")[-1]


def test_a_finished_run_only_judges_again(tmp_path):
    first = run(tmp_path)
    before = log(tmp_path)
    again = run(tmp_path)
    assert again.score() == first.score()
    assert log(tmp_path) == before


def test_another_run_is_not_gone_on_with(tmp_path):
    run(tmp_path, until=2)
    for train, options in ((faces(), replace(OPTIONS, learning_rate=1e-4)), (faces(seed=5), OPTIONS)):
        with pytest.raises(TrainingError, match="another run"):
            OrientationRun(train, faces(5), tmp_path, options)


def test_no_crops_are_refused(tmp_path):
    with pytest.raises(DataError, match="take more images"):
        OrientationRun(TurnedCrops.cat([]), faces(), tmp_path, OPTIONS)


def test_rates_are_those_of_torchs_one_cycle():
    options = OrientationOptions(steps=50)
    optimiser = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, total_steps=50)
    for step in range(50):
        (group,) = optimiser.param_groups
        assert options.rate(step) == pytest.approx(group["lr"])
        assert options.momentum(step) == pytest.approx(group["betas"][0])
        optimiser.step()
        if step < 49:
            schedule.step()


class Brightness(nn.Module):
    """Takes bright crops for upright ones."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, crops):
        return crops.float().mean((1, 2, 3)) * self.weight


def test_the_score_is_taken_where_few_upright_crops_are_lost():
    levels = np.array([*range(100, 200), *range(5), *range(150, 155)], dtype=np.uint8)
    crops = np.broadcast_to(levels[:, None, None], (110, 56, 56)).copy()
    held_out = TurnedCrops(np.full((100, 160, 160), 220, dtype=np.uint8), crops, np.arange(110) < 100)
    found = score_orientation(Brightness(), held_out)
    assert found.threshold == pytest.approx(100.995, abs=0.01)  # 0.5 % of 200 upright crops
    assert found.detected == 0.5
    assert found.drawn == 1.0

"""Mean responses and regions of a release, and their figure."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models.branches import Branch, BranchSpec
from models.manifest import DETECTOR_FILE, TRUNK_FILE, branch_file, read_manifest
from models.release import DEFAULT, write_release
from models.trunks.regions import RegionSpec
from models.trunks.registry import create_trunk
from models.weights import read_weights
from tests.unit.training.conftest import OneFaceDetector
from training.cli import regions as regions_command
from training.cli.main import app
from training.data.face_sets import CELEBA_ATTRIBUTES
from training.errors import RecipeError
from training.evaluate.report.plots import save
from training.evaluate.report.region_figure import RegionPanel, region_figure
from training.releases.describe import describe_release
from training.releases.region_maps import MIN_AVERAGED, region_maps, task_with_regions
from training.train import TrainingContext

TRUNK, SIDE = "sface-w0.25-r32", 32
LABELS = ("bald", "hat", "smile")
SPEC = BranchSpec(
    task="attributes",
    kind="multilabel",
    labels=LABELS,
    depths=("conv_7",),
    regions=RegionSpec(channels=4, hidden=1, cells=2, width=2),
    pool=1,
    thresholds=(0.5,) * 3,
)
COUNT = MIN_AVERAGED + 21  # a last, smaller batch


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(0)
    return create_trunk(TRUNK).eval().requires_grad_(requires_grad=False)


@pytest.fixture
def branch(trunk):
    torch.manual_seed(1)
    branch = Branch(SPEC, trunk.layout).eval()
    branch.regions.boxes.copy_(torch.tensor([[0, 0, 32, 32], [4, 8, 20, 24], [8, 8, 16, 30]]))
    return branch


def faces(count):
    random = np.random.default_rng(0)
    soft = (random.random((count, 3)) < 0.5).astype(np.float32)
    soft[:, 1] = 0
    return random.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8), soft


def test_responses_are_averaged_over_the_faces_with_a_label(trunk, branch):
    pixels, soft = faces(COUNT)
    found = region_maps(trunk, branch, pixels, soft)
    with torch.no_grad():
        maps = trunk.forward_intermediates(torch.from_numpy(pixels), ("conv_7",))["conv_7"]
        responses = branch.regions.responses(maps).sigmoid()
    for label in (0, 2):
        expected = responses[soft[:, label] == 1, label].mean(0).numpy()
        assert found.responses[label] == pytest.approx(expected, abs=1e-5)
    assert np.isnan(found.responses[1]).all()
    assert found.face == pytest.approx(pixels.mean(axis=0).transpose(1, 2, 0), abs=1e-3)
    assert found.smallest(2) == ["smile", "bald"]
    assert "| hat | 4 | 8 | 20 | 24 |" in found.table()


def test_the_mean_of_few_faces_is_refused(trunk, branch):
    with pytest.raises(RecipeError, match="choose another split"):
        region_maps(trunk, branch, *faces(MIN_AVERAGED - 1))


def test_a_release_without_regions_is_refused():
    with pytest.raises(RecipeError, match="no branch with regions"):
        task_with_regions(read_manifest(DEFAULT))


def test_the_figure_has_the_box_of_a_region(tmp_path):
    """A response that lies in one place brightens that place, and the box is drawn around its region."""
    response = np.zeros((4, 4), np.float32)
    response[1, 2] = 1
    panel = RegionPanel("Wearing_Hat", response, np.array([14, 6, 30, 22], np.float32))
    path = save(
        region_figure(np.full((SIDE, SIDE, 3), 128, np.float32), [panel], first=4.0, step=8.0), tmp_path / "a.png"
    )
    drawn = cv2.imread(str(path)).astype(int)
    blue, green, red = drawn.transpose(2, 0, 1)
    cyan = np.argwhere((blue > 220) & (green > 220) & (red < 60))
    top, left = cyan.min(axis=0)
    bottom, right = cyan.max(axis=0)
    assert bottom - top == pytest.approx(right - left, abs=4)
    middle = drawn[(top + bottom) // 2, (left + right) // 2]
    assert middle.sum() > drawn[bottom + (bottom - top) // 4, left - (right - left) // 4].sum() + 60


@pytest.fixture(scope="module")
def release(tmp_path_factory, trunk):
    """Return a release with regions of CelebA's attributes on a small trunk with random weights."""
    spec = replace(SPEC, labels=CELEBA_ATTRIBUTES, thresholds=(0.5,) * 40)
    folder = tmp_path_factory.mktemp("release") / "with-regions"
    base = replace(read_manifest(DEFAULT).on_trunk(TRUNK), name="with-regions", branches=(spec,))
    weights = {
        DETECTOR_FILE: read_weights(DEFAULT / DETECTOR_FILE),
        TRUNK_FILE: trunk.state_dict(),
        branch_file("attributes"): Branch(spec, trunk.layout).state_dict(),
    }
    write_release(folder, base, weights)
    return folder


def test_describe_names_regions(release):
    found = describe_release(release)
    assert "| attributes | conv_7 | 40 regions |" in found.table()
    assert found.plain()["branches"][0]["regions"]["cells"] == 2


def test_the_command_draws_twelve_attributes(release, trunk, tmp_path, monkeypatch):
    def load_context(release, data, cache, *, smallest_search):
        return TrainingContext(trunk, OneFaceDetector(), data, cache, release)

    monkeypatch.setattr(regions_command, "load_context", load_context)
    folder = tmp_path / "data" / "celeba10k" / "images"
    folder.mkdir(parents=True)
    lines = [f"file,identity,split,official_partition,{','.join(CELEBA_ATTRIBUTES)}"]
    for number in range(MIN_AVERAGED):
        canvas = np.full((48, 48, 3), 60 + number, np.uint8)
        cv2.circle(canvas, (24, 24), 14, (90, 150, 200), -1)
        assert cv2.imwrite(str(folder / f"{number}.png"), canvas)
        lines.append(f"{number}.png,{number},test,2,{','.join(str((number + place) % 2) for place in range(40))}")
    (folder.parent / "attributes.csv").write_text("\n".join(lines) + "\n")
    options = ["--data", str(tmp_path / "data"), "--cache", str(tmp_path / "cache"), "--release", str(release)]
    out = tmp_path / "regions.png"
    found = CliRunner().invoke(app, ["regions", *options, "--out", str(out)])
    assert found.exit_code == 0, found.output
    assert "| Bald | 0 | 0 | 32 | 32 |" in found.output
    assert cv2.imread(str(out)).shape[0] > 400
    with pytest.raises(RecipeError, match="no labels Beard"):
        CliRunner().invoke(app, ["regions", *options, "--out", str(out), "--label", "Beard"], catch_exceptions=False)

"""A trained orientation model in a release, and that it goes along with the detector's file."""

from __future__ import annotations

import pytest
import torch

from models.detection.detector import ORIENTATION
from models.detection.orientation import OrientationNet
from models.manifest import DETECTOR_FILE, read_manifest
from models.release import DEFAULT, load_release
from models.trunks.registry import create_trunk
from models.weights import read_weights
from training.evaluate.evaluate import Evaluation
from training.releases.export import add_metrics, export, write_trunk
from training.releases.import_trunk import TrunkWeights, import_trunk
from training.releases.orientation import export_orientation

NAME = "face24-w0.25-r32"
SETS = ("lfw", "utkface")


@pytest.fixture(scope="module")
def orientation_model():
    torch.manual_seed(3)
    return OrientationNet().eval()


@pytest.fixture(scope="module")
def written(orientation_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("turned")
    export_orientation("turned", DEFAULT, orientation_model, folder, SETS)
    return folder


def crops():
    return torch.randint(0, 256, (5, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_release_gives_the_models_logits(written, orientation_model):
    release = load_release(written, device="cpu", heads=frozenset(), identity=False)
    expected, shipped = orientation_model(crops()), load_release(device="cpu", heads=frozenset()).uprightness(crops())
    assert (release.uprightness(crops()) - expected).abs().max() < 1e-3
    assert (shipped - expected).abs().max() > 0.1


def test_all_else_is_the_bases(written):
    before, after = read_manifest(DEFAULT), read_manifest(written)
    assert {name for name in before.files if before.files[name] != after.files[name]} == {DETECTOR_FILE}
    assert after.fingerprint != before.fingerprint
    assert (after.name, after.branches, after.metrics) == ("turned", before.branches, {})
    mine, theirs = read_weights(written / DETECTOR_FILE), read_weights(DEFAULT / DETECTOR_FILE)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine if not key.startswith(ORIENTATION))


def test_the_manifest_names_data_and_terms(written):
    manifest = read_manifest(written)
    assert manifest.data["orientation"]["source"] == "lfw, utkface"
    assert "non-commercial research" in manifest.data["orientation"]["terms"]
    assert "see data" in manifest.licences["orientation"]
    assert manifest.licences["detector"] == read_manifest(DEFAULT).licences["detector"]


def test_a_release_may_be_written_in_place(written, orientation_model, tmp_path):
    export_orientation("turned", DEFAULT, orientation_model, tmp_path, SETS)
    first = read_manifest(tmp_path)
    export_orientation("turned", tmp_path, orientation_model, tmp_path, SETS)
    assert read_manifest(tmp_path) == first == read_manifest(written)


def by_export(base, target, _monkeypatch):
    export("mixed", base, [], target)


def by_training_a_trunk(base, target, _monkeypatch):
    write_trunk(create_trunk(NAME), NAME, base, target)


def by_a_published_trunk(base, target, monkeypatch):
    weights = create_trunk(NAME).state_dict()
    monkeypatch.setattr(
        "training.releases.import_trunk.read_published", lambda name, source: TrunkWeights(weights, "MIT")
    )
    import_trunk(NAME, base, base, target)


def by_new_figures(base, target, _monkeypatch):
    for file in base.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    add_metrics(target, Evaluation("x", "0", "test", (), ()))


@pytest.mark.parametrize("way", [by_export, by_training_a_trunk, by_a_published_trunk, by_new_figures])
def test_it_goes_wherever_the_detector_goes(way, written, tmp_path, monkeypatch):
    way(written, tmp_path, monkeypatch)
    before, after = read_manifest(written), read_manifest(tmp_path)
    assert after.files[DETECTOR_FILE] == before.files[DETECTOR_FILE]
    assert after.licences["orientation"] == before.licences["orientation"]
    assert after.data["orientation"] == before.data["orientation"]
    release = load_release(tmp_path, device="cpu", heads=frozenset(), identity=False)
    assert release.detector.uprightness(crops()).isfinite().all()

"""Whether a crop shows an upright face."""

from __future__ import annotations

import pytest
import torch

from models.detection.detector import ORIENTATION
from models.detection.finding import Search
from models.detection.orientation import SIDE, OrientationNet
from models.errors import WeightsError
from models.manifest import DETECTOR_FILE, read_manifest
from models.release import load_release, write_release
from models.weights import read_weights

SURE = 3.0


@pytest.fixture(scope="module")
def crop(release, photo):
    """(1, 3, 112, 112): the astronaut's face."""
    found = release.detector.detect(photo)
    return release.align(photo, found)


@pytest.fixture
def plain(folder):
    """The shipped release without the network that tells upright crops."""
    manifest = read_manifest(folder)
    weights = {file: read_weights(folder / file) for file in manifest.files}
    detector = weights[DETECTOR_FILE]
    weights[DETECTOR_FILE] = {key: detector[key] for key in detector if not key.startswith(ORIENTATION)}
    assert len(weights[DETECTOR_FILE]) < len(detector)
    write_release(folder, manifest, weights)
    return load_release(folder, device="cpu")


@pytest.mark.parametrize("side", [SIDE, 2 * SIDE, 5 * SIDE])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_one_logit_a_crop_of_any_multiple_of_its_side(count, side):
    crops = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    assert OrientationNet().eval()(crops).shape == (count,)


def test_weights_and_products_are_as_few_as_its_docstring_says():
    assert sum(weight.numel() for weight in OrientationNet().parameters()) == pytest.approx(230_000, rel=0.03)


@torch.no_grad()
def test_brightness_and_contrast_hardly_matter(crop):
    torch.manual_seed(0)
    network = OrientationNet().eval()
    crops = crop.float().clamp(40, 200)
    assert (network(crops) - network(crops * 0.6 + 30)).abs().max() < 0.05


@torch.no_grad()
def test_plain_crops_are_not_amplified_to_noise():
    grey = OrientationNet()._normalised(torch.full((2, 3, SIDE, SIDE), 97.0))
    assert grey.abs().max() < 1e-3


def test_the_upright_portrait_is_sure_and_the_turned_one_is_not(release, crop):
    upright = release.uprightness(crop)
    assert upright.shape == (1,)
    assert upright.dtype == torch.float32
    assert float(upright) > SURE
    assert float(release.uprightness(crop.flip(3))) > SURE
    for quarters in (1, 2, 3):
        assert float(release.uprightness(crop.rot90(quarters, (2, 3)))) < 0


def test_no_crop_has_no_logit(release):
    assert release.uprightness(torch.zeros(0, 3, 112, 112, dtype=torch.uint8)).shape == (0,)


def test_crops_do_not_depend_on_each_other(release, crop):
    crops = torch.cat([crop.rot90(quarters, (2, 3)) for quarters in range(4)])
    alone = torch.cat([release.uprightness(one[None]) for one in crops])
    assert (release.uprightness(crops) - alone).abs().max() < 1e-3


def test_a_release_without_the_network_knows_nothing_and_finds_faces_as_before(plain, release, photo, crop):
    assert plain.uprightness(crop).tolist() == [float("inf")]
    assert plain.uprightness(crop[:0]).shape == (0,)
    for search in (Search(thorough=True), Search()):
        found, expected = plain.find(photo, search), release.find(photo, search)
        assert torch.equal(found.detections.boxes, expected.detections.boxes)
        assert found.quality.dropped == expected.quality.dropped
        assert None in found.quality.dropped


def test_a_release_with_half_of_the_network_is_refused(folder):
    manifest = read_manifest(folder)
    weights = {file: read_weights(folder / file) for file in manifest.files}
    del weights[DETECTOR_FILE][f"{ORIENTATION}output.bias"]
    write_release(folder, manifest, weights)
    with pytest.raises(WeightsError, match=r"orientation lacks output\.bias"):
        load_release(folder, device="cpu")

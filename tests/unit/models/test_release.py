from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from models import manifest as manifests
from models.branches import Branch, BranchSpec
from models.errors import ModelError, ReleaseError, WeightsError
from models.manifest import DETECTOR_FILE, FILE, TRUNK_FILE, Manifest, branch_file, read_manifest
from models.release import DEFAULT, load_heads, load_model, load_release, write_release
from models.trunks.registry import create_trunk
from models.weights import load_into, read_weights, sha256_of

SPEC = BranchSpec(task="mood", kind="softmax", labels=("x", "y"), depths=("conv_9",), pool=2, hidden=3, abstain=0.7)


def kept() -> dict[str, dict[str, torch.Tensor]]:
    return {name: read_weights(DEFAULT / name) for name in (DETECTOR_FILE, TRUNK_FILE)}


def test_the_shipped_release_describes_itself(release):
    manifest = release.manifest
    assert manifest.files == {path.name: sha256_of(path.read_bytes()) for path in DEFAULT.glob("*.safetensors")}
    assert set(manifest.licences) >= {"detector", "trunk"}
    assert release.name == "default"
    assert len(release.weights_sha256) == len(release.fingerprint) == 64
    assert Manifest(**{f: getattr(manifest, f) for f in manifest.__slots__}) == manifest
    assert json.loads(manifest.to_json()) == json.loads((DEFAULT / FILE).read_text())


@pytest.mark.parametrize("name", sorted(path.name for path in DEFAULT.iterdir()))
@pytest.mark.parametrize("place", [0.0, 0.31, 0.77, 1.0])
def test_a_flipped_byte_is_refused(folder, name, place):
    data = bytearray((folder / name).read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (folder / name).write_bytes(data)
    if name == FILE and json.loads(data if _is_json(data) else "0") == json.loads((DEFAULT / FILE).read_text()):
        pytest.skip("this byte is white space")
    with pytest.raises(ModelError):
        load_release(folder, device="cpu")


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", sorted(path.name for path in DEFAULT.iterdir()))
def test_a_missing_or_cut_file_is_refused(folder, name):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError):
        load_release(folder, device="cpu")
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        load_release(folder, device="cpu")


def test_a_changed_threshold_is_refused(folder):
    text = (folder / FILE).read_text()
    (folder / FILE).write_text(text.replace('"threshold": 0.6', '"threshold": 0.1'))
    with pytest.raises(ReleaseError, match="changed"):
        load_release(folder, device="cpu")


def test_a_release_of_another_format_is_refused(folder):
    (folder / FILE).write_text('{"format": 2}')
    with pytest.raises(ReleaseError, match="format 2"):
        read_manifest(folder)


def test_a_written_release_is_read_back(tmp_path):
    branch = Branch(SPEC)
    manifest = replace(read_manifest(DEFAULT), name="tiny", branches=(SPEC,), metrics={"mood": {"accuracy": 0.5}})
    written = write_release(tmp_path / "new", manifest, kept() | {branch_file("mood"): branch.state_dict()})
    assert read_manifest(tmp_path / "new") == written
    release = load_release(tmp_path / "new", device="cpu")
    assert release.heads == ("mood",)
    assert release.labels("mood") == ("x", "y")
    assert release.threshold("mood") == 0.7
    assert write_release(tmp_path / "again", manifest, kept() | {branch_file("mood"): branch.state_dict()}) == written


def test_a_release_may_have_no_branch(tmp_path):
    write_release(tmp_path, Manifest(name="bare"), kept())
    release = load_release(tmp_path, device="cpu")
    assert release.heads == ()
    assert release.infer(torch.zeros(2, 3, 112, 112, dtype=torch.uint8)).embeddings.shape == (2, 128)


def test_weights_must_be_those_that_the_manifest_names(tmp_path):
    with pytest.raises(ReleaseError, match="expected"):
        write_release(tmp_path, replace(Manifest(name="x"), branches=(SPEC,)), kept())


def test_the_fingerprint_changes_with_everything_that_changes_rows():
    base = read_manifest(DEFAULT)
    assert base.fingerprint == replace(base, name="other", metrics={}, data={}).fingerprint
    assert base.fingerprint != replace(base, detection=replace(base.detection, threshold=0.5)).fingerprint
    assert base.fingerprint != base.with_files({DETECTOR_FILE: "0" * 64}).fingerprint
    assert base.weights_sha256 != base.with_files({DETECTOR_FILE: "0" * 64}).weights_sha256


def test_heads_can_be_switched_off(release):
    assert load_release(device="cpu", heads=frozenset()).heads == ()
    first = release.heads[0]
    one = load_release(device="cpu", heads=frozenset({first}))
    assert one.heads == (first,)
    assert one.weights_sha256 == release.weights_sha256
    with pytest.raises(ReleaseError, match="no head"):
        load_release(device="cpu", heads=frozenset({"shoe_size"}))
    with pytest.raises(ReleaseError, match="switched on"):
        one.labels("shoe_size")


def test_a_head_that_is_off_is_not_read(release, folder):
    task = release.heads[0]
    (folder / branch_file(task)).unlink()
    assert task not in load_release(folder, device="cpu", heads=frozenset(release.heads[1:])).heads


@pytest.fixture(scope="module")
def crops(release, photo):
    """Return 13 crops of one face, each of another brightness."""
    crop = release.align(photo, release.detector.detect(photo))[:1].float()
    return torch.cat([crop * (1 - 0.03 * step) for step in range(13)]).to(torch.uint8)


@pytest.mark.parametrize("identity", [True, False])
def test_some_heads_without_the_detector_give_the_bits_of_the_whole_release(release, crops, folder, identity):
    (folder / DETECTOR_FILE).unlink()
    for file in set(release.manifest.files) - {TRUNK_FILE, DETECTOR_FILE, branch_file("age"), branch_file("emotion")}:
        (folder / file).unlink()
    some = load_model(folder, device="cpu", heads=frozenset({"age", "emotion"}), identity=identity)
    assert set(some.tasks) == {"age", "emotion"}
    for count in (0, 1, 13):
        whole, found = release.infer(crops[:count]), some.infer(crops[:count])
        assert not identity or torch.equal(found.embeddings, whole.embeddings)
        for task in ("age", "emotion"):
            assert torch.equal(found.heads[task].codes, whole.heads[task].codes)


def test_embedding_heads_are_loaded_without_trunk_and_detector(tmp_path):
    torch.manual_seed(4)
    specs = (SPEC, replace(SPEC, task="smile", depths=("embedding",)))
    manifest = replace(read_manifest(DEFAULT), name="tiny", branches=specs, metrics={})
    weights = {branch_file(spec.task): Branch(spec).state_dict() for spec in specs}
    write_release(tmp_path, manifest, kept() | weights)
    whole = load_release(tmp_path, device="cpu").infer(torch.arange(5 * 3 * 112 * 112).view(5, 3, 112, 112).byte())
    for name in (DETECTOR_FILE, TRUNK_FILE, branch_file("mood")):
        (tmp_path / name).unlink()
    found = load_heads(tmp_path, frozenset({"smile"}), device="cpu").infer(whole.embeddings)
    assert (found["smile"].codes - whole.heads["smile"].codes).abs().max() <= 1
    with pytest.raises(WeightsError, match=branch_file("mood")):
        load_heads(tmp_path, frozenset({"mood"}), device="cpu")
    with pytest.raises(ReleaseError, match="no head grin"):
        load_heads(tmp_path, frozenset({"grin"}), device="cpu")


def test_heads_that_read_maps_are_refused_where_only_embeddings_are():
    with pytest.raises(ReleaseError, match="'age' reads conv_14"):
        load_heads(None, frozenset({"age"}), device="cpu")


@pytest.mark.parametrize("device", ["toaster", "cuda:99x"])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ReleaseError, match="device"):
        load_release(device=device)


def test_weights_of_another_model_are_refused():
    layer = torch.nn.Linear(3, 2)
    for tensors, problem in (
        ({"weight": torch.zeros(2, 3)}, "lacks bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, "unknown x"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "shape"),
    ):
        with pytest.raises(WeightsError, match=problem):
            load_into(layer, tensors, "layer")


def test_a_release_may_stand_on_another_trunk(tmp_path, release, photo):
    torch.manual_seed(6)
    trunk = create_trunk("dlib29")
    spec = replace(SPEC, depths=("conv_21", "conv_29"), stages=((24, 2),))
    branch = Branch(spec, trunk.layout)
    manifest = replace(read_manifest(DEFAULT).on_trunk("dlib29"), name="light", branches=(spec,))
    weights = {DETECTOR_FILE: kept()[DETECTOR_FILE], TRUNK_FILE: trunk.state_dict()}
    write_release(tmp_path, manifest, weights | {branch_file("mood"): branch.state_dict()})
    light = load_release(tmp_path, device="cpu")
    found = light.detector.detect(photo)
    crops = light.align(photo, found)
    assert crops.shape == (len(found), 3, 150, 150)
    outputs = light.infer(crops)
    assert outputs.embeddings.shape == (len(found), 128)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(trunk.float()(crops))
    assert ((outputs.embeddings * expected).sum(1) > 0.99).all()
    assert outputs.heads["mood"].probabilities.shape == (len(found), 2)
    # The quality of faces is the same, whichever crops the trunk takes.
    size = (photo.shape[2], photo.shape[3])
    theirs, ours = light.quality(found, crops, size), release.quality(found, release.align(photo, found), size)
    assert theirs.dropped == ours.dropped
    assert torch.allclose(theirs.scores, ours.scores, atol=0.05)


def test_a_manifest_that_contradicts_its_trunk_is_refused(tmp_path):
    base = read_manifest(DEFAULT)
    with pytest.raises(ReleaseError, match="cuts crops by"):
        write_release(tmp_path, replace(base, trunk="dlib29", branches=()), kept())
    with pytest.raises(ReleaseError, match="unknown depth 'conv_14'"):
        write_release(tmp_path, replace(base.on_trunk("dlib29"), branches=base.branches), kept())
    with pytest.raises(ReleaseError, match="expected one a task"):
        write_release(tmp_path, replace(base, branches=(base.branches[0], base.branches[0])), kept())
    with pytest.raises(ReleaseError, match="no trunk 'vgg'"):
        write_release(tmp_path, replace(base, trunk="vgg"), kept())


def test_a_manifest_without_a_trunk_means_sface(folder):
    content = json.loads((folder / FILE).read_text())
    for key in ("manifest_sha256", "trunk", "alignment"):
        del content[key]
    content = {"manifest_sha256": manifests.sha256_of_json(content), **content}
    (folder / FILE).write_text(json.dumps(content))
    expected = replace(read_manifest(DEFAULT), trunk="sface-2021dec")
    found = read_manifest(folder)
    assert found == expected
    assert found.fingerprint == expected.fingerprint


@pytest.mark.parametrize(("trunk_name", "depth"), [("face24-w0.25-r64", "conv22"), ("resnet18", "layer3")])
def test_relearnt_layers_with_batch_norm_are_part_of_the_one_pass(tmp_path, float32, trunk_name, depth):
    torch.manual_seed(8)
    trunk = create_trunk(trunk_name)
    layout = trunk.layout
    last = "bn320" if "bn320" in layout.maps else "layer4"
    spec = replace(SPEC, depths=(depth,), relearnt_to=last, pool=1)
    branch = Branch(spec, layout)
    for layer in (branch.head[0], branch.head[-1]):
        torch.nn.init.normal_(layer.weight, std=3)
    crops = torch.randint(0, 256, (5, 3, layout.side, layout.side), dtype=torch.uint8)
    crops[1:3] //= torch.tensor([2, 8], dtype=torch.uint8)[:, None, None, None]
    for model in (trunk, branch.train()):  # statistics move
        maps = trunk.forward_intermediates(crops, branch.depths) if model is branch else {}
        branch(maps) if model is branch else trunk.train()(crops)
    assert any(
        "running_var" in key and float((value - 1).abs().max()) > 0.01 for key, value in branch.state_dict().items()
    )
    manifest = replace(read_manifest(DEFAULT).on_trunk(trunk_name), name="own", branches=(spec,))
    weights = {DETECTOR_FILE: kept()[DETECTOR_FILE], TRUNK_FILE: trunk.state_dict()}
    write_release(tmp_path, manifest, weights | {branch_file("mood"): branch.state_dict()})
    found = load_model(tmp_path, device="cpu").infer(crops).heads["mood"].probabilities
    trunk.eval(), branch.eval()
    with torch.no_grad():
        logits = branch(trunk.forward_intermediates(crops, branch.depths))
    expected = torch.softmax(logits / spec.temperature, dim=1)
    assert torch.allclose(torch.as_tensor(found), expected, atol=2e-3)
    assert float((expected - expected.mean(dim=0)).abs().max()) > 0.01


def test_a_branch_without_relearnt_layers_is_written_as_before():
    plain = replace(read_manifest(DEFAULT), branches=(SPEC,)).plain()["branches"][0]
    assert "relearnt_to" not in plain
    own = replace(SPEC, depths=("conv_12",), relearnt_to="conv_14")
    manifest = replace(read_manifest(DEFAULT), branches=(own,))
    assert manifest.plain()["branches"][0]["relearnt_to"] == "conv_14"
    assert manifests.from_plain(manifest.plain()).branches == (own,)


def test_layers_that_no_trunk_has_are_not_relearnt(tmp_path):
    spec = replace(SPEC, depths=("conv_14",), relearnt_to="conv_14")
    with pytest.raises(ReleaseError, match="no layer lies behind depth 'conv_14'"):
        write_release(tmp_path, replace(read_manifest(DEFAULT), branches=(spec,)), kept())

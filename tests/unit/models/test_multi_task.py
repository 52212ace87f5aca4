from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from models.branches import Branch, BranchSpec
from models.errors import ModelError
from models.inference.precision import compute_dtype, resolve_device
from models.multi_task import STORED_BATCH, EmbeddingHeads, MultiTaskModel
from models.readings import encode, reread
from models.release import load_release
from models.trunks.registry import create_trunk
from models.trunks.sface import SFace

CPU = torch.device("cpu")
SPEC = BranchSpec(task="mood", kind="softmax", labels=("x", "y"), depths=("conv_9",), pool=2, hidden=3)


def noise(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 112, 112), generator=torch.Generator().manual_seed(5)).to(torch.uint8)


@pytest.fixture(scope="module")
def faces(release, photo) -> torch.Tensor:
    """Return eleven crops of one face, turned and darkened, so that no two are equal."""
    found = release.detector.detect(photo)
    crop = release.align(photo, found)[0].float()
    views = [crop * (1 - 0.06 * step) if step % 2 else crop.roll(step, 2) * (1 - 0.03 * step) for step in range(11)]
    return torch.stack(views).to(torch.uint8)


def test_all_heads_answer_in_one_pass(release, faces):
    outputs = release.infer(faces)
    assert len(outputs) == 11
    assert outputs.embeddings.shape == (11, 128)
    assert torch.allclose(outputs.embeddings.norm(dim=1), torch.ones(11), atol=1e-4)
    assert tuple(outputs.heads) == release.heads
    for task, head in outputs.heads.items():
        assert head.labels == release.labels(task)
        assert head.probabilities.shape == (11, len(head.labels))
        assert head.probabilities.dtype == torch.float32
        if release.spec(task).kind != "multilabel":
            assert torch.allclose(head.probabilities.sum(1), torch.ones(11), atol=1e-4)


def test_no_face(release):
    outputs = release.infer(noise(0))
    assert outputs.embeddings.shape == (0, 128)
    for task, head in outputs.heads.items():
        assert head.probabilities.shape == (0, len(release.labels(task)))


def test_without_heads_and_identity_there_is_no_output():
    outputs = load_release(device="cpu", heads=frozenset(), identity=False).infer(noise(3))
    assert outputs.embeddings.shape == (3, 0)
    assert outputs.heads == {}


def test_outputs_for_a_face_do_not_depend_on_the_batch(release, faces):
    together = release.infer(faces)
    for row in (0, 7, 10):
        alone = release.infer(faces[row : row + 1])
        assert (alone.embeddings[0] @ together.embeddings[row]) > 0.9995
        for task, head in alone.heads.items():
            assert (head.probabilities[0] - together.heads[task].probabilities[row]).abs().max() < 0.03


def test_fast_numbers_agree_with_float32(release, faces, float32):
    exact, found = load_release(device="cpu").infer(faces), release.infer(faces)
    assert ((exact.embeddings * found.embeddings).sum(1) > 0.998).all()
    for task, head in exact.heads.items():
        assert (head.probabilities - found.heads[task].probabilities).abs().max() < 0.06
        if head.value is not None:
            assert (head.value - found.heads[task].value).abs().max() < 1.0


def test_more_faces_than_the_heads_take_at_once(release):
    crops = noise(67)
    outputs = release.infer(crops)
    again = release.infer(crops[64:])
    assert torch.allclose(outputs.embeddings[64:], again.embeddings, atol=0.03)


def test_without_identity_the_trunk_stops_early():
    trunk = SFace()
    for name in ("conv_10", "conv_14"):
        trunk.layers[name].register_forward_hook(lambda *_: pytest.fail("ran deeper than its heads need"))
    outputs = MultiTaskModel(trunk, [Branch(SPEC)], CPU, identity=False).infer(noise(3))
    assert outputs.embeddings.shape == (3, 0)
    assert outputs.heads["mood"].probabilities.shape == (3, 2)


@pytest.mark.parametrize("identity", [True, False])
def test_a_branch_at_the_embedding_reads_the_stored_one(identity):
    branch, trunk = Branch(replace(SPEC, depths=("embedding",))), SFace()
    stored = MultiTaskModel(copy.deepcopy(trunk), [], CPU).infer(noise(3)).embeddings
    assert torch.equal(stored, stored.half().float())
    head = MultiTaskModel(trunk, [branch], CPU, identity=identity).infer(noise(3)).heads["mood"]
    assert (head.codes - encode("softmax", branch({"embedding": stored}))).abs().max() <= 1


def test_stored_codes_read_again_give_the_rows_of_inference(release, faces):
    outputs = release.infer(faces)
    for task, head in outputs.heads.items():
        assert head.codes.dtype == torch.int32
        assert head.codes.shape == head.probabilities.shape
        again = reread(release.spec(task), head.codes.to(torch.uint16).int())
        for column in ("probabilities", "value", "low", "high", "abstains"):
            expected = getattr(head, column)
            assert expected is None or torch.equal(getattr(again, column), expected), (task, column)


def test_branches_over_stored_embeddings_give_the_scores_of_the_whole_model(faces):
    torch.manual_seed(8)
    specs = [
        replace(SPEC, depths=("embedding",), hidden=17),
        replace(SPEC, task="years", kind="age", labels=tuple(map(str, range(117))), depths=("embedding",), hidden=0),
        replace(SPEC, task="traits", kind="multilabel", labels=("p", "q", "r"), depths=("embedding",), hidden=5),
    ]
    branches = [Branch(spec) for spec in specs]
    for branch in branches:
        branch.head[0].weight.data *= 20  # scores of different faces differ
    whole = MultiTaskModel(SFace(), copy.deepcopy(branches), CPU).infer(torch.cat([faces] * 2))
    found = EmbeddingHeads(branches, CPU).infer(whole.embeddings.half().float())
    assert set(found) == set(whole.heads)
    for task, head in whole.heads.items():
        assert (found[task].codes - head.codes).abs().max() <= 1
        assert found[task].labels == head.labels
    assert {len(head.probabilities) for head in EmbeddingHeads(branches, CPU).infer(torch.zeros(0, 128)).values()} == {
        0
    }


def test_more_stored_embeddings_than_are_read_at_once():
    branch = Branch(replace(SPEC, depths=("embedding",)))
    embeddings = torch.nn.functional.normalize(torch.randn(2 * STORED_BATCH + 3, 128))
    heads = EmbeddingHeads([branch], CPU)
    whole, end = heads.infer(embeddings)["mood"], heads.infer(embeddings[-5:])["mood"]
    assert len(whole.codes) == len(whole.probabilities) == len(embeddings)
    assert (whole.codes[-5:] - end.codes).abs().max() <= 1


def test_a_branch_that_reads_maps_needs_crops():
    with pytest.raises(ValueError, match="'mood' reads conv_9"):
        EmbeddingHeads([Branch(SPEC)], CPU)


def test_scores_that_are_no_numbers_are_refused():
    branch = Branch(SPEC)
    branch.head[0].bias.data[0] = torch.nan
    with pytest.raises(ModelError, match="branch 'mood' returned numbers that are not finite"):
        MultiTaskModel(SFace(), [branch], CPU).infer(noise(2))


def test_own_layers_run_in_the_trunks_precision():
    spec = replace(SPEC, stages=((16, 1),))
    outputs = MultiTaskModel(SFace(), [Branch(spec)], CPU).infer(noise(2))
    assert outputs.heads["mood"].probabilities.dtype == torch.float32


def test_devices():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in {"cpu", "cuda"}
    assert compute_dtype(CPU) in {torch.float32, torch.bfloat16}


def test_faces_are_compared_by_a_layer_before_the_embedding():
    torch.manual_seed(0)
    trunk = create_trunk("face24-w0.25-r32").eval()
    expected = copy.deepcopy(trunk)
    model = MultiTaskModel(trunk, [], CPU)
    crops = torch.randint(0, 256, (40, 3, 32, 32), generator=torch.Generator().manual_seed(5)).to(torch.uint8)
    found = model.embed_at(crops, "bn320")
    with torch.no_grad():
        maps = expected.forward_intermediates(crops, ("bn320", "conv9"))
    assert ((found * functional.normalize(maps["bn320"].flatten(1))).sum(1) > 0.99).all()
    assert ((model.embed_at(crops, "conv9") * functional.normalize(maps["conv9"].mean((2, 3)))).sum(1) > 0.99).all()
    assert model.embed_at(crops[:0], "bn320").shape == (0, found.shape[1])
    for depth in ("conv_1", "embedding"):
        with pytest.raises(ValueError, match=f"depth '{depth}' has no map, expected one of conv1, "):
            model.embed_at(crops[:0], depth)

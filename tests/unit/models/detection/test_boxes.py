from __future__ import annotations

import torch

from models.detection.boxes import iou, suppress


def test_agrees_with_torchvision():
    from torchvision.ops import batched_nms

    torch.manual_seed(3)
    corner, side = torch.rand(211, 2) * 90, torch.rand(211, 2) * 30 + 1
    boxes, scores, group = torch.cat((corner, corner + side), 1), torch.rand(211), torch.randint(0, 3, (211,))
    expected = batched_nms(boxes, scores, group, 0.4)
    expected = expected[torch.argsort(group[expected], stable=True)]
    assert torch.equal(suppress(boxes, scores, group, 0.4), expected)


def test_no_box():
    assert suppress(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.4).shape == (0,)


def test_equal_scores_keep_the_first():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [50.0, 50, 60, 60]])
    assert suppress(boxes, torch.full((3,), 0.7), torch.zeros(3, dtype=torch.int64), 0.4).tolist() == [0, 2]


def test_boxes_without_area_are_no_error():
    boxes = torch.tensor([[5.0, 5, 5, 5], [5.0, 5, 5, 5]])
    assert len(suppress(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64), 0.4)) == 2


def test_overlaps_are_those_of_torchvision():
    from torchvision.ops import box_iou

    corner, side = torch.rand(2, 17, 2, generator=torch.Generator().manual_seed(4)) * 40
    boxes = torch.cat((corner, corner + side), 1)
    assert torch.allclose(iou(boxes[:11], boxes[11:]), box_iou(boxes[:11], boxes[11:]), atol=1e-6)
    assert torch.allclose(iou(boxes, boxes).diagonal(), torch.ones(17), atol=1e-6)
    nothing = torch.tensor([[5.0, 5, 5, 5]])
    assert iou(nothing, nothing).tolist() == [[0.0]]

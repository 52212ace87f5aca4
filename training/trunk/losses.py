"""Objectives of a trunk: to recognise people, or to follow the embeddings of a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Objective = Literal["softmax", "arcface", "distil"]

# Radians by which an embedding must be nearer to its own person than to others. Source: Deng et al. 2019.
ARC_MARGIN = 0.5
# Length of the embeddings before the softmax. Source: as above; with few people, 30 to 64 work equally well.
ARC_SCALE = 64.0


@dataclass(frozen=True, slots=True)
class BatchResult:
    """Results of one batch."""

    loss: Tensor
    """Scalar."""
    agreement: float
    """Share of faces whose person is recognised, or mean cosine to the teacher."""


class SoftmaxHead(nn.Module):
    """A linear layer over embeddings of any length, and cross-entropy over people."""

    def __init__(self, embedding: int, people: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, people)

    def forward(self, raw: Tensor, wanted: Tensor) -> BatchResult:
        """Compare (B, D) embeddings with (B,) people."""
        logits = self.linear(raw)
        return BatchResult(functional.cross_entropy(logits, wanted), _share_recognised(logits, wanted))


class ArcFaceHead(nn.Module):
    """Cross-entropy over cosines, with an angle added to the own person's.

    Source: Deng et al. 2019, 'ArcFace: Additive Angular Margin Loss for Deep Face Recognition'.
    """

    def __init__(self, embedding: int, people: int, *, margin: float = ARC_MARGIN, scale: float = ARC_SCALE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(people, embedding).normal_(std=0.01))
        self.margin, self.scale = margin, scale

    def forward(self, raw: Tensor, wanted: Tensor) -> BatchResult:
        """Compare (B, D) embeddings with (B,) people."""
        cosines = functional.normalize(raw) @ functional.normalize(self.weight).T
        own = cosines.gather(1, wanted[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        # Beyond pi - margin the cosine would grow again; there the margin is a plain subtraction.
        turned = torch.where(
            own > torch.cos(own.new_tensor(torch.pi - self.margin)),
            torch.cos(own.acos() + self.margin),
            own - self.margin * torch.sin(own.new_tensor(self.margin)),
        )
        logits = self.scale * cosines.scatter(1, wanted[:, None], turned)
        return BatchResult(functional.cross_entropy(logits, wanted), _share_recognised(cosines, wanted))


class DistilHead(nn.Module):
    """One minus the cosine to the teacher's embedding, and the squared difference of the similarities within a batch.

    Source: Park et al. 2019, 'Relational Knowledge Distillation' (with cosines in place of its distances).
    """

    def __init__(self, embedding: int, teacher: int, *, relational: float = 1.0) -> None:
        """Set the lengths.

        Args:
            embedding: of the student's embedding.
            teacher: of the teacher's; if both are equal, the student's embedding is compared without a projection.
            relational: weight of the second term.
        """
        super().__init__()
        self.project = nn.Identity() if embedding == teacher else nn.Linear(embedding, teacher)
        self.relational = relational

    def forward(self, raw: Tensor, wanted: Tensor) -> BatchResult:
        """Compare (B, D) embeddings with the (B, T) normalised ones of the teacher."""
        projected = functional.normalize(self.project(raw))
        cosines = (projected * wanted).sum(dim=1)
        similarity_loss = functional.mse_loss(projected @ projected.T, wanted @ wanted.T)
        return BatchResult((1 - cosines).mean() + self.relational * similarity_loss, float(cosines.detach().mean()))


def _share_recognised(scores: Tensor, wanted: Tensor) -> float:
    return float((scores.detach().argmax(dim=1) == wanted).float().mean())

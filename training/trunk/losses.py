"""What a trunk is trained for: telling people apart, or saying what a teacher says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Objective = Literal["softmax", "arcface", "distil"]

# Radians by which an embedding must be nearer to its own person than to others. Source: Deng et al. 2019.
ARC_MARGIN = 0.5
# Length that embeddings are given before the softmax. Source: as above; with few people, 30 to 64 do alike.
ARC_SCALE = 64.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one batch gave."""

    loss: Tensor
    """Scalar."""
    agreement: float
    """Share of people who are recognised, or mean cosine to the teacher."""


class SoftmaxHead(nn.Module):
    """A linear layer over embeddings of any length, and cross-entropy over people."""

    def __init__(self, embedding: int, people: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding, people)

    def forward(self, raw: Tensor, wanted: Tensor) -> Step:
        """Judge (B, D) embeddings by (B,) people."""
        logits = self.linear(raw)
        return Step(functional.cross_entropy(logits, wanted), _share_recognised(logits, wanted))


class ArcFaceHead(nn.Module):
    """Cross-entropy over cosines, with an angle added to the own person's.

    Source: Deng et al. 2019, 'ArcFace: Additive Angular Margin Loss for Deep Face Recognition'.
    """

    def __init__(self, embedding: int, people: int, *, margin: float = ARC_MARGIN, scale: float = ARC_SCALE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(people, embedding).normal_(std=0.01))
        self.margin, self.scale = margin, scale

    def forward(self, raw: Tensor, wanted: Tensor) -> Step:
        """Judge (B, D) embeddings by (B,) people."""
        cosines = functional.normalize(raw) @ functional.normalize(self.weight).T
        own = cosines.gather(1, wanted[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        # Beyond pi - margin the cosine would grow again; there the margin is a plain subtraction.
        turned = torch.where(
            own > torch.cos(own.new_tensor(torch.pi - self.margin)),
            torch.cos(own.acos() + self.margin),
            own - self.margin * torch.sin(own.new_tensor(self.margin)),
        )
        logits = self.scale * cosines.scatter(1, wanted[:, None], turned)
        return Step(functional.cross_entropy(logits, wanted), _share_recognised(cosines, wanted))


class DistilHead(nn.Module):
    """One minus the cosine to the teacher's embedding, and how unlike the likenesses within a batch are.

    Source: Park et al. 2019, 'Relational Knowledge Distillation' (with cosines in place of its distances).
    """

    def __init__(self, embedding: int, teacher: int, *, relational: float = 1.0) -> None:
        """Make a head.

        Args:
            embedding: length of the student's.
            teacher: length of the teacher's; where both are alike, the student's embedding itself follows it.
            relational: weight of the second term.
        """
        super().__init__()
        self.project = nn.Identity() if embedding == teacher else nn.Linear(embedding, teacher)
        self.relational = relational

    def forward(self, raw: Tensor, wanted: Tensor) -> Step:
        """Judge (B, D) embeddings by the (B, T) normalised ones of the teacher."""
        said = functional.normalize(self.project(raw))
        cosines = (said * wanted).sum(dim=1)
        likeness = functional.mse_loss(said @ said.T, wanted @ wanted.T)
        return Step((1 - cosines).mean() + self.relational * likeness, float(cosines.detach().mean()))


def _share_recognised(scores: Tensor, wanted: Tensor) -> float:
    return float((scores.detach().argmax(dim=1) == wanted).float().mean())

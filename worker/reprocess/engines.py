"""Models of batches: loaded when a batch needs them, one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from models.errors import ModelError
from models.release import load_heads, load_model
from worker.errors import FacetError
from worker.reprocess.target import IDENTITY

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.multi_task import EmbeddingHeads, MultiTaskModel
    from worker.ledger.batches import Batch


class Folders(Protocol):
    """Finds the files of registered releases."""

    def open(self, release_id: int) -> AbstractContextManager[Path]:
        """Yield the folder of a release, with every byte checked.

        Raises:
            FacetError: it cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Key:
    release_id: int
    tasks: frozenset[str]
    from_embeddings: bool


class Engines:
    """Loads what batches need, and keeps the last one: batches of a job follow each other.

    Args:
        folders: of the releases.
        device: auto, cpu, cuda or cuda:N.
    """

    def __init__(self, folders: Folders, device: str) -> None:
        self._folders, self._device = folders, device
        self._key: _Key | None = None
        self._loaded: EmbeddingHeads | MultiTaskModel | None = None

    def heads(self, batch: Batch) -> EmbeddingHeads:
        """Return the branches of a batch, which read embeddings alone.

        Raises:
            FacetError: the release cannot be loaded.
        """
        loaded: EmbeddingHeads = self._get(batch, from_embeddings=True)  # type: ignore[assignment]
        return loaded

    def model(self, batch: Batch) -> MultiTaskModel:
        """Return trunk and branches of a batch; the trunk runs no deeper than they need.

        Raises:
            FacetError: the release cannot be loaded.
        """
        loaded: MultiTaskModel = self._get(batch, from_embeddings=False)  # type: ignore[assignment]
        return loaded

    def close(self) -> None:
        """Free the model that is loaded."""
        self._key = self._loaded = None

    def _get(self, batch: Batch, *, from_embeddings: bool) -> EmbeddingHeads | MultiTaskModel:
        key = _Key(batch.release_id, frozenset(batch.tasks), from_embeddings)
        if self._key != key or self._loaded is None:
            self.close()
            self._loaded = self._load(key)
            self._key = key
        return self._loaded

    def _load(self, key: _Key) -> EmbeddingHeads | MultiTaskModel:
        tasks = key.tasks - {IDENTITY}
        with self._folders.open(key.release_id) as folder:
            try:
                if key.from_embeddings:
                    return load_heads(folder, tasks, device=self._device)
                return load_model(folder, device=self._device, heads=tasks, identity=IDENTITY in key.tasks)
            except ModelError as err:
                raise FacetError(str(err)) from err

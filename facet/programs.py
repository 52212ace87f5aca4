"""The programs ``facet`` and ``facet-train``, under names that do not depend on how Facet is installed."""

from __future__ import annotations


def facet() -> None:
    """Run ``facet``."""
    from worker.cli import main  # noqa: PLC0415 - each program loads its own libraries

    main()


def facet_train() -> None:
    """Run ``facet-train``."""
    from training.cli import main  # noqa: PLC0415 - each program loads its own libraries

    main()

"""The command ``facet-train``: one file a group of commands."""

from models.inference.threads import set_wait_policy


def main() -> None:
    """Set the environment of the threads, then load torch and run the command."""
    set_wait_policy()
    from training.cli.main import main as run  # noqa: PLC0415 - imports torch, which reads the environment

    run()


__all__ = ["main"]

"""Errors of the worker, by what the caller does about them.

FacetError                 base; its text is one line: what was found, what was expected, what to do
├── UsageError             the command was used wrongly: exit status 2
├── RetryableError         database, broker or disk is unreachable or full: try again later, lose nothing
├── LeaseLostError         another worker holds the unit, or it has ended: drop the result, continue
│   └── ReleaseRetiredError the release of the unit was retired meanwhile
└── MediaError             this file cannot be analysed: record the reason, go on with the next
    ├── MediaRejected      the file is at fault (corrupt, unsupported, over a limit)
    │   └── MediaChanged   it holds other bytes than were submitted: drop all that is known of it
    ├── MediaUnreachable   the file is not on this host: give its unit back, another host may have it
    └── AttemptFailed      this attempt failed, another one may succeed: try again, then quarantine
        ├── DecoderCrashed the file killed its decoder, or hung it past its limit
        ├── MediaVanished  the file disappeared while it was being opened
        └── FinishFailed   its faces could not be joined to appearances
"""

from __future__ import annotations

from worker.masking import masked

RAW_ADVICE = "raw camera files are not read: develop them to JPEG or TIFF first"
"""The reason by which such a file is refused: by its first bytes, or by its tags if it looks like TIFF."""
MAX_ERROR_CHARACTERS = 1000
"""Limit for the text of an error of unknown kind, which may contain the whole file."""


class FacetError(Exception):
    """Something went wrong; the text states what was found, what was expected and what to do."""


class UsageError(FacetError):
    """The command was used wrongly."""


class GateClosed(FacetError):
    """A release was not activated: the archive would lose something, or some group would fare worse."""


class RetryableError(FacetError):
    """A service or the disk is unreachable or full; the same call may succeed later."""


class LeaseLostError(FacetError):
    """Another worker holds the unit, or it was ended or cancelled: the result of this attempt is dropped."""


class ReleaseRetiredError(LeaseLostError):
    """The release of the unit was retired: the result of this attempt is dropped, like all its rows."""


def described(error: BaseException) -> str:
    """Return class and message of any error, without secrets, as text of bounded length that a database can hold."""
    try:
        message = masked(str(error))
    except Exception:  # noqa: BLE001 - an error whose own text fails must not hide that it came
        message = "its text cannot be made"
    message = message.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(message) > MAX_ERROR_CHARACTERS:
        message = f"{message[:MAX_ERROR_CHARACTERS]}..."
    return f"{type(error).__name__}: {message}".rstrip(": ")


class MediaError(FacetError):
    """A file cannot be analysed.

    Attributes:
        code: a stable code for SQL, such as ``truncated`` or ``too_many_pixels``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def reason(self) -> str:
        """The text that the ``reason`` column shows: ``code: message``."""
        return f"{self.code}: {self}"


class MediaRejected(MediaError):
    """The file is at fault: corrupt, unsupported or over a limit."""


class MediaChanged(MediaRejected):
    """The file holds other bytes than when it was submitted, so that nothing found in it belongs to its hash."""

    def __init__(self, message: str) -> None:
        super().__init__("changed", message)


class MediaUnreachable(MediaError):
    """The file lies where this host cannot read: a mount is missing, or an object store does not answer.

    Attributes:
        place: what is away: a path or a URL, all below which is away too.
    """

    def __init__(self, place: str, message: str) -> None:
        super().__init__("away", message)
        self.place = place


class AttemptFailed(MediaError):
    """An attempt at a file failed, and another one may succeed."""


class DecoderCrashed(AttemptFailed):
    """The file killed its decoder (signal, memory) or hung it past its time limit."""


class MediaVanished(AttemptFailed):
    """The file disappeared while it was being opened; its disk may be unreachable for a while."""

    def __init__(self, message: str) -> None:
        super().__init__("not_found", message)


class FinishFailed(AttemptFailed):
    """The faces of a file could not be joined to appearances."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("finish", f"joining its faces failed: {described(cause)}")

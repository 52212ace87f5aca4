"""The visitor of a request, and what the visitor may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from worker.errors import FacetError


class Role(IntEnum):
    """Role of a visitor; each role includes the ones before it."""

    READER = 1
    """Look at all pages."""
    REVIEWER = 2
    """Also correct people."""
    OPERATOR = 3
    """Also pause and cancel jobs, switch releases and erase."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """The user behind a request."""

    name: str
    """As corrections store it."""
    role: Role
    session: str = field(repr=False)
    """Secret or name that the tokens of this visitor's forms are derived from."""

    def may(self, role: Role) -> bool:
        """Return whether the visitor has a role."""
        return self.role >= role


class VisitRefused(FacetError):
    """A request was refused; the text states why and what to do.

    Attributes:
        status: of the response.
    """

    def __init__(self, message: str, status: int = 403) -> None:
        super().__init__(message)
        self.status = status


def require(visitor: Visitor, role: Role) -> None:
    """Check that a visitor has a role.

    Raises:
        VisitRefused: the role is a lower one.
    """
    if not visitor.may(role):
        raise VisitRefused(
            f"{visitor.name} is a {visitor.role.name.lower()} here, and this needs a {role.name.lower()}; "
            "ask the operator of this page for the role (FACET_WEB_ROLES)"
        )

"""Two doors: a one-time token for the user of this machine, and a proxy that names its users.

A request without a visitor gets no page, no picture and no file.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from worker.errors import UsageError
from worker.ledger.releases import user_name
from worker.visible import visible
from worker.web.access.visitor import Role, Visitor, VisitRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

    from worker.config import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN = "token"  # noqa: S105 - the name of a parameter
MAX_NAME = 200  # characters of a user's name; longer ones are no names


class Door(Protocol):
    """Decides who is behind a request."""

    @property
    def key(self) -> bytes:
        """Secret of this process, from which the tokens of forms are derived."""

    def admit(self, request: Request) -> Visitor:
        """Return the visitor behind a request.

        Raises:
            VisitRefused: there is none.
        """

    def host(self, request: Request) -> str:
        """Return the host and port by which the browser knows this page."""


class LocalDoor:
    """Admits the browser that opens the printed link: its token is exchanged for a cookie, once.

    Args:
        port: of the page; browsers share cookies between the ports of a host, so it is in the cookie's name.
        announce: is called with each token that takes the place of a used one.
    """

    def __init__(self, port: int, announce: Callable[[str], None] | None = None) -> None:
        self.key = secrets.token_bytes(32)
        self.cookie = f"facet_{port}"
        self._session = secrets.token_urlsafe(32)
        self._visitor = Visitor(user_name(), Role.OPERATOR, self._session)
        self._announce = announce
        self._lock = Lock()
        self.token = secrets.token_urlsafe(24)

    def admit(self, request: Request) -> Visitor:
        """Return the user of this machine if the request has the cookie."""
        if _hostname(request.headers.get("host", "")) not in LOOPBACK:
            raise VisitRefused("this page is served to this machine alone; open it at 127.0.0.1", 421)
        given = request.cookies.get(self.cookie, "")
        if not hmac.compare_digest(given.encode(), self._session.encode()):
            raise VisitRefused("this browser is not known; open the latest link that `facet web` has printed", 401)
        return self._visitor

    def redeem(self, token: str) -> str | None:
        """Exchange a token for the value of the cookie, once; None for any other token."""
        with self._lock:
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                return None
            self.token = secrets.token_urlsafe(24)
        if self._announce is not None:
            self._announce(self.token)
        return self._session

    def host(self, request: Request) -> str:
        """Return the host that the browser asked for."""
        return request.headers.get("host", "")


@dataclass(frozen=True, slots=True)
class ProxyDoor:
    """Admits users whom a proxy names, if the request comes from one of the proxies."""

    key: bytes
    proxies: tuple[IPv4Network | IPv6Network, ...]
    user_header: str
    groups_header: str | None
    roles: Mapping[str, Role]
    """Role by group; the group ``*`` is everyone's. Empty: everyone is a reader."""

    def admit(self, request: Request) -> Visitor:
        """Return the user whom the proxy names."""
        if not self._is_proxy(request):
            raise VisitRefused("this request came past the proxy; open this page at the address of the proxy")
        names = request.headers.getlist(self.user_header)
        name = visible(names[0].strip()) if len(names) == 1 else ""
        if not name or len(name) > MAX_NAME:
            raise VisitRefused(
                f"the proxy names {len(names)} users in {self.user_header}, expected one; sign in at the proxy, "
                "or ask the operator to mend its configuration", 401
            )  # fmt: skip
        return Visitor(name, self._role(name, request), f"user {name}")

    def host(self, request: Request) -> str:
        """Return the host that the proxy forwards, or that of the request."""
        forwarded = request.headers.get("x-forwarded-host", "").split(",")[0].strip()
        return forwarded or request.headers.get("host", "")

    def _is_proxy(self, request: Request) -> bool:
        if request.client is None:
            return False
        try:
            address = ip_address(request.client.host)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.proxies)

    def _role(self, name: str, request: Request) -> Role:
        if not self.roles:
            return Role.READER
        listed = ",".join(request.headers.getlist(self.groups_header)) if self.groups_header else ""
        groups = {group.strip() for group in listed.split(",")} | {"*"}
        found = [self.roles[group] for group in groups if group in self.roles]
        if not found:
            raise VisitRefused(f"{name} is in no group that may use this page; ask its operator (FACET_WEB_ROLES)")
        return max(found)


def open_door(settings: Settings, host: str, port: int, announce: Callable[[str], None] | None = None) -> Door:
    """Return the door for an address.

    Raises:
        UsageError: others could reach the page, and no proxy is set that names them; or a setting cannot be used.
    """
    if not settings.web_proxies:
        if host not in LOOPBACK:
            raise UsageError(
                f"--host {host} would show the page to others; expected 127.0.0.1, or a proxy that signs users in: "
                "set FACET_WEB_PROXIES and FACET_WEB_USER_HEADER (docs/web.md)"
            )
        return LocalDoor(port, announce)
    if not settings.web_user_header:
        raise UsageError(
            "FACET_WEB_PROXIES is set and FACET_WEB_USER_HEADER is not; expected the header in which the proxy names "
            "the user, such as X-Forwarded-User (docs/web.md)"
        )
    return ProxyDoor(
        key=secrets.token_bytes(32),
        proxies=tuple(_network(one) for one in settings.web_proxies),
        user_header=settings.web_user_header,
        groups_header=settings.web_groups_header,
        roles=_roles(settings),
    )


def _network(given: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(given)
    except ValueError as err:
        raise UsageError(
            f"FACET_WEB_PROXIES names {given}; expected addresses or networks with commas between: 10.0.0.5,10.1.0.0/24"
        ) from err


def _roles(settings: Settings) -> dict[str, Role]:
    known = {role.name.lower(): role for role in Role}
    roles = {}
    for pair in settings.web_roles:
        group, _, role = pair.rpartition("=")
        if not group or role not in known:
            raise UsageError(
                f"FACET_WEB_ROLES has {pair}; expected a group and a role ({', '.join(known)}): archivists=reviewer"
            )
        roles[group] = known[role]
    if set(roles) - {"*"} and not settings.web_groups_header:
        raise UsageError("FACET_WEB_ROLES names groups; set FACET_WEB_GROUPS_HEADER to the header that lists a user's")
    return roles


def _hostname(netloc: str) -> str:
    """Return a host without its port."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0]

"""The page opens to others through a proxy alone, and refuses to start where the settings are half set."""

from __future__ import annotations

import pytest

from worker.config import Settings
from worker.errors import UsageError
from worker.web.access.doors import LocalDoor, ProxyDoor, open_door
from worker.web.access.visitor import Role

PROXY = {"web_proxies": "10.0.0.5, 10.1.0.0/16", "web_user_header": "X-User"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_this_machine_has_a_token(host):
    door = open_door(Settings(), host, 8750)
    assert isinstance(door, LocalDoor)
    assert len(door.token) >= 32


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "archive.example"])
def test_other_addresses_need_a_proxy(host):
    with pytest.raises(UsageError, match="would show the page to others"):
        open_door(Settings(), host, 8750)
    assert isinstance(open_door(Settings(**PROXY), host, 8750), ProxyDoor)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"web_proxies": "10.0.0.5"}, "FACET_WEB_USER_HEADER is not"),
        (PROXY | {"web_proxies": "proxy.example"}, "expected addresses or networks"),
        (PROXY | {"web_proxies": "10.0.0.5/8"}, "expected addresses or networks"),
        (PROXY | {"web_roles": "staff=king", "web_groups_header": "X-Groups"}, "expected a group and a role"),
        (PROXY | {"web_roles": "reader", "web_groups_header": "X-Groups"}, "expected a group and a role"),
        (PROXY | {"web_roles": "staff=reader"}, "set FACET_WEB_GROUPS_HEADER"),
    ],
)
def test_half_a_proxy_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        open_door(Settings(**settings), "0.0.0.0", 8750)


def test_roles_are_read():
    door = open_door(Settings(**PROXY, web_groups_header="X-Groups", web_roles="a=reviewer, b = c=operator"), "::", 1)
    assert dict(door.roles) == {"a": Role.REVIEWER, "b = c": Role.OPERATOR}
    assert open_door(Settings(**PROXY, web_roles="*=reviewer"), "::", 1).roles == {"*": Role.REVIEWER}


def test_a_token_is_taken_once_and_replaced():
    said = []
    door = LocalDoor(8750, said.append)
    first = door.token
    assert door.redeem("another") is None
    assert door.redeem(first)
    assert door.redeem(first) is None
    assert said == [door.token]
    assert door.token != first

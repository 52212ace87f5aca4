"""Strangers, other sites and past the proxy: the page shows them nothing."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from starlette.testclient import TestClient

from worker.web.access.doors import ProxyDoor
from worker.web.access.guard import POLICY
from worker.web.access.visitor import Role
from worker.web.app import build_app

PROXY = ip_network("10.0.0.0/8")


def test_health_needs_nobody_and_shows_nothing(stranger):
    response = stranger.get("/health")
    assert (response.status_code, response.text) == (200, "ok")


@pytest.mark.parametrize("path", ["/", "/people", "/faces/1.jpg", "/no/such/page", "/appearances/1.jpg"])
def test_no_cookie_no_page(people, stranger, path):
    response = stranger.get(path)
    assert response.status_code == 401
    assert "open the latest link" in response.text
    assert "person" not in response.text.lower().replace("same person", "")


def test_a_token_admits_one_browser_once(desk, door, stranger):
    token = door.token
    first = stranger.get(f"/people?token={token}&sort=name", follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/people?sort=name")
    assert "HttpOnly" in first.headers["set-cookie"]
    assert "SameSite=lax" in first.headers["set-cookie"]
    with TestClient(build_app(desk, door), base_url=str(stranger.base_url)) as other:
        assert other.get(f"/people?token={token}", follow_redirects=False).status_code == 401
        assert other.get(f"/people?token={door.token}", follow_redirects=False).status_code == 303


def test_a_redirect_of_a_token_stays_on_this_server(door, stranger):
    response = stranger.get(f"//evil.example/?token={door.token}", follow_redirects=False)
    assert response.headers["location"] == "/" or response.headers["location"].startswith("/evil"), response.headers


def test_another_host_name_is_refused(browser):
    response = browser.client.get("/people", headers={"host": "rebound.example"})
    assert response.status_code == 421


def test_every_answer_binds_the_browser(browser, stranger):
    for path in ("/people", "/nothing", "/static/facet.css", "/health"):
        headers = browser.client.get(path).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY


def client_of(desk, address="10.0.0.1", roles=None, **headers):
    door = ProxyDoor(b"k" * 32, (PROXY,), "x-user", "x-groups", roles or {})
    return TestClient(build_app(desk, door), client=(address, 1), headers=headers)


def test_a_proxy_is_believed_and_nothing_else(desk, people):
    with client_of(desk, **{"x-user": "ada"}) as client:
        assert client.get("/faces/1.jpg").status_code == 200
    with client_of(desk, "192.168.0.1", **{"x-user": "ada"}) as client:
        response = client.get("/faces/1.jpg")
        assert (response.status_code, "past the proxy" in response.text) == (403, True)
    with client_of(desk) as client:
        assert client.get("/faces/1.jpg").status_code == 401
        assert client.get("/faces/1.jpg", headers=[("x-user", "ada"), ("x-user", "root")]).status_code == 401
        assert client.get("/faces/1.jpg", headers={"x-user": "a" * 300}).status_code == 401


def test_groups_make_roles(desk):
    roles = {"archivists": Role.REVIEWER}
    with client_of(desk, roles=roles, **{"x-user": "ada", "x-groups": "staff"}) as client:
        assert "in no group" in client.get("/").text
    with client_of(desk, roles=roles, **{"x-user": "ada", "x-groups": "staff,archivists"}) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/", follow_redirects=False).status_code == 303

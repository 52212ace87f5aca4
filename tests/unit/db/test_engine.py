from __future__ import annotations

import pytest

from db.engine import mask_url, parse_url
from db.errors import DatabaseUnreachable


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"])
def test_every_spelling_means_the_one_driver(scheme):
    assert parse_url(f"{scheme}://u:p@h:5433/d").drivername == "postgresql+psycopg"


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://u:p@h/d", "sqlite:///x"])
def test_other_addresses_are_refused(url):
    with pytest.raises(DatabaseUnreachable, match="expected postgresql"):
        parse_url(url)


@pytest.mark.parametrize("url", ["postgresql://u:hush@h/d", "postgresql://u@h/d?password=hush&sslpassword=hush"])
def test_secrets_are_masked(url):
    assert "hush" not in mask_url(url)
    assert "u" in mask_url(url)

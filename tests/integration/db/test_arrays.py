"""Whole columns by binary COPY, against what plain statements give."""

from __future__ import annotations

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.bulk import arrays, codes
from db.bulk.arrays import Codes, RealArray, read_blocks, read_rows, write_rows
from db.engine import make_engine

KINDS = {
    "number": "bigint", "small": "integer", "share": "real", "at": "double precision", "sure": "boolean",
    "look": "vector", "half": "halfvec", "tiny": "smallint", "codes": Codes(7),
}  # fmt: skip
ASKED = f"SELECT {', '.join(KINDS)} FROM pg_temp.things WHERE number >= %(least)s ORDER BY number"


@pytest.fixture
def session(database_url):
    engine = make_engine(database_url)
    with Session(engine) as session:
        session.execute(
            text("""CREATE TEMPORARY TABLE things (number bigint, small integer, share real, at double precision,
                                                   sure boolean, look vector(128), half halfvec(128), tiny smallint,
                                                   codes bytea)""")
        )
        yield session
        session.rollback()
    engine.dispose()


def things(count):
    random = np.random.default_rng(7)
    return {
        "number": np.arange(count) - 3,
        "small": np.arange(count) * 5,
        "share": random.random(count).astype(np.float32),
        "at": random.random(count),
        "sure": random.random(count) < 0.5,
        "look": random.standard_normal((count, 128)).astype(np.float32),
        "half": random.standard_normal((count, 128)).astype(np.float16),
        "tiny": np.arange(count) * -11,
        "codes": random.integers(0, 65536, (count, 7)).astype(np.uint16),
    }


@pytest.mark.parametrize("count", [0, 1, 7, 23])
def test_what_was_written_is_read(session, monkeypatch, count):
    monkeypatch.setattr(arrays, "BLOCK_ROWS", 5)
    written = things(count)
    write_rows(session, "pg_temp.things", KINDS, written)
    found = read_rows(session, ASKED, KINDS, {"least": -100})
    for name, column in written.items():
        assert np.array_equal(found[name], column), name
    blocks = [len(block) for block in read_blocks(session, ASKED, KINDS, {"least": -100})]
    assert sum(blocks) == count
    assert max(blocks) <= 6


@pytest.mark.parametrize("length", [1, 5])
def test_arrays_of_one_length_are_read(session, length):
    query = f"SELECT n, array_fill(n::real, ARRAY[{length}]) AS shares FROM generate_series(1, 3) n"
    found = read_rows(session, query, {"n": "integer", "shares": RealArray(length)})
    assert found["shares"].tolist() == [[n] * length for n in (1, 2, 3)]
    with pytest.raises(ValueError, match="another length"):
        read_rows(session, query, {"n": "integer", "shares": RealArray(length + 1)})


def test_codes_are_big_endian_bytes(session):
    written = things(3)
    write_rows(session, "pg_temp.things", KINDS, written)
    stored = session.scalars(text("SELECT codes FROM pg_temp.things ORDER BY number")).all()
    assert np.array_equal(codes.from_bytes(stored, 7), written["codes"])
    assert codes.to_bytes(written["codes"]) == stored
    halves = session.scalars(text("SELECT half::vector FROM pg_temp.things ORDER BY number")).all()
    assert np.allclose([[float(x) for x in one[1:-1].split(",")] for one in halves], written["half"], atol=1e-6)


def test_parameters_choose_and_sql_sees_the_same(session):
    written = things(9)
    write_rows(session, "pg_temp.things", KINDS, written)
    assert len(read_rows(session, ASKED, KINDS, {"least": 4})) == 2
    number, small, share, at, sure, first = session.execute(
        text("SELECT number, small, share, at, sure, (look::real[])[1] FROM pg_temp.things ORDER BY number LIMIT 1")
    ).one()
    expected = [written[name][0] for name in ("number", "small", "share", "at", "sure")] + [written["look"][0, 0]]
    assert [number, small, pytest.approx(share), at, sure, pytest.approx(first)] == expected


def test_null_is_refused(session):
    session.execute(text("INSERT INTO pg_temp.things (number) VALUES (1)"))
    with pytest.raises(ValueError, match="null or of another length"):
        read_rows(session, ASKED, KINDS, {"least": 0})


def test_wrong_sql_is_an_error_like_others(session):
    with pytest.raises(DBAPIError, match="no_such_table"):
        read_rows(session, "SELECT 1 FROM no_such_table", {"number": "bigint"})

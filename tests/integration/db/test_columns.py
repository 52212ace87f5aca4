"""Columns with nulls, texts and codes by binary COPY, against what rows of plain values give."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.bulk.codes import to_bytes
from db.bulk.columns import Nullable, copy_columns
from db.bulk.rows import copy_rows
from db.engine import make_engine

TEXTS = ["unknown", None, "", "Ünïcødé 顔", "a\tb\n\\N"]


@pytest.fixture
def session(clean_database):
    engine = make_engine(clean_database)
    with Session(engine) as session:
        # The rows belong to nothing: foreign keys are not the subject.
        session.execute(text("SET LOCAL session_replication_role = replica"))
        yield session
        session.rollback()
    engine.dispose()


def shown(session, table):
    rows = session.execute(text(f"SELECT t::text FROM {table} t ORDER BY 1")).all()
    session.execute(text(f"DELETE FROM {table}"))
    return rows


@pytest.mark.parametrize("count", [1, 2, 5, 23])
def test_predictions_are_those_of_plain_rows(session, count):
    random = np.random.default_rng(count)
    values = random.random(count).astype(np.float32)
    valid = random.random(count) < 0.5
    codes = random.integers(0, 65536, (count, 3)).astype(np.uint16)
    labels = [TEXTS[n % len(TEXTS)] for n in range(count)]
    columns = {
        "face_id": np.arange(count) + 2**40,
        "reading_id": 7,
        "label": labels,
        "value": Nullable(values, valid),
        "low": None,
        "confidence": values,
        "scores": Nullable(codes, ~valid),
    }
    assert copy_columns(session, "prediction", [(0, columns), (count, columns)]) == count
    found = shown(session, "prediction")
    rows = [
        (2**40 + n, 7, labels[n], float(values[n]) if valid[n] else None, None, float(values[n]),
         None if valid[n] else to_bytes(codes)[n])
        for n in range(count)
    ]  # fmt: skip
    copy_rows(session, "prediction", tuple(columns), rows)
    assert found == shown(session, "prediction")
    assert len(found) == count


def test_every_kind_of_column_is_written(session):
    embeddings = np.random.default_rng(1).normal(size=(3, 128)).astype(np.float32)
    has = np.array([True, False, True])
    embedded = {"face_id": np.arange(3), "trunk_id": np.full(3, 2), "appearance_id": None,
                "embedding": Nullable(embeddings, has)}  # fmt: skip
    sums = {"person_id": np.arange(3), "trunk_id": 1, "embedding_sum": embeddings, "is_good": has,
            "embedding_weight": np.array([1, 2, 3])}  # fmt: skip
    shares = [{"joy": 0.25, "ängst": 0.75}, None, {}]
    answers = {
        "appearance_id": np.arange(3),
        "reading_id": 4,
        "shares": [None if one is None else json.dumps(one) for one in shares],
    }
    plain = {
        "face_embedding": [(n, 2, None, embeddings[n] if has[n] else None) for n in range(3)],
        "person_embedding": [(n, 1, embeddings[n], bool(has[n]), n + 1.0) for n in range(3)],
        "appearance_prediction": [(n, 4, shares[n]) for n in range(3)],
    }
    session.execute(text("ALTER TABLE face_embedding DROP CONSTRAINT ck_face_embedding_empty"))
    for table, columns in (
        ("face_embedding", embedded), ("person_embedding", sums), ("appearance_prediction", answers),
    ):  # fmt: skip
        assert copy_columns(session, table, [(3, columns)]) == 3
        found = shown(session, table)
        copy_rows(session, table, tuple(columns), plain[table])
        assert found == shown(session, table), table


def test_nothing_is_written_for_no_rows(session):
    assert copy_columns(session, "prediction", []) == 0
    assert copy_columns(session, "prediction", [(0, {"face_id": np.zeros(0), "reading_id": 1})]) == 0


def test_blocks_with_other_columns_are_refused(session):
    blocks = [(1, {"face_id": np.ones(1), "reading_id": 1}), (1, {"reading_id": 1, "face_id": np.ones(1)})]
    with pytest.raises(ValueError, match="expected face_id, reading_id"):
        copy_columns(session, "prediction", blocks)


def test_a_row_that_the_server_refuses_is_an_error_of_the_database(session):
    columns = {"face_id": np.zeros(2), "reading_id": 1}
    with pytest.raises(DBAPIError, match="pk_prediction"):
        copy_columns(session, "prediction", [(2, columns)])

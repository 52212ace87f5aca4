"""The declarative base and the column types that the tables share."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar

from pgvector.sqlalchemy import HALFVEC, Vector
from sqlalchemy import BigInteger, DateTime, Double, Identity, Integer, LargeBinary, MetaData, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL
from sqlalchemy.orm import DeclarativeBase, mapped_column

SCHEMA = "facet"
MAX_BIGINT = (1 << 63) - 1
EMBEDDING_DIMENSION = 128  # length of a face's embedding, the same for the trunk of every release

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

Json = dict[str, Any]

# Sequences hand out ids in blocks before COPY, so BY DEFAULT: a given id is kept.
RowId = Annotated[int, mapped_column(BigInteger, Identity(always=False), primary_key=True)]
Created = Annotated[datetime, mapped_column(server_default=text("now()"))]
Count = Annotated[int, mapped_column(Integer, server_default=text("0"))]
Real = Annotated[float, mapped_column(REAL)]
Reals = Annotated[list[float], mapped_column(ARRAY(REAL))]
JsonObject = Annotated[Json, mapped_column(JSONB, server_default=text("'{}'"))]
Embedding = Annotated[Any, mapped_column(Vector(EMBEDDING_DIMENSION))]  # NumPy array (128,) float32, L2-normalised
HalfEmbedding = Annotated[Any, mapped_column(HALFVEC(EMBEDDING_DIMENSION))]  # the same in 16 bits a number


class Base(DeclarativeBase):
    """Base of all tables; they live in the schema ``facet``."""

    metadata = MetaData(schema=SCHEMA, naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar[Mapping[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        bytes: LargeBinary(),
        float: Double(),
        datetime: DateTime(timezone=True),
        Json: JSONB(),
    }


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Return the SQL condition that a column holds one of some values.

    Args:
        column: name of the column.
        values: the values allowed.
    """
    return f"{column} IN ({', '.join(repr(value) for value in values)})"

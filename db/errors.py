"""Errors of the database, by the reaction of the caller.

DatabaseError              base; its text is one line: what was found, what was expected, what to do
├── DatabaseUnreachable    no connection: the server is away, or refuses this user; try again later
├── DatabaseUnsuitable     the server answers, but lacks what Facet needs (pgvector, a privilege, a role)
├── DatabaseInUse          programs use the embedded server, so it is not stopped
├── SchemaError            the tables are not those of this program
│   ├── SchemaMissing      no tables yet
│   ├── SchemaOutdated     made by an older program: upgrade
│   └── SchemaNewer        made by a newer program: install that one
└── QueryError             a user's query was refused or failed
"""

from __future__ import annotations


class DatabaseError(Exception):
    """The database cannot be used; the text states what was found, what was expected and what to do."""


class DatabaseUnreachable(DatabaseError):
    """No connection: the server is unreachable, or it refuses this user."""


class DatabaseUnsuitable(DatabaseError):
    """The server answers, but lacks an extension, a privilege or a role."""


class DatabaseInUse(DatabaseError):
    """Programs use the embedded server, so it is not stopped."""


class SchemaError(DatabaseError):
    """The tables are not those of this program."""


class SchemaMissing(SchemaError):
    """The database has no Facet tables yet."""


class SchemaOutdated(SchemaError):
    """The tables were created by an older program."""


class SchemaNewer(SchemaError):
    """The tables were created by a newer program."""


class QueryError(DatabaseError):
    """A user's query was refused or failed."""


class WrongQuery(QueryError):
    """The text of the query is wrong: syntax, a name that does not exist, a type that does not fit."""

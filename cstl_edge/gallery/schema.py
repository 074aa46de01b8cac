"""Tables of a gallery file, version 2, and how a new file is laid out.

Every table has an `id` and a sealed `body` (`sealing`); what else it has serves to find rows. A
person's body lists its enrolments, an enrolment's body its templates, and the one row of `head`
counts people and cameras, so that a row that is missing is noticed as surely as one that changed.
A later change of the file raises VERSION and adds a step to `migrate.STEPS`.
"""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x6373746C  # "cstl": distinguishes a gallery from any other SQLite file
VERSION = 2

_OF_ENROLMENT = "enrolment_id INTEGER NOT NULL REFERENCES enrolments ON DELETE CASCADE"
TABLES = (
    # counts of rows, revision, unfinished erasure, known backups: `records.Head`
    "CREATE TABLE head (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    # the wrapped key of an encrypted gallery, else no row: `keys.WrappedKey`
    "CREATE TABLE keys (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    # id: random, for ever this person's; digests of the name's key and of its looks
    "CREATE TABLE people (id INTEGER PRIMARY KEY, name_digest BLOB NOT NULL UNIQUE,"
    " look_digest BLOB NOT NULL, body BLOB NOT NULL)",
    "CREATE TABLE enrolments (id INTEGER PRIMARY KEY,"
    " person_id INTEGER NOT NULL REFERENCES people ON DELETE CASCADE, body BLOB NOT NULL)",
    # float16 [p, d], little endian, as the model gave it
    f"CREATE TABLE templates (id INTEGER PRIMARY KEY, {_OF_ENROLMENT}, body BLOB NOT NULL)",
    # aligned silhouettes of a walk, kept by consent alone
    f"CREATE TABLE silhouettes (id INTEGER PRIMARY KEY, {_OF_ENROLMENT}, body BLOB NOT NULL)",
    # unknown people seen more than once; written by later versions
    "CREATE TABLE clusters (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    # sums over the walkers of a camera under one model: `camera_means`
    "CREATE TABLE camera_means (id INTEGER PRIMARY KEY, camera_digest BLOB NOT NULL UNIQUE,"
    " body BLOB NOT NULL)",
    "CREATE TABLE camera_scatters (id INTEGER PRIMARY KEY REFERENCES camera_means"
    " ON DELETE CASCADE, body BLOB NOT NULL)",
    # id: of a person who was erased; body: when
    "CREATE TABLE tombstones (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE INDEX enrolments_of_person ON enrolments (person_id)",
    "CREATE INDEX people_by_look ON people (look_digest)",
    "CREATE INDEX silhouettes_of_enrolment ON silhouettes (enrolment_id)",
    "CREATE INDEX templates_of_enrolment ON templates (enrolment_id)",
)


def create_tables(database: sqlite3.Connection) -> None:
    """Lay out an empty file, inside of the caller's transaction."""
    for statement in TABLES:
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {VERSION}")


def has_its_tables(database: sqlite3.Connection) -> bool:
    """Return whether the file's own description of its tables is that of this version."""
    rows = database.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    return sorted(sql for (sql,) in rows) == sorted(TABLES)

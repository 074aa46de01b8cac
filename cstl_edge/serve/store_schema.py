"""Tables of the service's store, and the one place that knows its version."""

from __future__ import annotations

import sqlite3

APPLICATION_ID = 0x43535356  # "CSSV": tells a store from every other SQLite file
VERSION = 2

TABLES = (
    # unfinished: an erasure whose bytes may still be in the file; installation: random digits;
    # gallery, erased: of the gallery, and how many it had erased, when that was looked at last
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 1), installation TEXT NOT NULL,"
    " unfinished TEXT NOT NULL DEFAULT '', next_label INTEGER NOT NULL DEFAULT 1,"
    " gallery TEXT NOT NULL DEFAULT '', erased INTEGER NOT NULL DEFAULT 0)",
    # the journal that outputs read from their own place; person and cluster are for filters
    "CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, utc TEXT NOT NULL,"
    " kind TEXT NOT NULL, camera TEXT, visit TEXT, answer TEXT, person TEXT, body TEXT NOT NULL)",
    "CREATE TABLE visits (id TEXT PRIMARY KEY, camera TEXT NOT NULL, started_utc TEXT NOT NULL,"
    " seen_utc TEXT NOT NULL, ended_utc TEXT, journey TEXT NOT NULL, answer TEXT NOT NULL,"
    " reason_code TEXT, reason TEXT, person TEXT, cluster INTEGER, distance REAL, threshold REAL,"
    " margin REAL, runner_up TEXT, confidence REAL, corrected_by TEXT, zone TEXT,"
    " frames INTEGER NOT NULL, tracks INTEGER NOT NULL, has_walk INTEGER NOT NULL, snapshot TEXT,"
    " strip TEXT, clip TEXT, model TEXT)",
    # embedding: sealed like a template of the gallery, encrypted where that is
    "CREATE TABLE tracks (id INTEGER PRIMARY KEY, visit TEXT NOT NULL REFERENCES visits"
    " ON DELETE CASCADE, camera TEXT NOT NULL, number INTEGER NOT NULL, started_utc TEXT NOT NULL,"
    " ended_utc TEXT NOT NULL, windows REAL NOT NULL, view TEXT, parts INTEGER NOT NULL,"
    " dimensions INTEGER NOT NULL, embedding BLOB, weights_sha256 TEXT NOT NULL,"
    " frames_per_second REAL)",
    "CREATE TABLE clusters (id INTEGER PRIMARY KEY AUTOINCREMENT, label TEXT NOT NULL,"
    " named INTEGER NOT NULL DEFAULT 0, ignored INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE media (id TEXT PRIMARY KEY, kind TEXT NOT NULL, visit TEXT REFERENCES visits"
    " ON DELETE CASCADE, path TEXT NOT NULL, mime TEXT NOT NULL, bytes INTEGER NOT NULL,"
    " created_utc TEXT NOT NULL)",
    "CREATE TABLE corrections (id INTEGER PRIMARY KEY AUTOINCREMENT, utc TEXT NOT NULL,"
    " visit TEXT NOT NULL REFERENCES visits ON DELETE CASCADE, person TEXT, was TEXT,"
    " user TEXT NOT NULL, undone_utc TEXT)",
    # what a correction says, beyond the life of its visit: this walk, of `owner` (NULL: of nobody
    # enrolled), is not that person; enrolled: number of the walk in the gallery that owner got
    "CREATE TABLE refusals (id INTEGER PRIMARY KEY AUTOINCREMENT, correction INTEGER NOT NULL,"
    " person TEXT, owner TEXT, enrolled INTEGER, camera TEXT NOT NULL, parts INTEGER NOT NULL,"
    " dimensions INTEGER NOT NULL, embedding BLOB NOT NULL, weights_sha256 TEXT NOT NULL,"
    " utc TEXT NOT NULL)",
    # kind: people or unknowns; detail: JSON of what undoing takes
    "CREATE TABLE merges (id INTEGER PRIMARY KEY AUTOINCREMENT, utc TEXT NOT NULL,"
    " kind TEXT NOT NULL, kept TEXT NOT NULL, other TEXT NOT NULL, detail TEXT NOT NULL,"
    " user TEXT NOT NULL, undone_utc TEXT)",
    # who was enrolled at the last look, to follow what the command line does to the gallery
    "CREATE TABLE identities (number INTEGER PRIMARY KEY, name TEXT NOT NULL, walks TEXT NOT NULL)",
    "CREATE TABLE people (name TEXT PRIMARY KEY, body TEXT NOT NULL)",
    "CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, utc TEXT NOT NULL,"
    " user TEXT NOT NULL, role TEXT NOT NULL, action TEXT NOT NULL, subject TEXT NOT NULL,"
    " detail TEXT NOT NULL)",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
    "CREATE INDEX events_of_visit ON events (visit)",
    "CREATE INDEX events_by_utc ON events (utc)",
    "CREATE INDEX visits_by_start ON visits (started_utc, id)",
    "CREATE INDEX visits_of_person ON visits (person, started_utc)",
    "CREATE INDEX visits_of_cluster ON visits (cluster, started_utc)",
    "CREATE INDEX visits_of_journey ON visits (journey)",
    "CREATE INDEX visits_open ON visits (ended_utc) WHERE ended_utc IS NULL",
    "CREATE INDEX tracks_of_visit ON tracks (visit)",
    "CREATE INDEX media_of_visit ON media (visit)",
    "CREATE INDEX media_by_age ON media (created_utc)",
    "CREATE INDEX corrections_of_visit ON corrections (visit)",
)


def create_tables(database: sqlite3.Connection, installation: str) -> None:
    """Lay out an empty file, inside of the caller's transaction.

    Args:
        database: Connection to the file.
        installation: Random digits that name this installation for ever.
    """
    for statement in TABLES:
        database.execute(statement)
    database.execute("INSERT INTO head (id, installation) VALUES (1, ?)", (installation,))
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {VERSION}")


def refuse_other(database: sqlite3.Connection) -> str | None:
    """Return why a file is no store of this version, None where it is one."""
    if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        return "is a SQLite file of another program, not a service's store"
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version != VERSION:
        return f"has schema {version}, this version of cstl-edge reads {VERSION}"
    return None

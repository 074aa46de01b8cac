"""What goes wrong between a box and its server: one clear line each, nothing lost or kept."""

import contextlib
import logging
import os
import signal
import socket
from types import SimpleNamespace

import numpy as np
import pytest
from standin_postgres import cable, execute, tls_front, until

from cstl_edge.errors import ConfigError, GalleryError, ServerAway, ServerRefuses
from cstl_edge.gallery import postgres as postgres_rows
from cstl_edge.gallery import server_errors
from cstl_edge.gallery.camera_means import CameraMean
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.server_address import server_address

psycopg = pytest.importorskip("psycopg", reason="the extra postgres is not installed")
TABLES = ("people", "enrolments", "templates", "tombstones", "head")


@pytest.fixture(autouse=True)
def empty_home(monkeypatch, tmp_path):
    """Leave no certificate or password of whoever runs the tests."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("PGPASSWORD", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sql(address):
    """Run statements in the database of the gallery."""
    with psycopg.connect(address, autocommit=True) as connection:
        yield connection.execute


def names(gallery):
    return [person.name for person in gallery.people()]


def port_of(address, place):
    """Return an address with another host and port."""
    return f"postgresql://postgres@{place}/{server_address(address).parameters['dbname']}"


@pytest.mark.parametrize(
    ("name", "days", "query", "words"),
    [
        ("localhost", (-1, 9), "sslmode=verify-full&sslrootcert={ca}", None),
        ("localhost", (-1, 9), "sslmode=require", None),
        ("localhost", (-9, -1), "sslmode=verify-full&sslrootcert={ca}", "whether it has expired"),
        ("localhost", (1, 9), "sslmode=verify-full&sslrootcert={ca}", "clock of this box is right"),
        ("db.local", (-1, 9), "sslmode=verify-full&sslrootcert={ca}", "of another machine"),
        ("localhost", (-1, 9), "sslmode=verify-full&sslrootcert={own}", "not trusted here"),
    ],
)
def test_certificates(box, address, server, tmp_path, name, days, query, words):
    pytest.importorskip("cryptography", reason="the extra secure is not installed")
    (tmp_path / "other").mkdir()
    with (
        tls_front(server.pgdata, tmp_path / "other") as (_, other),
        tls_front(server.pgdata, tmp_path, name=name, days=days) as (port, ca),
    ):
        query = query.format(ca=ca, own=other)
        place = f"{port_of(address, f'localhost:{port}')}?{query}"
        if words is None:
            assert names(box("a", place=place)) == []
            return
        with pytest.raises(ServerAway, match=words) as refused:
            box("a", place=place)
        assert refused.value.exit_code == 6


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?sslmode=verify-full", "add &sslrootcert=FILE"),
        ("?sslrootcert=/nowhere/ca.crt", "there is no such file"),
        ("?sslmode=verifyfull", 'invalid sslmode value: "verifyfull"'),
        ("?port=ten", r"the host, port \(1 to 65535\) or database"),
    ],
)
def test_an_address_that_cannot_be_right_is_a_mistake_of_usage(model, query, words):
    with pytest.raises(ConfigError, match=words) as refused:
        Gallery.open(f"postgresql://box7:s3cret@127.0.0.1/people{query}", model)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://box7:s3c/ret@127.0.0.1/people",
        "postgresql://box7:5/s3c@127.0.0.1/people",
        "postgresql://box7:1@s3c@127.0.0.1/people",
        "postgresql://box7:s3c%zz@127.0.0.1/people",
        "PostgreSQL://box7:s3c@127.0.0.1",
        "MySQL://box7:s3c@127.0.0.1/people",
        "host=127.0.0.1 dbname=people user=box7 password=s3c",
    ],
)
def test_an_address_that_is_none_shows_no_password(model, place):
    with pytest.raises(ConfigError, match=r"expected .*postgresql://{NAME}@HOST") as refused:
        Gallery.open(place, model, create=False)
    assert "s3c" not in str(refused.value)


@pytest.fixture
def passwords(server):
    """Make the server ask users whose name begins with box for their password."""
    rules = server.pgdata / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text("local all /^box scram-sha-256\n" + before)
    role = "ROLE box7 LOGIN SUPERUSER PASSWORD 'p@s:s'"
    with contextlib.suppress(psycopg.errors.DuplicateObject):
        execute(server, f"CREATE {role}")
    execute(server, f"ALTER {role}", "SELECT pg_reload_conf()")
    without = server.get_uri().replace("//postgres:", "//box7:")

    def are_read():
        try:
            psycopg.connect(without).close()
        except psycopg.OperationalError:
            return True
        return False

    until(are_read, "the rules are read")
    yield
    rules.write_text(before)
    execute(server, "SELECT pg_reload_conf()")


def test_passwords_are_asked_for_and_shown_nowhere(
    box, address, passwords, monkeypatch, tmp_path, caplog, server
):
    caplog.set_level(logging.DEBUG)
    place = address.replace("//postgres:", "//{PG}:").replace("{PG}:@", "{PG}@")
    own = place.replace("{PG}", "box7")
    private = tmp_path / "pgpass"
    private.write_text("*:*:*:box7:p@s\\:s\n")
    private.chmod(0o600)
    monkeypatch.setenv("PG", "box7:p@s:s")
    box("a", place=place).close()
    monkeypatch.setenv("PGPASSWORD", "p@s:s")
    box("b", place=own).close()
    monkeypatch.setenv("PGPASSWORD", "wr0ng")
    wrong = _refused(box, own)
    assert wrong.startswith("gallery-refused: ")  # not away
    assert "refuses the user or the password" in wrong
    monkeypatch.delenv("PGPASSWORD")
    assert "wants a password" in _refused(box, own)
    monkeypatch.setenv("PGPASSFILE", str(private))
    box("c", place=own).close()
    monkeypatch.setenv("PG", "box7:wr0ng")
    assert "refuses the user or the password" in _refused(box, place)
    for secret in ("p@s:s", "p%40s", "wr0ng"):
        assert secret not in wrong + caplog.text


def test_a_password_that_is_changed_while_a_box_runs_is_taken_over(
    box, walker, address, passwords, monkeypatch, tmp_path, server
):
    credentials = tmp_path / "credentials"
    monkeypatch.setenv("CSTL_EDGE_CREDENTIALS", str(credentials))
    monkeypatch.delenv("PG", raising=False)

    def write(password):
        credentials.write_text(f"PG=box7:{password}\n")
        credentials.chmod(0o600)

    write("p@s:s")
    b = box("b", place=address.replace("//postgres:", "//{PG}:").replace("{PG}:@", "{PG}@"))
    ada = walker()
    b.enroll("Ada", ada, consent="signed")
    execute(
        server,
        "ALTER ROLE box7 PASSWORD 'another'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'box7'",
    )
    until(lambda: b._link._fault is not None, "the old password is refused")
    with pytest.raises(ServerRefuses, match="refuses the user or the password"):
        b.identify(ada, threshold=0.1)
    assert "refuses the user or the password" in b.fault
    write("another")
    until(lambda: b._link._fault is None, "the new password is taken over")
    assert b.identify(ada, threshold=0.1).name == "Ada"


def _refused(box, place):
    try:
        box("z", place=place).close()
    except GalleryError as err:
        return f"{err.code}: {err}"
    return None


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("FATAL:  Passwort-Authentifizierung fehlgeschlagen", ServerRefuses, "refuses this box"),
        ("ВАЖНО:  роль не существует", ServerRefuses, "refuses this box"),
        ("FATAL:  the database system is starting up", ServerAway, "not ready yet"),
        ("FATAL:  sorry, too many clients already", ServerAway, "no connection left"),
        ("FATAL:  remaining connection slots are reserved for", ServerAway, "no connection left"),
        ("Connection refused\n\tIs the server running?", ServerAway, "does not answer"),
        ("server closed the connection unexpectedly", ServerAway, "does not answer"),
        ("session is read-only", ServerAway, "the primary server"),
    ],
)
def test_a_refusal_is_known_in_any_language(text, kind, words):
    text = f'connection failed: connection to server at "10.0.0.5", port 5432 failed: {text}'
    err = server_errors.of_connecting(psycopg.OperationalError(text), "postgresql://db/people")
    assert type(err) is kind
    assert words in str(err)


def test_a_change_whose_confirmation_is_lost_is_in_doubt(box, walker, address, server):
    with cable(server.pgdata) as line:
        b = box("b", place=f"{port_of(address, '')}?host={line.folder}")
        b.enroll("Ada", walker(), consent="signed")
        line.cut_behind = (b"LOCK TABLE", b"COMMIT")
        with pytest.raises(ServerAway, match="whether the change is there is not known"):
            b.enroll("Eve", walker(), consent="signed")
        until(lambda: names(b) == ["Ada", "Eve"], "the box sees that it was stored")


def test_a_server_that_says_nothing_any_more_is_away(box, walker, monkeypatch, sql, caplog):
    ada = walker()
    b = box("b")
    b.enroll("Ada", ada, consent="signed")
    monkeypatch.setattr(postgres_rows, "SILENT_S", 0.5)
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'cstl-edge'"
    (process,) = [row[0] for row in sql(f"{query} AND datname = current_database()").fetchall()]
    os.kill(process, signal.SIGSTOP)
    try:
        until(lambda: "searches go on in the replica" in caplog.text, "the silence is noticed")
        assert b.identify(ada, threshold=0.1).name == "Ada"
    finally:
        os.kill(process, signal.SIGCONT)
    until(lambda: b.online, "the box connects again")


def test_whoever_listens_and_is_no_server_holds_up_no_answer(
    box, walker, address, server, monkeypatch
):
    ada = walker()
    with cable(server.pgdata) as line:
        b = box("b", place=f"{port_of(address, '')}?host={line.folder}")
        b.enroll("Ada", ada, consent="signed")
        line.cut()
        until(lambda: not b.online, "the loss is noticed")
        tries = []
        monkeypatch.setattr(b._link, "_try", lambda: tries.append(1))
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"{line.folder}/.s.PGSQL.5432")
            listening.listen()
            for _ in range(20):
                assert b.identify(ada, threshold=0.1).name == "Ada"
        assert not tries
        os.unlink(f"{line.folder}/.s.PGSQL.5432")


@pytest.mark.parametrize(
    ("fault", "mended", "words"),
    [
        (
            "ALTER ROLE postgres SET default_transaction_read_only = on",
            "ALTER ROLE postgres RESET default_transaction_read_only",
            "takes no changes, since it is a standby or set to read only",
        ),
        (
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE"
            " EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;"
            " CREATE TRIGGER f BEFORE INSERT ON cstl_edge.people EXECUTE FUNCTION full_disk()",
            "DROP TRIGGER f ON cstl_edge.people",
            "has no room on its disk",
        ),
    ],
)
def test_a_server_that_takes_no_changes_goes_on_to_be_read(box, walker, sql, fault, mended, words):
    ada = walker()
    box("a").enroll("Ada", ada, consent="signed")
    sql(fault)
    try:
        b = box("b")
        with pytest.raises(GalleryError, match=rf"{words}.*nothing was changed"):
            b.enroll("Eve", walker(), consent="signed")
        assert b.identify(ada, threshold=0.1).name == "Ada"
        assert b.online
        assert b._link._fault is None
    finally:
        sql(mended)
    until(lambda: names(box("c")) == ["Ada"], "nothing was changed")


def test_limits_that_the_server_sets_do_not_stop_an_erasure(box, walker, sql, server):
    sql("ALTER ROLE postgres SET statement_timeout = 1")
    try:
        a = box("a")
        a.enroll("Ada", walker(), consent="signed")
        a.remove("Ada")
        assert a.unfinished == ()
    finally:
        execute(server, "SET statement_timeout = 0", "ALTER ROLE postgres RESET statement_timeout")


def test_a_full_server_is_away(box, walker, address, server, sql):
    ada = walker()
    box("a").enroll("Ada", ada, consent="signed")
    execute(server, "CREATE ROLE crowded LOGIN SUPERUSER", "ALTER ROLE crowded CONNECTION LIMIT 0")
    execute(server, "ALTER ROLE crowded NOSUPERUSER", "GRANT postgres TO crowded")
    place = address.replace("//postgres:", "//crowded:")
    with pytest.raises(ServerAway, match="has no connection left for this box"):
        box("b", place=place)
    execute(server, "ALTER ROLE crowded CONNECTION LIMIT 1")
    b = box("b", place=place)
    assert b.identify(ada, threshold=0.1).name == "Ada"


def test_whoever_does_not_own_the_tables_says_what_an_erasure_leaves(
    box, walker, address, server, sql, caplog
):
    a = box("a")
    a.enroll("Ada", walker(), consent="signed")
    a.enroll("Eve", walker(), consent="signed")
    execute(server, "CREATE ROLE guest LOGIN", "CREATE ROLE looker2 LOGIN")
    sql("GRANT USAGE ON SCHEMA cstl_edge TO guest, looker2")
    sql("GRANT ALL ON ALL TABLES IN SCHEMA cstl_edge TO guest")
    sql("GRANT SELECT ON ALL TABLES IN SCHEMA cstl_edge TO looker2")
    a._link._next_finish_s = np.inf  # it does not finish what the guest leaves
    guest = box("guest", place=address.replace("//postgres:", "//guest:"))
    assert guest.remove("Ada") == 3
    assert "did not write all tables anew" in guest.unfinished[0]
    assert "GRANT gallery TO box7" in caplog.text
    looker = box("looker", place=address.replace("//postgres:", "//looker2:"))
    assert names(looker) == ["Eve"]  # what is left is nothing that stops its answers
    assert looker._link._fault is None
    a._link._next_finish_s = 0.0
    until(lambda: not a._link._server.head().unfinished, "the owner finishes it")


def test_one_box_at_a_time_writes_the_tables_anew(box, walker, sql):
    a, b = box("a"), box("b")
    a.enroll("Ada", walker(), consent="signed")
    sql(f"SELECT pg_advisory_lock({postgres_rows._REWRITE_LOCK})")
    with b._link._lock, b._link._server.alone(wait=False) as is_alone:
        assert not is_alone
    sql(f"SELECT pg_advisory_unlock({postgres_rows._REWRITE_LOCK})")
    with b._link._lock, b._link._server.alone(wait=False) as is_alone:
        assert is_alone
    a.remove("Ada")
    assert a.unfinished == ()


def test_a_server_that_is_set_back_brings_nobody_back(box, walker, sql, caplog):
    a, b = box("a"), box("b")
    ada = walker()
    a.enroll("Ada", ada, consent="signed")
    a.enroll("Eve", walker(), consent="signed")
    for table in TABLES:
        sql(f"CREATE TABLE old_{table} AS SELECT * FROM cstl_edge.{table}")
    a.remove("Ada")
    a.enroll("Bob", walker(), consent="signed")
    until(lambda: names(b) == ["Bob", "Eve"], "the replica follows")
    a.close()
    restore = [f"DELETE FROM cstl_edge.{table}" for table in reversed(TABLES)]
    restore += [f"INSERT INTO cstl_edge.{table} SELECT * FROM old_{table}" for table in TABLES]
    sql("BEGIN; " + "; ".join(restore) + "; COMMIT")
    until(lambda: "was set back to an earlier state" in caplog.text, "it is noticed")
    until(lambda: names(b) == ["Eve"], "the replica follows again")
    assert b.identify(ada, threshold=0.1).name is None
    assert names(box("c")) == ["Eve"]
    assert box("c").verify() == []


def test_a_pooler_of_transactions_is_refused():
    def connection(*processes):
        left = [*processes]
        return SimpleNamespace(
            execute=lambda _: SimpleNamespace(fetchone=lambda: (left.pop(0),)),
            info=SimpleNamespace(backend_pid=1),
            close=lambda: None,
        )

    def refuse(ours, theirs):
        other = SimpleNamespace(connect=lambda **_: contextlib.nullcontext(connection(*theirs)))
        rows = SimpleNamespace(path="postgresql://db/people")
        postgres_rows.PostgresRows._refuse_pooler(rows, other, connection(*ours), {})

    refuse([1], [])  # PostgreSQL itself
    refuse([7, 7], [8])  # a pool of sessions
    for ours, theirs in (([7, 7], [7]), ([7, 9], [8])):
        with pytest.raises(GalleryError, match="pool_mode = session"):
            refuse(ours, theirs)


def test_why_sums_of_cameras_are_not_exchanged_is_said_once(
    box, walker, address, server, sql, caplog
):
    box("a").enroll("Ada", walker(), consent="signed")
    execute(server, "CREATE ROLE looker3 LOGIN")
    sql("GRANT USAGE ON SCHEMA cstl_edge TO looker3")
    sql("GRANT SELECT ON ALL TABLES IN SCHEMA cstl_edge TO looker3")
    b = box("b", place=address.replace("//postgres:", "//looker3:"))
    b.camera_means.save(CameraMean.empty("yard", "a" * 64, 4, 4).with_walk(np.ones((4, 4))))
    exchanges, run = [], b._link._exchange_cameras

    def exchange():
        run()
        exchanges.append(1)

    b._link._exchange_cameras = exchange

    def exchange_again():
        before = len(exchanges)
        b._link._cameras_s = -np.inf
        until(lambda: len(exchanges) > before, "an exchange is tried")

    for _ in range(3):
        exchange_again()
    assert caplog.text.count("sums of cameras are not exchanged") == 1
    sql("GRANT ALL ON ALL TABLES IN SCHEMA cstl_edge TO looker3")
    exchange_again()
    assert [mean.camera for mean in box("c").camera_means.all()] == ["yard"]
    sql("REVOKE INSERT, UPDATE ON ALL TABLES IN SCHEMA cstl_edge FROM looker3")
    b.camera_means.save(CameraMean.empty("door", "a" * 64, 4, 4).with_walk(np.ones((4, 4))))
    exchange_again()
    assert caplog.text.count("sums of cameras are not exchanged") == 2

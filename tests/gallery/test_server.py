"""A gallery on a real PostgreSQL: same rules as a file's, answers without the network."""

import contextlib
import socket
from datetime import datetime

import numpy as np
import pytest
from standin_postgres import cable, execute, until

from cstl_edge.errors import ConfigError, GalleryError
from cstl_edge.gallery import postgres, replica_cameras, server_link
from cstl_edge.gallery.gallery import Gallery
from cstl_edge.gallery.keys import GalleryKey
from cstl_edge.gallery.records import WalkOrigin
from cstl_edge.gallery.server_address import is_server, server_address
from cstl_edge.gallery.server_errors import away
from cstl_edge.gallery.server_link import SKEW
from cstl_edge.gallery.server_probe import ServerProbe


def names(gallery):
    return [person.name for person in gallery.people()]


def test_what_one_box_changes_the_other_takes_over(box, walker, other_model):
    a, b = box("a"), box("b")
    ada, eve = walker(), walker()
    a.enroll("Ada", ada, consent="signed", retention_days=9, origin=WalkOrigin(camera="door"))
    b.enroll("Eve", eve, consent="signed")  # after what the first wrote
    until(lambda: names(a) == ["Ada", "Eve"], "the replica follows")
    assert a.identify(eve, threshold=0.1).name == "Eve"
    assert b.identify(ada, threshold=0.1).name == "Ada"
    assert b.show("ada").expires_utc == a.show("Ada").expires_utc
    with pytest.raises(GalleryError, match="already Ada"):
        b.enroll("Bob", ada, consent="yes")
    b.rename("Eve", "Eva")
    a.merge("Ada", "Eva")
    until(lambda: names(b) == ["Ada"], "the merge arrives")
    assert b.show("Ada").templates == 6
    assert a.remove("Ada") == 6
    until(lambda: names(b) == [], "the erasure arrives")
    assert b.identify(ada, threshold=0.1).name is None
    assert a.verify() == b.verify() == []
    assert a.unfinished == ()
    b.enroll("Eve", eve, consent="signed")
    with pytest.raises(GalleryError, match="re-enroll"):
        box("c", model=other_model)


def test_nothing_of_an_erased_person_stays_in_tables_and_replicas(box, walker, server, tmp_path):
    from standin_postgres import residue

    marked = np.full((1, 4, 4), 1.2345, np.float32)
    needle = marked.astype("<f2").tobytes()
    a, b = box("a"), box("b")
    a.enroll("Ada", marked, consent="signed")
    until(lambda: names(b) == ["Ada"], "the replica follows")
    a.backup(tmp_path / "backup.db")
    a._link._server._connection.execute("CHECKPOINT")
    assert residue(server.pgdata, needle)
    b.remove("Ada")
    until(lambda: names(a) == [], "the erasure arrives")
    until(lambda: not a._file.head().unfinished, "the replica is written anew")
    a._link._server._connection.execute("CHECKPOINT")
    assert not residue(server.pgdata, needle)
    for path in [*tmp_path.rglob("*.db*")]:
        assert needle not in path.read_bytes(), path


def test_a_box_answers_while_the_server_is_away_and_misses_no_erasure(box, walker, address):
    a, b = box("a"), box("b")
    ada, eve = walker(), walker()
    a.enroll("Ada", ada, consent="signed")
    a.enroll("Eve", eve, consent="signed")
    until(lambda: len(names(b)) == 2, "the replica follows")
    link = b._link
    with link._lock:  # nothing reaches the server
        link._server.close()
        connect, link._server._connect = (
            link._server._connect,
            lambda: (_ for _ in ()).throw(away(OSError("no route to host"), "db.local")),
        )
    until(lambda: not link.is_online, "the loss is noticed")
    assert b.identify(ada, threshold=0.1).name == "Ada"
    with pytest.raises(GalleryError, match="nothing was changed"):
        b.enroll("Bob", walker(), consent="signed")
    b.learn(walker(), "yard")  # kept until the server is back
    a.remove("Ada")
    link._server._connect = connect
    until(lambda: link.is_online, "the server is back")
    assert b.identify(ada, threshold=0.1).name is None
    assert names(b) == ["Eve"]


def test_the_first_answer_after_the_network_is_back_knows_what_was_erased(
    box, walker, address, model, monkeypatch, tmp_path
):
    a, ada = box("a"), walker()
    a.enroll("Ada", ada, consent="signed")
    a.enroll("Eve", walker(), consent="signed")
    parameters = server_address(address).parameters
    with cable(parameters["host"]) as line:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "b"))
        place = f"postgresql://postgres@/{parameters['dbname']}?host={line.folder}"
        with Gallery.open(place, model) as b:
            assert b.identify(ada, threshold=0.1).name == "Ada"
            monkeypatch.setattr(server_link, "LOOK_S", 600.0)  # from now on answers alone look
            monkeypatch.setattr(ServerProbe.answers, "__defaults__", (5.0,))  # of a busy machine
            line.cut()
            until(lambda: not b.online, "the loss is noticed")
            a.remove("Ada")
            for _ in range(3):
                assert b.identify(ada, threshold=0.1).name == "Ada"  # as far as it knows
            line.mend()
            assert b.identify(ada, threshold=0.1).name is None
            assert b.online
            assert names(b) == ["Eve"]


def test_a_probe_tells_whether_a_server_answers(server):
    listening = socket.create_server(("127.0.0.1", 0))
    probe = ServerProbe({"host": "127.0.0.1", "port": listening.getsockname()[1]})
    assert not probe.answers()  # its address is not known
    probe.resolve()
    assert probe.is_resolved
    assert not probe.answers(wait_s=0.1)  # something listens and says nothing
    with listening.accept()[0] as asked:
        assert asked.recv(8) == b"\0\0\0\x08\x04\xd2\x16/"  # SSLRequest
        asked.sendall(b"N")
        assert probe.answers(wait_s=60)
    listening.close()
    assert not probe.answers(wait_s=60)
    probe.close()
    several = ServerProbe({"host": f"/nowhere,{server.pgdata}"})
    several.resolve()
    until(lambda: several.answers(wait_s=0.1), "the second of two servers answers", 10)
    several.close()


def test_a_box_that_was_off_takes_over_an_erasure_before_its_first_answer(box, walker):
    a, b = box("a"), box("b")
    ada = walker()
    a.enroll("Ada", ada, consent="signed")
    b.close()
    a.remove("Ada")
    assert box("b").identify(ada, threshold=0.1).name is None


def test_sums_of_cameras_are_learned_here_and_known_everywhere(box, walker, rng):
    from cstl_edge.gallery.camera_means import CameraMean

    a, b = box("a"), box("b")
    for gallery, camera, walks in ((a, "door", 3), (b, "yard", 5)):
        mean = CameraMean.empty(camera, "a" * 64, 4, 4)
        for _ in range(walks):
            mean = mean.with_walk(rng.standard_normal((4, 4)))
        gallery.camera_means.save(mean)
        gallery._link._cameras_s = -np.inf

    def seen(gallery):
        gallery._link._cameras_s = -np.inf
        return {mean.camera: mean.walks for mean in gallery.camera_means.all()}

    both = {"door": 3, "yard": 5}
    until(lambda: seen(a) == seen(b) == both, "both have both")
    b.camera_means.forget("yard")
    until(lambda: seen(a) == seen(b) == {"door": 3}, "a camera is forgotten")
    assert a.verify() == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("known", [False, True], ids=["new", "exchanged"])
def test_what_changes_during_an_exchange_is_not_lost(box, rng, monkeypatch, when, known):
    """A camera is forgotten, another learned from, before or after the sums are taken."""
    from cstl_edge.gallery.camera_means import CameraMean
    from cstl_edge.gallery.replica_cameras import CameraSync

    a = box("a")
    link = a._link
    monkeypatch.setattr(link, "_exchange_cameras", lambda: None)  # by hand, here

    def mean(camera, walks):
        made = CameraMean.empty(camera, "a" * 64, 4, 4)
        for _ in range(walks):
            made = made.with_walk(rng.standard_normal((4, 4)))
        return made

    def exchange():
        with link._lock:
            CameraSync(link._server, link._replica, link.clock).run()

    def walks(means):
        return {mean.camera: mean.walks for mean in means.all()}

    a.camera_means.save(mean("yard", 5))
    a.camera_means.save(mean("door", 3))
    if known:
        exchange()
    take, calls = replica_cameras.take_cameras, []

    def interrupted(*args):
        calls.append(when)
        if when == "before" and len(calls) == 1:
            change()
        taken = take(*args)
        if when == "after" and len(calls) == 1:
            change()
        return taken

    def change():
        a.camera_means.forget("yard")
        a.camera_means.save(mean("door", 7))

    monkeypatch.setattr(replica_cameras, "take_cameras", interrupted)
    exchange()
    assert len(calls) == 2
    theirs = CameraSync(link._server, link._replica, link.clock)._theirs
    assert walks(a.camera_means) == walks(theirs) == {"door": 7}
    exchange()
    assert walks(a.camera_means) == walks(theirs) == {"door": 7}


def test_an_encrypted_gallery_is_encrypted_on_the_server_and_in_replicas(
    box, walker, server, tmp_path
):
    from standin_postgres import residue

    key = GalleryKey(passphrase="correct horse")
    ada = walker()
    a = box("a", key=key, encrypt=True)
    a.enroll("Ada Lovelace", ada, consent="signed on paper")
    assert box("b", key=key).identify(ada, threshold=0.1).name == "Ada Lovelace"
    a._link._server._connection.execute("CHECKPOINT")
    for needle in (b"Lovelace", b"on paper", ada[0].astype("<f2").tobytes()):
        assert not residue(server.pgdata, needle)
        for path in tmp_path.rglob("*.db*"):
            assert needle not in path.read_bytes()
    with pytest.raises(GalleryError, match="not its passphrase"):
        box("c", key=GalleryKey(passphrase="wrong horse"))
    a.rekey(GalleryKey(passphrase="another horse"))
    assert names(a) == ["Ada Lovelace"]
    assert names(box("d", key=GalleryKey(passphrase="another horse"))) == ["Ada Lovelace"]


def test_the_clock_of_the_server_decides(box, walker, monkeypatch, caplog):
    from datetime import timedelta

    from cstl_edge.gallery.people import utc_now
    from cstl_edge.gallery.postgres import PostgresRows

    later, ada = [timedelta()], walker()
    monkeypatch.setattr(PostgresRows, "now", lambda _: utc_now() + later[0])
    a = box("a", clock=lambda: utc_now() - timedelta(hours=1))
    b = box("b", clock=lambda: utc_now() + timedelta(hours=1))
    assert "60 min behind that of the gallery server" in caplog.text
    assert caplog.text.count("60 min ahead of that of the gallery server") == 1
    a.enroll("Ada", ada, consent="signed", retention_days=0.5)
    b.enroll("Eve", walker(), consent="signed")
    created = [datetime.fromisoformat(person.created_utc[:-1]) for person in b.people()]
    assert abs(created[1] - created[0]) < timedelta(minutes=5)
    later[0] = timedelta(hours=11.5)  # half an hour before the end, or after it for the second box
    for gallery in (a, b):
        until(lambda g=gallery: abs(g._link.clock() - utc_now() - later[0]) < SKEW, "it is heard")
        assert gallery.identify(ada, threshold=0.1).name == "Ada"
        assert gallery.purge() == ()
    later[0] = timedelta(hours=12.5)
    for gallery in (a, b):
        until(lambda g=gallery: g.identify(ada, threshold=0.1).name is None, "it ends")
    assert a.purge() == ("Ada",)
    assert names(box("c")) == ["Eve"]


def test_addresses_show_no_password(monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PG", "box:s3cr/t@")
    for text in ("postgresql://{PG}@db.local:5433/people", "postgresql:/{PG}@db.local:5433/people"):
        address = server_address(text)
        assert address.parameters["password"] == "s3cr/t@"
        assert address.shown == repr(address) == "postgresql://db.local:5433/people"
    assert is_server("postgres://h/d")
    assert not is_server("people.db")
    assert not is_server("C:/people.db")
    with pytest.raises(ConfigError, match="expected a file, or postgresql://"):
        is_server("mysql://u:s3cr@h/d")
    for bad in ("postgresql://{PG}@h/d?bad=1", "postgresql://{PG}@h"):
        with pytest.raises(ConfigError, match="expected postgresql://") as refused:
            server_address(bad)
        assert "s3cr" not in str(refused.value)
    with pytest.raises(ConfigError, match="no credentials"):
        server_address("postgresql://{NOBODY_KNOWS}@h/d")


def test_a_server_that_is_away_at_the_start_is_said(model, tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(GalleryError, match="does not answer") as refused:
        Gallery.open("postgresql://box:s3cret@127.0.0.1:1/people", model)
    assert "s3cret" not in str(refused.value)
    assert refused.value.exit_code == 6


def test_a_missing_gallery_is_not_made_by_those_who_read(box):
    with pytest.raises(GalleryError, match="there is no gallery"):
        box("a", create=False)


def _garbage(path):
    path.write_bytes(b"garbage" * 1000)


def _half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _a_template(path):
    import sqlite3

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        (body,) = db.execute("SELECT body FROM templates ORDER BY id LIMIT 1").fetchone()
        flipped = bytes([body[0] ^ 4]) + body[1:]
        db.execute("UPDATE templates SET body = ? WHERE body = ?", (flipped, body))


@pytest.mark.parametrize("damage", [_garbage, _half, _a_template])
def test_a_damaged_replica_is_copied_from_the_server_again(box, walker, damage):
    ada = walker()
    with box("a") as a:
        a.enroll("Ada", ada, consent="signed")
        a.enroll("Eve", walker(), consent="signed")
        path = a.path
    damage(path)
    again = box("a")
    assert again.identify(ada, threshold=0.1).name == "Ada"
    assert names(again) == ["Ada", "Eve"]
    assert again.verify() == []
    assert not path.with_name(path.name + ".damaged").exists()


def test_a_template_that_breaks_while_a_box_runs_is_copied_again(box, walker):
    a, ada = box("a"), walker()
    a.enroll("Ada", ada, consent="signed")
    _a_template(a.path)
    a._cache = None
    assert a.identify(ada, threshold=0.1).name == "Ada"
    assert a.verify() == []
    _a_template(a.path)
    a.repair()  # as `gallery verify --repair` does
    assert a.verify() == []
    assert names(a) == ["Ada"]


def test_what_is_damaged_on_the_server_is_not_hidden_by_copies(box, walker, server, address):
    a, ada = box("a"), walker()
    a.enroll("Ada", ada, consent="signed")
    link = a._link
    link._server._connection.execute("UPDATE templates SET body = set_byte(body, 3, 7)")
    with pytest.raises(GalleryError, match="a template of 'Ada' is damaged"):
        box("b").identify(ada, threshold=0.1)


def test_a_box_that_the_server_lets_in_no_more_gives_no_answers(
    box, walker, server, address, model, monkeypatch, tmp_path
):
    ada = walker()
    box("a").enroll("Ada", ada, consent="signed")
    execute(server, "CREATE ROLE door LOGIN SUPERUSER")
    theirs = address.replace("//postgres:", "//door:")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "door"))
    with Gallery.open(theirs, model) as door:
        assert door.identify(ada, threshold=0.1).name == "Ada"
        execute(
            server,
            "ALTER ROLE door NOLOGIN",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'door'",
        )
        until(lambda: door._link._fault is not None, "the refusal is noticed")
        with pytest.raises(GalleryError, match="does not let this user in"):
            door.identify(ada, threshold=0.1)
        execute(server, "ALTER ROLE door LOGIN")
        until(lambda: door._link._fault is None, "the box is let in again")
        assert door.identify(ada, threshold=0.1).name == "Ada"
    execute(server, "ALTER ROLE door NOLOGIN")
    with pytest.raises(GalleryError, match="does not let this user in"):
        Gallery.open(theirs, model)


def test_a_user_who_may_only_read_recognises_and_changes_nothing(
    box, walker, server, address, model, monkeypatch, tmp_path, caplog
):
    import psycopg

    from cstl_edge.gallery.camera_means import CameraMean

    ada = walker()
    box("a").enroll("Ada", ada, consent="signed")
    execute(server, "CREATE ROLE looker LOGIN")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("GRANT USAGE ON SCHEMA cstl_edge TO looker")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA cstl_edge TO looker")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "looker"))
    with Gallery.open(address.replace("//postgres:", "//looker:"), model) as gallery:
        mean = CameraMean.empty("yard", "a" * 64, 4, 4).with_walk(np.ones((4, 4)))
        gallery.camera_means.save(mean)
        gallery._link._cameras_s = -np.inf
        until(lambda: "are not exchanged" in caplog.text, "the exchange is refused")
        assert gallery.identify(ada, threshold=0.1).name == "Ada"
        assert gallery._link._fault is None
        with pytest.raises(GalleryError, match="take the user who made the schema"):
            gallery.remove("Ada")
        assert names(gallery) == ["Ada"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("DELETE FROM cstl_edge.version", "its table 'version' is not what was written"),
        ("ALTER TABLE cstl_edge.version ALTER version TYPE text", "not what was written"),
        ("UPDATE cstl_edge.version SET version = 3", "has schema 3, this version reads 2"),
        ("ALTER TABLE cstl_edge.people RENAME body TO b", "its tables are not those of a gallery"),
        ("DROP TABLE cstl_edge.tombstones", "its tables are not those of a gallery"),
        ("DELETE FROM cstl_edge.head", "has no head"),
    ],
)
def test_a_schema_that_is_not_ours_is_refused(box, walker, address, damage, words):
    import psycopg

    with box("a") as a:
        a.enroll("Ada", walker(), consent="signed")
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(damage)
    with pytest.raises(GalleryError, match=words) as refused:
        box("b")
    assert refused.value.exit_code == 6


def test_refusals_say_what_is_in_the_way(box, server, model, address, monkeypatch, tmp_path):
    box("a")
    execute(server, "CREATE ROLE reader LOGIN")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "b"))
    for place, words in (
        (address.replace("//postgres:", "//reader:"), "may not use the schema cstl_edge"),
        (address.replace("/gallery", "/nothing"), "has no such database or user"),
        (f"{address}&port=1", "does not answer"),
    ):
        with pytest.raises(GalleryError, match=words):
            Gallery.open(place, model)
    execute(server, "DROP ROLE reader")
    monkeypatch.setattr(postgres, "OLDEST", 99)
    with pytest.raises(GalleryError, match=r"PostgreSQL 16, expected 99 or newer: update it"):
        Gallery.open(address, model)

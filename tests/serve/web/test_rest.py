"""REST: what each operation asks of the service, what it answers, and what it refuses."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import pytest
from standin_front import ago

from cstl_edge.live.events import Event
from cstl_edge.serve.messages import Reply
from cstl_edge.serve.outputs.base import OutputHealth
from cstl_edge.serve.store import Store
from cstl_edge.serve.store_rows import PersonRow, VisitRow
from cstl_edge.serve.web.rest.openapi import describe
from cstl_edge.serve.web.rest.table import OPERATIONS

MP4 = b"\x00\x00\x00\x20ftypisom" + b"\x00" * 500
NOTE = "agreed at the door"


@pytest.fixture
def store(page):
    store = Store(page.front.site.data)
    yield store
    store.close()


def visit(number, camera="door", **fields):
    row = {
        "id": f"v{number}",
        "camera": camera,
        "started_utc": ago(number + 1),
        "seen_utc": ago(number),
        "ended_utc": ago(number),
        "journey": "j1",
    }
    return VisitRow(**{**row, **fields})


@pytest.mark.parametrize(
    ("method", "path", "body", "command"),
    [
        ("PATCH", "/people/Ada", {"name": "Ida"},
         ("people.rename", {"person": "Ada", "name": "Ida"})),
        ("POST", "/people/A%2FB/merge", {"other": "Bo"},
         ("people.merge", {"person": "A/B", "other": "Bo"})),
        ("POST", "/unmerge", {"merge": 3}, ("people.unmerge", {"merge": 3})),
        ("DELETE", "/people/Ada", None, ("people.erase", {"person": "Ada"})),
        ("POST", "/unknowns/7/name", {"person": "Ada", "note": NOTE},
         ("unknowns.name", {"cluster": 7, "person": "Ada", "note": NOTE})),
        ("POST", "/unknowns/7/join", {"other": 8}, ("unknowns.join", {"cluster": 7, "other": 8})),
        ("POST", "/unjoin", {"merge": 3}, ("unknowns.unjoin", {"merge": 3})),
        ("POST", "/unknowns/7/ignored", {"ignored": True},
         ("unknowns.ignore", {"cluster": 7, "ignored": True})),
        ("DELETE", "/unknowns/7", None, ("unknowns.erase", {"cluster": 7})),
        ("POST", "/cameras/door/restart", None, ("service.restart", {"camera": "door"})),
        (
            "POST",
            "/processes/recogniser/restart",
            None,
            ("service.restart", {"process": "recogniser"}),
        ),
        ("POST", "/reload", None, ("service.reload", {})),
    ],
)  # fmt: skip
def test_what_is_asked_becomes_a_command_of_the_user(page, method, path, body, command):
    page.front.answers |= {"people.merge": {"merge": 1}, "unknowns.join": {"merge": 1}}
    answer = page.program().request(method, f"/api/v1{path}", json=body)
    assert answer.status_code in (200, 204), answer.text
    assert page.front.done() == [(*command, "admin", "admin")]


def test_a_correction_moves_a_visit_and_can_be_taken_back(page, store):
    store.put_visit(visit(1))
    client = page.program()
    for person in ("Ada", None):
        assert (
            client.post("/api/v1/visits/v1/correction", json={"person": person}).status_code == 204
        )
    assert client.delete("/api/v1/visits/v1/correction").status_code == 204
    assert [c[:2] for c in page.front.done()] == [
        ("visits.correct", {"visit": "v1", "person": "Ada"}),
        ("visits.correct", {"visit": "v1", "person": None}),
        ("visits.undo", {"visit": "v1"}),
    ]
    assert client.post("/api/v1/visits/v9/correction", json={"person": None}).status_code == 404


@pytest.mark.parametrize(
    ("code", "status"),
    [("not-found", 404), ("conflict", 409), ("away", 503), ("timeout", 504), ("gallery", 422)],
)
def test_a_refusal_is_a_problem_with_its_code(page, code, status):
    page.front.answers["people.erase"] = Reply("1", False, None, code, "it is\nso")
    answer = page.program().delete("/api/v1/people/Ada")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["code"], body["status"], body["title"]) == (code, status, "it is\\nso")
    assert body["type"].endswith(code)


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"name": ""}, "name"),
        ({"nam": "Ida"}, "nam"),
        ({"name": 7}, "name"),
        ([], "body"),
    ],
)
def test_a_body_that_does_not_fit_names_the_member(page, body, part):
    answer = page.program().patch("/api/v1/people/Ada", json=body)
    assert answer.status_code == 422
    assert part in answer.json()["detail"]
    assert page.front.done() == []


def test_bodies_are_json_and_short(page):
    client = page.program()
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert client.patch("/api/v1/people/A", content=b"name=B", headers=form).status_code == 415
    json_type = {"content-type": "application/json"}
    assert client.patch("/api/v1/people/A", content=b"{", headers=json_type).status_code == 422
    big = json.dumps({"name": "x" * 100_000}).encode()
    assert client.patch("/api/v1/people/A", content=big, headers=json_type).status_code == 413
    assert page.front.done() == []


def test_queries_that_do_not_fit_are_refused(page):
    client = page.program()
    for query in (
        "limit=0",
        "limit=501",
        "answer=maybe",
        "x=1",
        "limit=1&limit=2",
        "since=yesterday",
    ):
        assert client.get(f"/api/v1/visits?{query}").status_code == 422, query


def test_there_is_no_other_operation(page):
    client = page.program()
    for method, path in (("GET", "/nothing"), ("PUT", "/people/Ada"), ("POST", "/cameras")):
        answer = client.request(method, f"/api/v1{path}")
        assert answer.status_code in (404, 405), path


def test_visits_come_with_pictures_of_the_session(page, store):
    media = page.front.site.data / "media"
    media.mkdir(exist_ok=True)
    (media / "m1.jpg").write_bytes(b"jpeg")
    store.put_visit(visit(1, answer="known", person="Ada", snapshot="m1"))
    store.put_visit(visit(2, camera="yard"))
    store.write(
        "INSERT INTO media VALUES ('m1', 'snapshot', 'v1', 'm1.jpg', 'image/jpeg', 4, ?)", ago(1)
    )
    client = page.browser()
    rows = client.get("/api/v1/visits").json()["visits"]
    assert [(row["id"], row["camera"]) for row in rows] == [("v1", "door"), ("v2", "yard")]
    assert client.get("/api/v1/visits?camera=yard").json()["visits"][0]["id"] == "v2"
    answer = page.program().get("/api/v1/media/m1")
    assert (answer.content, answer.headers["content-type"]) == (b"jpeg", "image/jpeg")
    part = client.get(rows[0]["snapshot_url"], headers={"range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, b"pe")
    detail = client.get("/api/v1/visits/v1").json()
    assert [step["id"] for step in detail["journey"]] == ["v2", "v1"]
    (media / "m1.jpg").unlink()
    assert client.get("/api/v1/media/m1").status_code == 404


def test_a_viewer_sees_no_visit_or_picture_of_another_camera(make_page, tmp_path):
    (tmp_path / "bo").write_text("b" * 30)
    user = {"name": "bo", "token_file": tmp_path / "bo", "cameras": ["yard"]}
    page = make_page(page={"users": [user]})
    store = Store(page.front.site.data)
    store.put_visit(visit(1, answer="known", person="Ada", snapshot="m1"))
    store.put_visit(visit(2, camera="yard"))
    store.write(
        "INSERT INTO media VALUES ('m1', 'snapshot', 'v1', 'm1.jpg', 'image/jpeg', 4, ?)", ago(1)
    )
    store.add_event(Event(event="closed", source="a", camera="door", visit="v1", person="Ada"))
    store.add_event(Event(event="closed", source="a", camera="yard", visit="v2"))
    store.close()
    client = page.client()
    client.headers["authorization"] = "Bearer " + "b" * 30
    assert [row["id"] for row in client.get("/api/v1/visits").json()["visits"]] == ["v2"]
    assert client.get("/api/v1/visits/v1").status_code == 404
    assert client.get("/api/v1/media/m1").status_code == 404
    assert [step["id"] for step in client.get("/api/v1/visits/v2").json()["journey"]] == ["v2"]
    events = client.get("/api/v1/events").json()["events"]
    assert [row["event"]["camera"] for row in events] == ["yard"]
    assert client.get("/api/v1/here").json()["last"] == []


def test_events_continue_where_one_is_and_wait_for_the_next(page, store):
    for number in range(3):
        store.add_event(Event(event="born", source="a", camera="door", track=number))
    client = page.program()
    newest = client.get("/api/v1/events?limit=2").json()
    assert ([row["event"]["track"] for row in newest["events"]], newest["last"]) == ([2, 1], 3)
    after = client.get("/api/v1/events?after=1").json()
    assert ([row["event"]["track"] for row in after["events"]], after["last"]) == ([1, 2], 3)
    assert client.get("/api/v1/events?after=3&wait_s=0.05").json() == {"events": [], "last": 3}


def test_people_come_with_warnings_that_the_recogniser_need_not_give(page, store):
    store.set_people([PersonRow(name="Ada", created_utc=ago(9), views=(("left", 2),))])
    warning = {"person": "Ada", "message": "this is already Bo", "other": "Bo"}
    page.front.answers["people.warnings"] = [warning]
    client = page.program()
    view = client.get("/api/v1/people").json()
    assert view["people"][0]["views"] == [["left", 2]]
    assert view["warnings"] == [warning]
    page.front.answers["people.warnings"] = Reply("1", False, None, "away", "away")
    assert client.get("/api/v1/people").json()["warnings"] == []


def test_an_erasure_that_is_not_finished_says_so(page):
    page.front.answers["people.erase"] = {"name": "", "unfinished": ["service.db-wal"]}
    answer = page.program().delete("/api/v1/people/Ada")
    assert answer.json() == {"unfinished": ["service.db-wal"]}


def test_an_export_is_sent_and_gone(page):
    spool = page.front.site.spool
    spool.mkdir(parents=True)
    path = spool / "ada.zip"
    path.write_bytes(b"zip")
    page.front.answers["people.export"] = {"path": str(path), "name": "Ädä.zip"}
    answer = page.program().get("/api/v1/people/Ada/export")
    assert answer.content == b"zip"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%84d%C3%A4.zip"
    assert not path.exists()
    page.front.answers["people.export"] = {"path": "/etc/hostname", "name": "x"}
    assert page.program().get("/api/v1/people/Ada/export").status_code == 500


def test_an_uploaded_video_lies_in_the_spool_while_it_is_read(page):
    seen = []

    def start(path, **arguments):
        with open(path, "rb") as file:
            seen.append(file.read())
        return {"id": "e", "person": "Ada", "kind": "video", "state": "done"}

    page.front.answers["enrol.start"] = start
    client = page.program()
    answer = client.post(f"/api/v1/enrolment/video?person=Ada&note={NOTE}", content=MP4)
    assert answer.json()["state"] == "done"
    assert seen == [MP4]
    assert list(page.front.site.spool.iterdir()) == []
    ((_, arguments, _, _),) = page.front.done()
    assert (arguments["person"], arguments["note"], arguments["add"]) == ("Ada", NOTE, False)


def test_uploads_are_limited_while_they_arrive(make_page):
    page = make_page(page={"max_upload_mb": 1})
    client = page.program()

    def chunks():
        yield MP4
        for _ in range(64):
            yield b"\x00" * 65536

    assert client.post("/api/v1/identify", content=chunks()).status_code == 413
    assert client.post("/api/v1/identify", content=b"\x00" * (2**20 + 1)).status_code == 413
    assert client.post("/api/v1/identify", content=b"#EXTM3U http://evil").status_code == 415
    assert client.post("/api/v1/identify", content=b"").status_code == 415
    assert page.front.done() == []
    assert list(page.front.site.spool.iterdir()) == []


def test_cameras_come_from_the_file_alone(page):
    client = page.program()
    body = {"person": "Ada", "note": NOTE, "camera": "gst:videotestsrc"}
    assert client.post("/api/v1/enrolment", json=body).status_code == 404
    assert client.post("/api/v1/enrolment", json={**body, "visit": "v1"}).status_code == 422
    assert page.front.done() == []


def test_probes_say_what_is_so(page):
    client = page.client()
    assert client.get("/livez").json() == {"alive": True}
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").json() == {"ready": True, "reasons": []}
    assert "reasons" not in page.client(address="10.0.0.9").get("/readyz").json()
    from datetime import timedelta

    from cstl_edge.serve.messages import now

    page.front.state_utc = now() - timedelta(seconds=11)
    assert client.get("/livez").status_code == 503


def test_health_tells_latencies_by_stage(page):
    client = page.program()
    with client:
        for stats in page.front.figures.values():
            client.portal.call(page.front.tell, "stats", stats)
        health = client.get("/api/v1/health").json()
    camera = next(p for p in health["processes"] if p["name"] == "camera:door")
    assert camera["latency_ms"]["segment"] == {"p50": 5.0, "p99": 9.0, "samples": 3.0}
    assert camera["memory_bytes"] == 180_000_000
    assert health["kept"]["unknowns"] is False


def test_health_tells_how_the_outputs_are(page):
    assert page.program().get("/api/v1/health").json()["outputs"] == []
    health = OutputHealth("mqtt", "mqtt", "failing", "host:1 refuses", 3, 10, {"old": 2})
    page.front.outputs = SimpleNamespace(health=lambda: (health,))
    assert page.program().get("/api/v1/health").json()["outputs"] == [asdict(health)]


def test_the_safe_mode_shows_the_error_behind_the_login(page):
    page.front.safe_mode, page.front.site_error = True, "site.yaml:3: unknown key"
    assert page.client().get("/").headers["location"] == "/login"
    client = page.browser()
    assert 'data-page="safe"' in client.get("/").text
    assert client.get("/api/v1/health").json()["site_error"] == "site.yaml:3: unknown key"


def test_the_description_names_every_operation(page):
    described = page.program().get("/api/v1/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    found = {(m.upper(), p) for p, methods in described["paths"].items() for m in methods}
    assert found == {(o.method, o.path.replace(":path", "")) for o in OPERATIONS}
    ids = [m["operationId"] for methods in described["paths"].values() for m in methods.values()]
    assert len(ids) == len(set(ids)) == len(OPERATIONS)
    text = json.dumps(described)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"], name
    assert describe(OPERATIONS, "/gait")["servers"] == [{"url": "/gait/api/v1"}]


def test_a_mistake_of_ours_tells_nothing_of_itself(page, caplog):
    def broken(**arguments):
        raise ZeroDivisionError("secret detail")

    page.front.answers["people.erase"] = broken
    answer = page.program().delete("/api/v1/people/Ada")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert "secret detail" in caplog.text

"""Who comes in: Host, Origin, login, proof, proxy, roles."""

import pytest
from pydantic import ValidationError

from cstl_edge.serve.web.door import login_url
from cstl_edge.serve.web.settings import PageSettings

PASSWORD = "walk slowly past the gate"


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


def log_in(client, user="admin", password=PASSWORD, **headers):
    headers = {"origin": str(client.base_url).rstrip("/"), **headers}
    body = {"user": user, "password": password}
    return client.post("/api/v1/session", json=body, headers=headers)


def test_without_a_login_there_is_nothing(page):
    client = page.client()
    for path in ("/api/v1/cameras", "/api/v1/events", "/api/v1/openapi.json", "/api/v1/media/x"):
        answer = client.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "login-needed"
    assert client.get("/").headers["location"] == "/login"
    assert client.get("/people").status_code == 303


def test_every_operation_needs_a_login(page):
    from cstl_edge.serve.web.rest.table import OPERATIONS

    client = page.client()
    for operation in OPERATIONS:
        if operation.role == "nobody":
            continue
        headers = {"sec-fetch-site": "same-origin"}
        answer = client.request(operation.method, f"/api/v1{operation.path}", headers=headers)
        assert answer.status_code == 401, operation.path
    assert page.front.done() == []


def test_the_printed_address_logs_in_and_its_token_is_kept(page):
    url = login_url(page.front.site)
    assert url == f"http://127.0.0.1:8765/?token={page.token}"
    client = page.browser()
    assert client.get("/api/v1/session").json()["role"] == "admin"
    assert client.get("/").status_code == 200
    assert (page.front.site.data / "token").stat().st_mode & 0o077 == 0
    assert login_url(page.front.site) == url


def test_the_printed_address_helps_a_browser_that_lost_its_proof(page):
    client = page.browser()
    lost = client.headers.pop("x-csrf-token")
    html = client.get(f"/?token={page.token}").text
    proof = html.split('name="proof" content="')[1].split('"')[0]
    assert proof != lost
    assert client.get("/api/v1/people", headers={"x-csrf-token": proof}).status_code == 200
    assert len(page.app.state.sessions.all()) == 1  # the one before has ended


def test_the_token_may_be_pasted_as_the_password(page):
    client = page.client()
    assert log_in(client, password=page.token).json()["role"] == "admin"
    assert log_in(client, user="ada", password=page.token).status_code == 401
    assert log_in(client, password="x" * 32).status_code == 401


def test_a_wrong_token_is_counted(page):
    client = page.client()
    codes = [client.get(f"/?token=wrong{n}").status_code for n in range(6)]
    assert codes == [401] * 5 + [429]
    assert client.get(f"/?token={page.token}").status_code == 429


def test_every_answer_has_the_security_headers(page):
    for answer in (page.client().get("/login"), page.client().get("/api/v1/cameras")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        for directive in ("frame-ancestors 'self'", "base-uri 'none'", "object-src 'none'"):
            assert directive in policy
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "192.168.1.9:8765"])
def test_another_host_gets_nothing(page, host):
    client = page.program()
    answer = client.get("/api/v1/cameras", headers={"host": host})
    assert answer.status_code == 421
    assert "door" not in answer.text
    assert client.get("/livez", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8765", "[::1]:8765", "127.0.0.1"])
def test_loopback_names_are_allowed(page, host):
    assert page.program().get("/api/v1/cameras", headers={"host": host}).status_code == 200


def test_further_hosts_can_be_allowed(make_page):
    page = make_page(page={"allowed_hosts": ["gait.home.arpa"]})
    client = page.program()
    assert client.get("/livez", headers={"host": "Gait.Home.Arpa:8765"}).status_code == 200
    assert client.get("/livez", headers={"host": "other.home.arpa"}).status_code == 421


NEIGHBOUR = {"origin": "http://127.0.0.1:18101", "sec-fetch-site": "same-site"}


@pytest.mark.parametrize(
    "headers",
    [
        NEIGHBOUR,
        {"origin": "http://127.0.0.1:18101"},
        {"origin": "https://127.0.0.1:8765"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_neighbours_page_gets_nothing(page, headers):
    client = page.browser()
    del client.headers["origin"], client.headers["sec-fetch-site"]
    for method, path in (("GET", "/api/v1/people"), ("DELETE", "/api/v1/people/Ada")):
        answer = client.request(method, path, headers=headers)
        assert answer.status_code == 403
        assert answer.json()["code"] == "cross-site"
    assert page.front.done() == []


def test_what_says_not_where_it_comes_from_changes_nothing(page):
    client = page.browser()
    del client.headers["origin"], client.headers["sec-fetch-site"]
    answer = client.delete("/api/v1/people/Ada")
    assert (answer.status_code, answer.json()["code"]) == (403, "no-origin")
    assert page.front.done() == []


def test_a_link_to_the_page_may_be_followed_from_elsewhere(page):
    client = page.browser()
    del client.headers["origin"], client.headers["x-csrf-token"]
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/visits", headers=headers).status_code == 200
    assert client.get("/api/v1/people", headers=headers).status_code == 403


def test_the_cookie_alone_reads_and_changes_nothing(page):
    client = page.browser()
    proof = client.headers.pop("x-csrf-token")
    for method, path in (("GET", "/api/v1/people"), ("DELETE", "/api/v1/people/Ada")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "no-proof")
        other = client.request(method, path, headers={"x-csrf-token": proof[::-1]})
        assert other.status_code == 403
    assert proof not in client.get("/people").text  # a page that the cookie opens says nothing
    assert client.get("/api/v1/people", headers={"x-csrf-token": proof}).status_code == 200


def test_the_proof_of_another_session_does_not_help(page):
    first, second = page.browser(), page.browser()
    stolen = first.headers["x-csrf-token"]
    assert second.get("/api/v1/people", headers={"x-csrf-token": stolen}).status_code == 403


def test_a_session_can_be_revoked_and_ends_with_the_log_out(page):
    mine, other = page.browser(), page.browser()
    rows = mine.get("/api/v1/sessions").json()
    (foreign,) = [row["id"] for row in rows if not row["current"]]
    assert mine.delete(f"/api/v1/sessions/{foreign}").status_code == 204
    assert other.get("/api/v1/people").status_code == 401
    assert mine.delete("/api/v1/session").status_code == 204
    assert mine.get("/api/v1/people").status_code == 401
    actions = [command[1]["action"] for command in page.front.done("audit.write")]
    assert actions == ["logout-other", "logout"]


def test_sessions_survive_a_restart(page, make_page):
    client = page.browser()
    again = make_page().client()
    again.cookies, again.headers = client.cookies, client.headers
    assert again.get("/api/v1/people").status_code == 200


def test_a_name_and_a_password_log_in(make_page, password_file):
    page = make_page(page={"password_file": password_file})
    client = page.client()
    assert log_in(client, password="wrong" * 5).json()["code"] == "wrong-login"
    assert log_in(client, user="nobody").status_code == 401
    answer = log_in(client)
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert cookie.startswith("cstl_edge_8765=")
    headers = {"x-csrf-token": answer.json()["proof"]}
    assert client.get("/api/v1/people", headers=headers).status_code == 200
    assert login_url(page.front.site) == "http://127.0.0.1:8765/"


def test_the_login_needs_our_own_page(make_page, password_file):
    client = make_page(page={"password_file": password_file}).client()
    assert log_in(client, origin="http://127.0.0.1:18101").status_code == 403
    body = {"user": "admin", "password": PASSWORD}
    assert client.post("/api/v1/session", json=body).status_code == 403


def test_failed_logins_are_limited_by_account_over_a_restart(make_page, password_file):
    page = make_page(page={"password_file": password_file})
    for number in range(5):  # from many addresses
        client = page.client(address=f"127.0.0.{number + 2}")
        assert log_in(client, password="x" * 15).status_code == 401
    again = make_page(page={"password_file": password_file}).client(address="127.0.0.9")
    answer = log_in(again)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 61


def test_failed_logins_are_limited_by_address(make_page, password_file):
    client = make_page(page={"password_file": password_file}).client()
    codes = [log_in(client, user=f"user{n}").status_code for n in range(21)]
    assert codes == [401] * 20 + [429]


def test_a_right_password_is_no_failure(make_page, password_file):
    client = make_page(page={"password_file": password_file}).client()
    assert [log_in(client).status_code for _ in range(7)] == [200] * 7


def test_another_password_ends_the_sessions(make_page, password_file):
    client = make_page(page={"password_file": password_file}).client()
    proof = log_in(client).json()["proof"]
    password_file.write_text("another password here\n")
    again = make_page(page={"password_file": password_file}).client()
    again.cookies = client.cookies
    assert again.get("/api/v1/people", headers={"x-csrf-token": proof}).status_code == 401


def test_a_token_is_for_programs(page):
    client = page.program()
    assert client.get("/api/v1/cameras").status_code == 200
    assert client.delete("/api/v1/people/Ada").status_code == 200  # no Origin: no browser
    assert client.delete("/api/v1/people/Ada", headers=NEIGHBOUR).status_code == 403
    wrong = {"authorization": "Bearer nobody's"}
    assert client.get("/api/v1/cameras", headers=wrong).json()["code"] == "wrong-token"


def test_players_of_streams_send_the_token_as_a_password(page):
    client = page.client()
    assert client.get("/api/v1/cameras", auth=("any", page.token)).status_code == 200
    assert client.delete("/api/v1/people/Ada", auth=("any", page.token)).status_code == 403


def users_page(make_page, tmp_path):
    for name in ("ada", "bo"):
        (tmp_path / name).write_text(f"token-of-{name}-{'x' * 20}\n")
    users = [
        {"name": "ada", "role": "admin", "token_file": tmp_path / "ada"},
        {"name": "bo", "role": "viewer", "token_file": tmp_path / "bo", "cameras": ["yard"]},
    ]
    page = make_page(page={"users": users})
    clients = {}
    for name in ("ada", "bo"):
        clients[name] = page.client()
        clients[name].headers["authorization"] = f"Bearer token-of-{name}-{'x' * 20}"
    return page, clients


def test_a_viewer_changes_nothing(make_page, tmp_path):
    from cstl_edge.serve.web.rest.table import OPERATIONS

    page, clients = users_page(make_page, tmp_path)
    for operation in OPERATIONS:
        path = f"/api/v1{operation.path}".replace("{camera}", "yard")
        if operation.role == "admin":
            answer = clients["bo"].request(operation.method, path)
            assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed"), path
    assert page.front.done() == []
    assert clients["ada"].delete("/api/v1/people/Cy").status_code == 200
    assert page.front.done() == [("people.erase", {"person": "Cy"}, "ada", "admin")]


def test_a_viewer_sees_the_cameras_of_the_role_alone(make_page, tmp_path):
    page, clients = users_page(make_page, tmp_path)
    assert [c["name"] for c in clients["bo"].get("/api/v1/cameras").json()] == ["yard"]
    for path in (
        "cameras/door",
        "cameras/door/picture",
        "cameras/door/stream",
        "visits?camera=door",
    ):
        assert clients["bo"].get(f"/api/v1/{path}").status_code == 404, path
    assert page.front.watched == {}


PROXY = {"from": ["10.0.0.2"], "user_header": "Remote-User", "role": None}


def proxied(make_page):
    return make_page(
        page={
            "proxy": PROXY,
            "allowed_hosts": ["house.example"],
            "users": [{"name": "ada", "role": "admin"}],
        }
    )


def test_a_proxy_names_its_user_and_only_from_its_address(make_page):
    page = proxied(make_page)
    headers = {
        "host": "house.example",
        "remote-user": "ada",
        "x-forwarded-proto": "https",
        "x-forwarded-for": "203.0.113.9",
    }
    client = page.client(address="10.0.0.2")
    who = client.get("/api/v1/session", headers=headers).json()
    assert (who["user"], who["kind"]) == ("ada", "proxy")
    assert client.get("/api/v1/people", headers=headers).status_code == 403
    headers |= {"x-csrf-token": who["proof"]}
    assert client.get("/api/v1/people", headers=headers).status_code == 200
    erase = {**headers, "origin": "https://house.example"}
    assert client.delete("/api/v1/people/Cy", headers=erase).status_code == 200
    stranger = {**headers, "remote-user": "mallory"}
    assert client.get("/api/v1/people", headers=stranger).status_code == 403
    for address in ("127.0.0.1", "10.0.0.3"):  # others only say that they are the proxy
        assert (
            page.client(address=address).get("/api/v1/people", headers=headers).status_code == 401
        )


def test_forwarded_addresses_are_believed_from_the_proxy_alone(make_page, password_file):
    page = make_page(page={"password_file": password_file})
    client = page.client()
    for number in range(20):
        forwarded = {"x-forwarded-for": f"203.0.113.{number}"}
        assert log_in(client, user=f"u{number}", **forwarded).status_code == 401
    assert log_in(client, user="u99", **{"x-forwarded-for": "203.0.113.99"}).status_code == 429


def test_behind_a_proxy_nobody_comes_in_beside_it(make_page):
    page = make_page(page={"host": "0.0.0.0", "proxy": PROXY, "allowed_hosts": ["house.example"]})
    client = page.client(address="10.0.0.77")
    answer = client.get("/login", headers={"host": "house.example"})
    assert (answer.status_code, answer.json()["code"]) == (403, "proxy-only")


@pytest.mark.parametrize("stripped", [True, False])
def test_it_works_below_a_path(make_page, stripped):
    page = make_page(page={"root_path": "/gait"})
    prefix = "" if stripped else "/gait"
    client = page.client()
    answer = client.get(f"{prefix}/?token={page.token}")
    assert answer.status_code == 200
    assert "Path=/gait;" in answer.headers["set-cookie"]
    assert 'src="/gait/static/token.js"' in answer.text
    assert (
        client.get(f"{prefix}/visits", headers={"cookie": ""}).headers["location"] == "/gait/login"
    )
    assert client.get(f"{prefix}/static/style.css").status_code == 200


def test_the_path_of_home_assistants_ingress_comes_with_the_request(make_page):
    page = proxied(make_page)
    ingress = "/api/hassio_ingress/abc"
    headers = {"host": "house.example", "remote-user": "ada", "x-ingress-path": ingress}
    html = page.client(address="10.0.0.2").get("/", headers=headers).text
    assert f'data-root="{ingress}"' in html
    evil = {**headers, "x-ingress-path": '"><script>'}
    assert "<script>" not in page.client(address="10.0.0.2").get("/", headers=evil).text
    assert (
        ingress
        not in page.client(address="10.0.0.3")
        .get("/login", headers={"host": "house.example", "x-ingress-path": ingress})
        .text
    )


def test_settings_refuse_an_open_door(tmp_path):
    def refused(**values):
        with pytest.raises(ValidationError) as err:
            PageSettings(**values)
        return str(err.value)

    secret = tmp_path / "password"
    assert "give password_file" in refused(host="0.0.0.0")
    assert "tls" in refused(host="192.168.1.2", password_file=secret)
    assert "proxy with user_header" in refused(host="0.0.0.0", proxy={"from": ["10.0.0.2"]})
    assert "neither password_file nor token_file" in refused(users=[{"name": "ada"}])
    assert "same name" in refused(
        users=[{"name": "a", "token_file": secret}, {"name": "a", "token_file": secret}]
    )
    assert "given twice" in refused(
        password_file=secret, users=[{"name": "admin", "token_file": secret}]
    )
    assert PageSettings(host="0.0.0.0", password_file=secret, insecure_lan=True).port == 8765


def test_metrics_need_a_token(page):
    assert page.client().get("/metrics").status_code == 401
    assert page.program().get("/metrics").text == "up 1\n"
    outputs = type(page.front.site.outputs)(metrics={"public": True})
    page.front.site = page.front.site.model_copy(update={"outputs": outputs})
    assert page.client().get("/metrics").status_code == 200

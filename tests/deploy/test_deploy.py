"""The files of deploy/: they parse, fit the code, and the tools that read them accept them."""

import configparser
import json
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from outputs_house import Broker, mosquitto

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILES = sorted((DEPLOY / "containers").glob("Containerfile.*"))
INSTRUCTION = re.compile(
    r"^(FROM|ARG|RUN|COPY|ENV|VOLUME|WORKDIR|USER|EXPOSE|HEALTHCHECK|ENTRYPOINT|CMD) (.+)$",
    re.DOTALL,
)


def instructions(path):
    """Return (instruction, arguments) of a Containerfile, lines joined."""
    lines = [x for x in path.read_text().splitlines() if x and not x.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found = [INSTRUCTION.match(line) for line in joined]
    assert all(found), [line for line, match in zip(joined, found, strict=True) if not match]
    return [(match[1], match[2]) for match in found]


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_an_image_is_not_root_and_says_whether_it_is_healthy(path):
    steps = instructions(path)
    last = dict(steps)
    assert last["USER"] == "10001:10001"
    assert "healthcheck.py" in last["HEALTHCHECK"]
    assert json.loads(last["ENTRYPOINT"]) == ["/usr/local/bin/cstl-edge"]
    assert json.loads(last["CMD"])[0] == "serve"
    assert json.loads(last["VOLUME"]) == ["/data"]
    names = [name for name, _ in steps]
    assert names.index("USER") > max(n for n, name in enumerate(names) if name == "RUN")


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_what_an_image_copies_is_there_and_not_left_out(path):
    allowed = {x[1:] for x in (ROOT / ".dockerignore").read_text().split() if x.startswith("!")}
    for name, arguments in instructions(path):
        if name == "COPY" and not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source == x or source.startswith(f"{x}/") for x in allowed), source


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.name)
def test_an_image_begins_with_a_version_and_installs_by_the_tested_steps(path):
    steps = instructions(path)
    bases = [x for name, x in steps if name == "FROM" and "$" not in x]
    bases += [x.partition("=")[2] for name, x in steps if name == "ARG" and x.startswith("BASE=")]
    assert all(re.search(r":[\w.-]+$", base.split()[0]) for base in bases)
    assert not any(":latest" in base for base in bases)
    assert sum("install.sh" in x for name, x in steps if name == "RUN") == 1


def test_no_image_gets_pyav():
    text = (DEPLOY / "containers" / "install.sh").read_text()
    extras = set(re.findall(r"\[([\w,]+)\]", text))
    assert {"cv,secure,serve", "secure,serve"} <= extras
    assert "video" not in str(extras)
    assert "find_spec('av')" in text
    assert not re.search(r"^av==", (ROOT / "requirements" / "serve.txt").read_text(), re.MULTILINE)


@pytest.mark.skipif(not shutil.which("hadolint"), reason="hadolint is not installed")
def test_hadolint_finds_nothing():
    config = DEPLOY / "containers" / "hadolint.yaml"
    command = ["hadolint", "-c", config, *CONTAINERFILES]
    lint = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert lint.returncode == 0, lint.stdout


def test_compose_mounts_what_is_there_and_nothing_is_open_to_the_network():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert {"cstl-edge", "mosquitto", "prometheus", "grafana"} <= set(compose["services"])
    for name, service in compose["services"].items():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./") and source != "./site.yaml":
                assert (DEPLOY / source).exists(), volume
        assert name == "cstl-edge" or re.search(r":[\w.]+$", service["image"])
    ours = compose["services"]["cstl-edge"]
    assert ours["read_only"] is True
    assert ours["tmpfs"]
    assert (DEPLOY / ours["build"]["context"] / ours["build"]["dockerfile"]).exists()
    assert compose["networks"]["inside"] == {"internal": True}


def test_the_example_of_a_site_is_valid():
    pytest.importorskip("starlette")
    from cstl_edge.serve.site import load_site

    site = load_site(DEPLOY / "site.example.yaml")
    assert site.outputs.mqtt is not None
    assert site.page.allowed_hosts == ("cstl-edge",)


def test_mosquitto_runs_with_its_file(tmp_path):
    mosquitto()
    text = (DEPLOY / "mosquitto" / "mosquitto.conf").read_text()
    broker = Broker(tmp_path)
    lines = text.replace("/mosquitto/data/", f"{tmp_path}/").splitlines()
    broker.configure(*[line for line in lines if not line.startswith("listener")])
    try:
        broker.start()  # waits until it listens
    finally:
        broker.end()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool (Debian: prometheus) is missing")
def test_prometheus_accepts_its_files():
    config = DEPLOY / "prometheus" / "prometheus.yml"
    check = subprocess.run(
        ["promtool", "check", "config", config], capture_output=True, text=True, timeout=60
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_dashboard_and_rules_ask_for_metrics_that_exist():
    pytest.importorskip("prometheus_client")
    from prometheus_client.parser import text_string_to_metric_families
    from standin_metrics import full_registry

    text = full_registry().render()[0].decode()
    known = {x.name for family in text_string_to_metric_families(text) for x in family.samples}
    dashboard = json.loads((DEPLOY / "grafana" / "cstl-edge.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
    asked += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    names = {name for text in asked for name in re.findall(r"cstl_edge_\w+", text)}
    assert len(names) > 20
    assert names <= known
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_home_assistants_examples_name_entities_that_appear():
    from cstl_edge.serve.outputs.home_assistant import House, Topics, components

    house = House(cameras={"door": None, "yard": None})
    listed = components(Topics("x", "everywhere", b"key"), house, "c")
    known = {str(x.config["default_entity_id"]) for x in listed}
    examples = yaml.safe_load((DEPLOY / "home-assistant" / "automations.yaml").read_text())
    asked = {trigger["entity_id"] for example in examples for trigger in example["triggers"]}
    assert asked <= known
    assert yaml.safe_load((DEPLOY / "home-assistant" / "recorder.yaml").read_text())["recorder"]


def unit():
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str
    parser.read(DEPLOY / "systemd" / "cstl-edge.service")
    return parser


def test_the_unit_fits_what_the_service_does():
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["WatchdogSec"]) >= 10
    assert int(service["TimeoutStopSec"]) > 5  # it ends within 5 s by itself
    assert service["SuccessExitStatus"] == "143"
    assert service["RestartPreventExitStatus"] == "2"
    assert service["User"] == "cstl-edge"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not there")
def test_systemd_accepts_the_unit(tmp_path):
    text = (DEPLOY / "systemd" / "cstl-edge.service").read_text()
    file = tmp_path / "cstl-edge.service"
    file.write_text(text.replace("/opt/cstl-edge/bin/cstl-edge", "/bin/true"))
    verify = subprocess.run(
        ["systemd-analyze", "verify", file], capture_output=True, text=True, timeout=60
    )
    assert (verify.returncode, verify.stderr) == (0, "")


def test_the_health_check_asks_livez():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == f"{prefix}/livez" else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    prefix = ""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    script = DEPLOY / "containers" / "healthcheck.py"

    def ask(port):
        return subprocess.run(
            [sys.executable, script],
            env={"CSTL_EDGE_PAGE": f"http://127.0.0.1:{port}"},
            capture_output=True,
            timeout=60,
        ).returncode

    try:
        assert ask(server.server_port) == 0
        prefix = "/elsewhere"
        assert ask(server.server_port) == 1
    finally:
        server.shutdown()
        server.server_close()
    assert ask(9) == 1


def test_the_release_asks_for_few_rights_and_names_files_that_exist():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    flow = yaml.safe_load(text)
    assert flow["permissions"] == {"contents": "read"}
    for row in flow["jobs"]["image"]["strategy"]["matrix"]["include"]:
        assert (DEPLOY / "containers" / f"Containerfile.{row['file']}").exists()
    flavours = {x["flavour"] for x in flow["jobs"]["image"]["strategy"]["matrix"]["include"]}
    assert flavours == {"cpu", "cuda", "jetpack6", "jetpack7"}
    assert "password:" not in text.replace("password: ${{ secrets.GITHUB_TOKEN }}", "")

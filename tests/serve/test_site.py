"""The site's file: every mistake is named with its line; good files become typed settings."""

import pickle

import pytest

from cstl_edge.errors import ConfigError
from cstl_edge.serve.example_site import example_site
from cstl_edge.serve.safe_mode import safe_site, site_or_error
from cstl_edge.serve.schema import SCHEMA_NAME, site_schema
from cstl_edge.serve.site import check_site, load_site

GOOD = """\
name: home
cameras:
  door:
    source: rtsp://{DOOR}@cam/1
    orientation: {rotate: 90}
    zones:
      - {name: path, polygon: [[0, 0.5], [1, 0.5], [1, 1]]}
    schedule: ["mon-fri 07:00-19:00"]
  file: {source: walk.mp4}
"""


def written(tmp_path, text):
    path = tmp_path / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_good_file_becomes_a_site_whose_paths_count_from_its_folder(tmp_path):
    site = load_site(written(tmp_path, GOOD))
    assert site.data == tmp_path / "data"
    assert site.gallery_path == tmp_path / "data/gallery.db"
    for place, path in (
        ("people.db", tmp_path / "people.db"),
        ("postgresql://{PG}@db.local/people", "postgresql://{PG}@db.local/people"),
    ):
        with_gallery = load_site(written(tmp_path, f"gallery: '{place}'\n{GOOD}"))
        assert with_gallery.gallery_path == path
    assert site.cameras["file"].source == str(tmp_path / "walk.mp4")
    assert site.cameras["door"].source == "rtsp://{DOOR}@cam/1"
    assert site.cameras["door"].first_picture_s == 60
    assert site.cameras["door"].next_picture_s == 20
    assert pickle.loads(pickle.dumps(site)) == site
    assert pickle.loads(pickle.dumps(site)).path == tmp_path / "site.yaml"


def test_the_example_is_valid_and_names_only_what_there_is(tmp_path):
    site = load_site(written(tmp_path, example_site()))
    assert list(site.cameras) == ["demo"]
    keep = {line.strip("# ").partition(":")[0] for line in example_site().splitlines()}
    assert {"first_picture_s", "zones", "unknowns"} <= {key.split("{")[0].strip() for key in keep}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("cameras:\n  a:\n    source: x.mp4\n    orientaton: 1", 4, "Did you mean 'orientation'"),
        ("cameras:\n  a:\n    source: x.mp4\n    events_days: 1", 4, "mean 'keep.events_days'"),
        ("cameras:\n  a: {fps: 5}", 2, "cameras.a.source: missing"),
        ("cameras:\n  Front Door: {source: x.mp4}", 2, "pattern"),
        ("cameras:\n  a:\n    source: foo://x", 3, "unknown source foo://x; expected"),
        ("cameras:\n  a: {source: x, schedule: [mon 1:00]}", 2, "expected days and hours"),
        ("cameras:\n  a: {source: x, fpir: 0.1, threshold: 1}", 2, "leave one out"),
        ("cameras:\n  a:\n    source: x\n    zones:\n    - {name: z, polygon: []}", 5, "least 3"),
        ("fpir: 2", 1, "less than 1"),
        ("segmenter: plat", 1, "plat"),
        ("page:\n  users:\n  - {name: bo, token_file: t, cameras: [q]}", None, "there are not: q"),
        ("page:\n  token: shrt", 2, "page.token"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(tmp_path, text, line, message):
    site, problems = check_site(written(tmp_path, text))
    assert site is None
    assert problems[0].line == line
    assert message in problems[0].message
    assert "shrt" not in problems[0].message  # a secret is not repeated
    with pytest.raises(ConfigError, match=f"site.yaml{f':{line}' if line else ''}: "):
        load_site(tmp_path / "site.yaml")


def test_every_mistake_is_listed_in_the_order_of_the_file(tmp_path):
    _, problems = check_site(written(tmp_path, "zzz: 1\ncameras: {a: {source: x, b: 1}}\nfpir: 7"))
    assert [problem.line for problem in problems] == [1, 2, 3]


def test_a_broken_file_keeps_its_door(tmp_path):
    (tmp_path / "secret").write_text("x")
    text = (
        "data: d\npage:\n  port: 9000\n  allowed_hosts: [cam.home]\n"
        "cameras:\n  a: [oops\nkeep: }{\n"
    )
    path = written(tmp_path, text)
    site, error = site_or_error(path)
    assert site is None
    assert "expected a YAML file" in error
    door = safe_site(path)
    assert door.page.port == 9000
    assert door.page.allowed_hosts == ("cam.home",)
    assert door.data == tmp_path / "d"
    assert door.cameras == {}


def test_a_broken_door_becomes_a_closed_one(tmp_path):
    door = safe_site(written(tmp_path, "page: {host: 0.0.0.0}\nfoo: 1\n"))
    assert door.page.host == "127.0.0.1"


def test_users_of_cameras_come_in_in_safe_mode(tmp_path):
    text = "page: {users: [{name: bo, token_file: t, cameras: [a]}]}\ncameras: {a: {}}\n"
    door = safe_site(written(tmp_path, text))
    assert [user.name for user in door.page.users] == ["bo"]


def test_the_published_schema_is_current():
    import json
    from importlib.resources import files

    published = (files("cstl_edge") / "assets" / SCHEMA_NAME).read_text(encoding="utf-8")
    assert json.loads(published) == site_schema(), "cstl-edge config schema writes it anew"

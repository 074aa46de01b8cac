"""What the code has is documented: verbs, options, events, exit codes, settings, environment."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from floors import PICTURE, picture
from reference import made
from reference_cli import option_names, verbs
from reference_settings import ENVIRONMENT, SECTIONS
from source_text import fields_of

import cstl_edge
from cstl_edge.errors import EXIT_CODES
from cstl_edge.live.events import Event, ReasonCode

DOCS = Path(__file__).parents[2] / "docs"
ENVIRON = re.compile(
    r"(?:environ(?:\.get|\.setdefault)?|getenv)[\[(]\s*\"([A-Z][A-Z_0-9]+)\"|"
    r"\"([A-Z][A-Z_0-9]+)\" in os\.environ|\"((?:CSTL_EDGE|XDG)_[A-Z_]+)\""
)


def text_of(name):
    return (DOCS / name).read_text(encoding="utf-8")


def section_of(text, heading):
    """Text between a heading and the next of its level."""
    level = heading.split(" ")[0]
    match = re.search(
        rf"^{re.escape(heading)}$(.*?)(?=^{level} |\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert match, f"{heading} is missing: make reference"
    return match[1]


def test_generated_pages_are_as_the_code_has_them():
    pytest.importorskip("mkdocs", reason="compared where the extra `dev` is, with its typer")
    stale = [
        path.relative_to(DOCS).as_posix()
        for path, text in made().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, f"run make reference: {stale}"


def test_the_picture_of_the_floors_is_as_the_imports_have_it():
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run make reference"


@pytest.mark.parametrize(("path", "command"), [*verbs()], ids=lambda value: str(value)[:40])
def test_every_verb_and_option_is_documented(path, command):
    section = section_of(text_of("reference/cli.md"), f"## cstl-edge {path}".rstrip())
    assert command.help
    for param in command.params:
        if param.name == "help" or getattr(param, "hidden", False):
            continue
        assert param.help, f"{path} {param.name} has no help"
        for name in option_names(param):
            assert f"`{name}`" in section, f"{path} {name}: make reference"


def test_every_field_of_an_event_is_documented():
    section = section_of(text_of("events.md"), "## Fields")
    for name in (field.name for field in fields(Event)):
        assert re.search(rf"^\| `{name}` \| [^|]+ \| \S", section, re.MULTILINE), name


@pytest.mark.parametrize("code", ReasonCode)
def test_every_reason_is_listed_and_says_what_to_do(code):
    assert f"| `{code.value}` |" in text_of("events.md")
    answers = section_of(text_of("camera.md"), "## No answer")
    row = next((line for line in answers.splitlines() if f"`{code.value}`" in line), "")
    assert len(row.split("|")[-2].strip()) > 10, f"{code.value}: camera.md says nothing to do"


@pytest.mark.parametrize("code", EXIT_CODES)
def test_every_exit_code_is_documented(code):
    assert f"| `{code}` |" in section_of(text_of("events.md"), "## Exit codes")


@pytest.mark.parametrize("key", SECTIONS)
def test_every_setting_is_documented(key):
    section = text_of("reference/settings.md")
    for field in fields_of(*SECTIONS[key]):
        name = f"{key}.{field.name}".lstrip(".")
        assert field.meaning or not key, f"{name} has no meaning: a comment beside it in the code"
        assert f"| `{name}` |" in section, f"{name}: make reference"


def test_every_variable_of_the_environment_is_documented():
    read = set()
    for path in Path(cstl_edge.__file__).parent.rglob("*.py"):
        for groups in ENVIRON.findall(path.read_text(encoding="utf-8")):
            read |= {name for name in groups if name}
    assert {"XDG_DATA_HOME", "CSTL_EDGE_CUDA_BACKEND"} <= read
    read -= {"CSTL_EDGE_PLUGIN", "CSTL_EDGE_ARCHITECTURES"}  # options of CMake
    assert read <= set(ENVIRONMENT), f"add to docs/scripts/reference_settings.py: {read}"


@pytest.mark.parametrize(
    "page", sorted((DOCS / "decisions").glob("[!R]*.md")), ids=lambda p: p.stem
)
def test_every_decision_has_a_status_a_reason_and_a_price(page):
    _, *decisions = re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert decisions
    for text in decisions:
        for part in ("Status", "Reason", "Price"):
            assert f"\n**{part}:** " in text, f"{text.splitlines()[0]} has no {part}"


@pytest.mark.parametrize("name", cstl_edge.__all__)
def test_every_public_name_is_documented(name):
    text = text_of("reference/python.md")
    assert re.search(rf"^#+ {name}$", text, re.MULTILINE), f"{name}: make reference"
    thing = getattr(cstl_edge, name)
    if isinstance(thing, type):
        for method in (m for m in dir(thing) if not m.startswith("_")):
            assert f"### {name}.{method}\n" in text or method in {"model"}, f"{name}.{method}"

"""Commands that install an optional part, by where the package came from."""

import json
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from cstl_edge import extras
from cstl_edge.errors import MissingPackage

CHECKOUT = Path(extras.__file__).parents[1]


@pytest.mark.parametrize(
    ("record", "command"),
    [
        (None, 'pip install "cstl-edge[cv]"'),
        ({"url": "file:///src/a%20b", "dir_info": {}}, 'pip install "/src/a b[cv]"'),
        ({"url": "file:///src", "dir_info": {"editable": True}}, 'pip install -e "/src[cv]"'),
        ({"url": "file:///d/w.whl", "archive_info": {}}, 'pip install "/d/w.whl[cv]"'),
        ({"url": "https://h/w.whl"}, 'pip install "cstl-edge[cv] @ https://h/w.whl"'),
        (
            {"url": "https://h/r", "vcs_info": {"vcs": "git"}},
            'pip install "cstl-edge[cv] @ git+https://h/r"',
        ),
    ],
)
def test_command_goes_by_the_record_of_the_installation(monkeypatch, record, command):
    text = None if record is None else json.dumps(record)
    monkeypatch.setattr(
        "importlib.metadata.distribution", lambda _: SimpleNamespace(read_text=lambda _: text)
    )
    assert extras.install_command("cv") == command


def test_checkout_that_is_not_installed_is_installed_from_its_folder(monkeypatch, tmp_path):
    def refuse(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", refuse)
    monkeypatch.chdir(CHECKOUT)
    assert extras.install_command("cv") == 'pip install ".[cv]"'
    monkeypatch.chdir(tmp_path)
    assert extras.install_command("cv") == f'pip install "{CHECKOUT}[cv]"'


def test_missing_package_says_what_for_and_how(monkeypatch):
    monkeypatch.setattr(extras, "install_command", lambda extra: f"install {extra}")
    error = extras.missing_package("t-SNE needs scikit-learn", "report")
    assert isinstance(error, MissingPackage)
    assert str(error) == "t-SNE needs scikit-learn, which is not installed; install report"

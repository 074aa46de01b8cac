"""Verbs `serve` and `config`: run the service of many cameras, and check or begin its file."""

from __future__ import annotations

import json as json_module
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cstl_edge.cli.console import notify, print_result
from cstl_edge.cli.options import Json
from cstl_edge.errors import SIGNAL_BASE, ConfigError, one_line
from cstl_edge.extras import missing_package

if TYPE_CHECKING:
    from cstl_edge.serve.site import Site

SiteFile = Annotated[Path, typer.Argument(help="YAML file of the site: cameras, page, outputs.")]

config = typer.Typer(
    help="Check, begin and describe the file of `cstl-edge serve`.", no_args_is_help=True
)


def serve(
    site: SiteFile,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="End with exit code 2 on a bad file, in place of a page that shows it."
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Run cameras, recognition, page and outputs; a signal ends them, SIGHUP reloads the file."""
    run_site(site, strict=strict, json=json)


def run_demo_site(out: Path, seed: int, *, json: bool) -> None:
    """Run the service of the demo until a signal.

    Args:
        out: Folder of the demo.
        seed: Of its street.
        json: Whether the page's address is printed as JSON.
    """
    _need_extra()
    from cstl_edge.cli.console import progress
    from cstl_edge.serve.demo_site import STEPS, prepare

    with progress("demo", steps=STEPS) as bar:
        path = prepare(out / f"serve-seed{seed}", seed, bar)
    notify(f"four cameras around one street; the site is {one_line(path)}; Ctrl-C ends it")
    run_site(path, json=json)


def run_site(path: Path, *, strict: bool = False, json: bool = False) -> None:
    """Run a site's file until a signal; ends with 128 + its number.

    Args:
        path: YAML file.
        strict: Whether a bad file ends it at once.
        json: Whether the page's address is printed as JSON.
    """
    _need_extra()
    from cstl_edge.serve.data_folder import claimed
    from cstl_edge.serve.supervisor import Supervisor

    supervisor = Supervisor(path, strict=strict, on_ready=partial(_tell_address, json))
    if supervisor.site_error is not None:
        notify(f"safe mode, nothing is looked at: {supervisor.site_error}")
    with claimed(supervisor.site):
        number = supervisor.run()
    if number is not None:
        raise SystemExit(SIGNAL_BASE + number)


def _tell_address(json: bool, site: Site) -> None:
    from cstl_edge.serve.web.door import login_url

    address = login_url(site)
    print_result({"page": address}, f"page: {address}", json)
    sys.stdout.flush()


def _need_extra() -> None:
    """Raise MissingPackage where the extra `serve` is not installed."""
    from importlib.util import find_spec

    for package in ("starlette", "uvicorn", "argon2"):
        if find_spec(package) is None:
            raise missing_package(f"cstl-edge serve needs {package}", "serve")


@config.command()
def check(site: SiteFile, json: Json = False) -> None:
    """Check a site's file; everything that is wrong is listed by line, and the exit code is 2."""
    from cstl_edge.serve.plans import silhouette_size
    from cstl_edge.serve.site import check_site, where

    checked, problems = check_site(site)
    if checked is not None:
        silhouette_size(checked.model)
    lines = [f"{where(site, problem)}: {problem.message}" for problem in problems]
    cameras = sorted(checked.cameras) if checked is not None else []
    if problems and not json:
        for line in lines:
            notify(line)
    if problems:
        count = len(problems)
        if json:
            print_result(
                {"valid": False, "problems": [p._asdict() for p in problems]}, "", as_json=True
            )
            raise SystemExit(ConfigError.exit_code)
        raise ConfigError(f"{one_line(site)} has {count} mistake{'s' if count > 1 else ''}")
    text = f"{one_line(site)} is valid: {len(cameras)} camera{'' if len(cameras) == 1 else 's'}"
    print_result({"valid": True, "problems": [], "cameras": cameras}, text, json)


@config.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("site.yaml"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file.")] = False,
    json: Json = False,
) -> None:
    """Write a commented site's file to begin with."""
    from cstl_edge.output import Outputs, write_file
    from cstl_edge.serve.example_site import example_site

    Outputs(overwrite=overwrite).claim(path, "PATH", suffixes=(".yaml", ".yml"))
    write_file(path, example_site(), mode=0o600)
    text = f"wrote {one_line(path)}; next: cstl-edge config check {one_line(path)}"
    print_result({"wrote": str(path)}, text, json)


@config.command()
def schema(json: Json = False) -> None:
    """Print the JSON Schema of the site's file, for editors."""
    from cstl_edge.serve.schema import site_schema

    print(json_module.dumps(site_schema(), indent=None if json else 1, ensure_ascii=False))


@config.command()
def password(json: Json = False) -> None:
    """Ask for a password of the page and print the line that goes into its `password_file`."""
    import getpass

    from cstl_edge.serve.web.passwords import check_password, hash_password

    if sys.stdin.isatty():
        text = getpass.getpass("Password: ")
        check_password(text)
        if getpass.getpass("Once more: ") != text:
            raise ConfigError("the two passwords differ")
    else:
        text = sys.stdin.readline().rstrip("\n")
    line = hash_password(text)
    print_result({"line": line}, line, json)

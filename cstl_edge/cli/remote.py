"""Verbs with `--server URL`: the same work, done by a running service; and the verb `events`."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from cstl_edge.cli.console import notify, print_result
from cstl_edge.cli.options import Json
from cstl_edge.errors import ConfigError, SourceUnavailable, UsageError, one_line

RETRY_S = (1.0, 2.0, 5.0, 10.0)

Server = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Let a running cstl-edge serve do it, such as http://127.0.0.1:8765; the token is in "
        "CSTL_EDGE_TOKEN, or in the file that CSTL_EDGE_TOKEN_FILE names.",
    ),
]


def check_beside_server(context: typer.Context, allowed: Collection[str]) -> None:
    """Refuse options that have no meaning beside `--server` (UsageError).

    Args:
        context: Of the verb.
        allowed: Names of the parameters that have one.
    """
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in {*allowed, "server", "json"}:
            option = parameter.opts[0]
            raise UsageError(f"{option} has no meaning beside --server: the service has its own")


def list_remote(context: typer.Context, server: str, *, json: bool) -> None:
    """Print who is enrolled at a service.

    Args:
        context: Of the verb.
        server: Its address.
        json: Whether programs read it.
    """
    from cstl_edge.serve.client import ServiceClient

    check_beside_server(context, ())
    rows = ServiceClient(server).people()
    lines = [
        f"{one_line(row['name'])}: {row['templates']} templates, since {row['created_utc']}, "
        f"until {row['expires_utc'] or 'removed'}; consent: {one_line(row['consent'])}"
        for row in rows
    ]
    print_result(rows, lines or "nobody is enrolled", json)


def enroll_remote(
    context: typer.Context, server: str, name: str, source: str, consent: str, *, json: bool
) -> None:
    """Enrol somebody at a service from a video here.

    Args:
        context: Of the verb.
        server: Its address.
        name: Of the person.
        source: Video file.
        consent: Who agreed to what, and when.
        json: Whether programs read it.
    """
    from cstl_edge.serve.client import ServiceClient

    check_beside_server(context, ("name", "source", "consent"))
    client = ServiceClient(server)
    known = name.casefold() in {row["name"].casefold() for row in client.people()}
    result = client.enroll(name, consent, Path(source), add=known)
    words = [f"enrolled {one_line(result['person'])}: {result['windows']} windows"]
    print_result(result, [*words, *map(one_line, result["warnings"])], json)


def identify_remote(context: typer.Context, server: str, source: str, *, json: bool) -> None:
    """Print who walks in a video here, as a service sees it.

    Args:
        context: Of the verb.
        server: Its address.
        source: Video file.
        json: Whether programs read it.
    """
    from cstl_edge.serve.client import ServiceClient

    check_beside_server(context, ("source",))
    walks = ServiceClient(server).identify(Path(source))["walks"]
    rows = [_event_of(walk, source) for walk in walks]
    print_result(rows, [_sentence(walk) for walk in walks] or "nobody walks there", json)


def _event_of(walk: dict[str, Any], source: str) -> dict[str, Any]:
    """Return a walk as `identify --json` prints it: an event `closed`."""
    from cstl_edge.live.events import Event, ReasonCode
    from cstl_edge.live.sources.base import redact

    same = ("track", "answer", "person", "distance", "threshold", "confidence", "frames", "reason")
    code = walk["reason_code"] and ReasonCode(walk["reason_code"])
    figures = {name: walk[name] for name in same}
    return Event(event="closed", source=redact(source), reason_code=code, **figures).to_dict()


def _sentence(walk: dict[str, Any]) -> str:
    words = f"track {walk['track']}: {one_line(walk['person'] or walk['answer'])}"
    if walk["distance"] is not None:
        words += f", distance {walk['distance']:.3f}"
    if walk["threshold"] is not None:
        words += f" (threshold {walk['threshold']:.3f})"
    return f"{words}, {walk['frames']} frames" + (f" - {walk['reason']}" if walk["reason"] else "")


def events(
    server: Annotated[
        str, typer.Argument(metavar="URL", help="Address of the service: http://127.0.0.1:8765.")
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with the events to come.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=500, help="How many of the newest to begin with.")
    ] = 20,
    camera: Annotated[str | None, typer.Option(help="Of this camera alone.")] = None,
    person: Annotated[str | None, typer.Option(help="Of this person alone.")] = None,
    answer: Annotated[
        str | None, typer.Option(help="With this answer alone: known, unknown or none.")
    ] = None,
    json: Json = False,
) -> None:
    """Print the events of a running service; the token is in CSTL_EDGE_TOKEN."""
    from cstl_edge.serve.client import ServiceClient

    if answer not in (None, "known", "unknown", "none"):
        raise ConfigError(f"--answer: expected known, unknown or none; got {one_line(answer)}")
    client = ServiceClient(server)
    filters = {"camera": camera, "person": person, "answer": answer}
    newest, last = client.events(limit, **filters)
    for event in newest:
        _print_event(event, json)
    if follow:
        _follow(client, last, filters, json)


def _follow(client: Any, last: int, filters: dict[str, str | None], json: bool) -> None:
    """Print events for ever; a service that is away is asked again."""
    failures = 0
    while True:
        try:
            for number, event in client.follow(last, **filters):
                last, failures = number, 0
                _print_event(event, json)
        except SourceUnavailable as err:
            wait_s = RETRY_S[min(failures, len(RETRY_S) - 1)]
            notify(f"{err}; asked again in {wait_s:g} s")
            failures += 1
            time.sleep(wait_s)


def _print_event(event: dict[str, Any], json: bool) -> None:
    from json import dumps

    print(dumps(event, ensure_ascii=False) if json else _event_line(event), flush=True)


def _event_line(event: dict[str, Any]) -> str:
    """Return an event as one line for people."""
    words = [str(event["utc"]), one_line(event.get("camera") or event["source"]), event["event"]]
    if event.get("answer") == "known":
        words.append(one_line(event["person"]))
    elif event.get("answer") is not None:
        words.append(str(event["answer"]))
    if event.get("state") is not None:
        words.append(str(event["state"]))
    if event.get("reason") is not None:
        words.append(f"- {one_line(event['reason'])}")
    return " ".join(words)

"""Commands of the page to the supervisor: reload, restart, check a file's text."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import yaml

from cstl_edge.config import parse_yaml
from cstl_edge.errors import ConfigError, CstlEdgeError
from cstl_edge.serve.messages import Command, Reply, camera_process
from cstl_edge.serve.site import site_of


class Service(Protocol):
    """What the commands change."""

    path: Path
    site_error: str | None

    def reload(self) -> str | None:
        """Read the file again; return what is wrong with it."""

    def restart(self, name: str) -> None:
        """Start a process again (KeyError)."""


class ServiceCommands:
    """Answers the commands whose names begin with `service.`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def answer(self, command: Command) -> Reply:
        """Do what a command asks; whatever goes wrong is in the reply."""
        try:
            result = self._run(command.name, command.arguments)
        except CstlEdgeError as err:
            return Reply(command.id, False, None, err.code, str(err))
        except (KeyError, TypeError) as err:
            return Reply(command.id, False, None, "not-found", f"there is no {err}")
        return Reply(command.id, True, result)

    def _run(self, name: str, arguments: Any) -> Any:
        if name == "service.reload":
            error = self._service.reload()
            if error is not None:
                raise ConfigError(error)
            return None
        if name == "service.restart":
            target = arguments.get("process") or camera_process(arguments["camera"])
            self._service.restart(target)
            return None
        if name == "service.check":
            return self._check(arguments["text"])
        raise KeyError(f"command {name}")

    def _check(self, text: str) -> list[dict[str, Any]]:
        """Return what is wrong with a text of the site's file."""
        place = self._service.path
        try:
            values = parse_yaml(text, place.name)
        except (ConfigError, yaml.YAMLError) as err:
            return [{"line": None, "key": "", "message": str(err)}]
        _, problems = site_of(values, place, text)
        return [problem._asdict() for problem in problems]

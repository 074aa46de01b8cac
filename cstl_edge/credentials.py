"""Passwords of addresses: `rtsp://{CAM1}@HOST/1` takes one from the environment or a private file.

`{CAM1}` stands for the variable CAM1, which holds USER:PASSWORD, or for a line `CAM1=USER:PASSWORD`
of a file that nobody else can read: the one that CSTL_EDGE_CREDENTIALS names, or credentials in the
configuration folder. A password then stands in no history of a shell and in no list of processes,
and it needs no escapes.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import quote

from cstl_edge.errors import ConfigError, one_line
from cstl_edge.output import user_folder

FILE_VARIABLE = "CSTL_EDGE_CREDENTIALS"
USED: set[str] = set()  # variables that children need not inherit
NAME = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def credentials_file() -> Path:
    """Return the file of credentials, whether it exists or not."""
    chosen = os.environ.get(FILE_VARIABLE)
    if chosen:
        return Path(chosen)
    return user_folder("config") / "credentials"


def fill_in(address: str) -> str:
    """Return an address with its `{NAME}`s replaced; raises ConfigError where one is not known.

    Behind `://` and before `@` a value is USER:PASSWORD and is escaped as an address demands;
    elsewhere (`user-pw={PW}` of a pipeline) it stands as it is.
    """

    def value(match: re.Match[str]) -> str:
        secret = _secret(match.group(1))
        before, behind = address[: match.start()], address[match.end() :]
        if not (before.endswith("://") and behind.startswith("@")):
            return secret
        user, colon, password = secret.partition(":")
        return quote(user, safe="") + colon + quote(password, safe="")

    return NAME.sub(value, address)


def environment_without_credentials() -> dict[str, str]:
    """Return the environment of a child that reads an address."""
    return {name: value for name, value in os.environ.items() if name not in USED}


def _secret(name: str) -> str:
    """Return the value of a name."""
    if name in os.environ:
        USED.add(name)
        return os.environ[name]
    path = credentials_file()
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
                raise ConfigError(
                    f"others may read {one_line(path)}, where passwords stand; make it private: "
                    f"chmod 600 {one_line(path)}"
                )
            lines = file.read(2**20).splitlines()
    except FileNotFoundError:
        lines = []
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"cannot read the credentials in {one_line(path)}: {err}") from err
    for line in lines:
        key, equals, secret = line.partition("=")
        if equals and key.strip() == name:
            return secret.strip()
    raise ConfigError(
        f"no credentials {{{name}}}: set the variable {name} to USER:PASSWORD, or write the line "
        f"{name}=USER:PASSWORD into {one_line(path)}, chmod 600"
    )

"""Look whether a server answers at all, with a reason in our words where it does not."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}


def probe(url: str, timeout_s: float) -> None:
    """Connect to the server of an address, and ask an RTSP server for anything; raises OSError.

    FFmpeg's opening also waits for a key frame, which some cameras send only every 10 s, so it
    needs a longer timeout than a server that is not there.
    """
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.lower()
        where = (parts.hostname or "", parts.port or PORTS[scheme])
    except ValueError:
        raise OSError(
            "unreadable address; write / @ : # in a password as %2F %40 %3A %23"
        ) from None
    try:
        with socket.create_connection(where, timeout_s) as server:
            if scheme == "rtsp":
                asked = f"OPTIONS rtsp://{where[0]}:{where[1]}{parts.path} RTSP/1.0"
                lines = (asked, "CSeq: 1", "User-Agent: cstl-edge", "", "")
                server.sendall("\r\n".join(lines).encode())
                server.recv(4096)
    except TimeoutError as err:
        raise OSError(f"no answer within {timeout_s:g} s") from err
    except socket.gaierror as err:
        raise OSError(f"the name {where[0]} is not known in this network") from err
    except ConnectionRefusedError as err:
        raise OSError("the connection is refused: nothing listens at that port") from err
    except OSError as err:
        raise OSError(f"no connection: {(err.strerror or str(err)).lower()}") from err

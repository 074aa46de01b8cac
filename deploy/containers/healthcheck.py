"""Health of a container: exit 0 when the page's /livez answers that it is alive.

CSTL_EDGE_PAGE changes the address, as for `https://127.0.0.1:8765` of a page with a certificate,
which is not checked: it is our own.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask once."""
    address = os.environ.get("CSTL_EDGE_PAGE", "http://127.0.0.1:8765").rstrip("/")
    context = ssl._create_unverified_context() if address.startswith("https:") else None
    try:
        with urllib.request.urlopen(f"{address}/livez", timeout=4, context=context) as answer:
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError) as err:
        print(f"{address}/livez: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The commented file that `cstl-edge config init` writes."""

from __future__ import annotations

SCHEMA_URL = "site.schema.json"

EXAMPLE = """\
# yaml-language-server: $schema=site.schema.json
# Site of `cstl-edge serve`. Check it: cstl-edge config check site.yaml
# An editor knows every key after: cstl-edge config schema > site.schema.json
# Relative paths count from this file's folder. Every key that is left out has the value shown.

name: home
data: data                # events, pictures, logins and the gallery; readable by you alone
# model: null             # exported folder or checkpoint; the shipped model without
# gallery: data/gallery.db
segmenter: auto           # or background, which needs no network and least of the machine
fpir: 0.01                # how often a stranger may be given a name, 0..1

cameras:
  demo:                   # small letters, digits, - and _; it stands in topics and addresses
    title: Demo street
    source: synthetic://4?seed=1&fps=10&live=1&loop=1
  # door:
  #   title: Front door
  #   source: rtsp://{DOOR}@192.168.1.20/stream1   # {DOOR} is USER:PASSWORD, from the environment
  #                                                # or ~/.config/cstl-edge/credentials (chmod 600)
  #   orientation: {rotate: 0, flip: null}         # rotate 90, 180 or 270; flip h or v
  #   fps: 15                                      # frames per second, at most
  #   min_height_px: 48                            # of a person
  #   zones:                                       # corners as shares of width and height
  #     - {name: path, use: look, polygon: [[0.1, 0.4], [0.9, 0.4], [0.9, 1.0], [0.1, 1.0]]}
  #     - {name: road, use: ignore, polygon: [[0, 0], [1, 0], [1, 0.3], [0, 0.3]]}
  #   schedule: ["mon-fri 07:00-19:00", "sat,sun 00:00-24:00"]
  #   first_picture_s: 60                          # cameras sleep
  #   next_picture_s: 20

keep:
  events_days: 30
  snapshots: {enabled: true, days: 7}
  clips: {enabled: false, days: 3}
  unknowns:
    enabled: false        # true keeps templates of people who did not consent
    days: 7
  max_gb: 10
  min_free_gb: 1

page:
  host: 127.0.0.1         # any other address needs a password or token, and TLS or a proxy
  port: 8765
  # password_file: password.txt
  # allowed_hosts: [cameras.home.arpa]

outputs: {}
#  mqtt: {host: broker.home.arpa}
"""


def example_site() -> str:
    """Return the text of the file."""
    return EXAMPLE

"""Addresses of synthetic streets: `synthetic://N?…` and `synthetic://street?side=N…`."""

from __future__ import annotations

from dataclasses import fields

from cstl_edge.errors import ConfigError
from cstl_edge.live.sources.base import FrameSource, query_values, redact
from cstl_edge.live.sources.options import SourceOptions
from cstl_edge.live.sources.stream import LiveSource
from cstl_edge.live.sources.synthetic.cast import Habits
from cstl_edge.live.sources.synthetic.sides import LoopingCamera, side_of_street
from cstl_edge.live.sources.synthetic.source import PacedCamera, SyntheticSource

STREET = "street"  # in place of a number of walkers: one of the sides of a street


def open_synthetic(uri: str, options: SourceOptions) -> FrameSource:
    """Open `synthetic://N?…`, as a recording or, with `live=1`, as a live source.

    A live one ends with its last walker; with `live=1&loop=1` it begins again, for ever.
    """
    text, _, query = uri.removeprefix("synthetic://").partition("?")
    count, shown = text.rstrip("/"), redact(uri)
    if count == STREET:
        return _open_side(uri, query, options)
    if not count.isdecimal():
        raise ConfigError(f"expected synthetic:// and a number of walkers, got {shown}")
    whole = dict.fromkeys(("seed", "live", "loop", "poles"), int)
    kinds = {**whole, "fps": float, "seconds": float, "size": str}
    names = [field.name for field in fields(Habits)]
    values = query_values(query, kinds | dict.fromkeys(names, int), shown)
    values["habits"] = Habits(**{name: bool(values.pop(name, 0)) for name in names})
    if "size" in values:
        values["size"] = _size(values["size"], shown)
    live, loop = values.pop("live", 0), values.pop("loop", 0)
    if loop and not live:
        raise ConfigError(f"loop=1 needs live=1: {shown} would never end")
    if options.fps is not None:
        values.setdefault("fps", options.fps)
    values.update(start_s=options.start_s, stop_s=options.stop_s, uri=uri)
    street = SyntheticSource(int(count), **values)
    if not live:
        return street
    street.render()
    if loop:
        return LiveSource(uri, lambda: LoopingCamera(street), options)

    def start() -> PacedCamera:
        return PacedCamera((frame.image for frame in street.reopen()), street.fps)

    return LiveSource(uri, start, options)


def _open_side(uri: str, query: str, options: SourceOptions) -> FrameSource:
    """Open `synthetic://street?side=N…`; a live one shows the street over and over."""
    shown = redact(uri)
    kinds = dict.fromkeys(("side", "people", "seed", "live", "poles", "gate"), int)
    values = query_values(query, {**kinds, "fps": float, "size": str}, shown)
    if "size" in values:
        values["size"] = _size(values["size"], shown)
    live, side = values.pop("live", 0), values.pop("side", 0)
    values["gate"] = bool(values.pop("gate", 0))
    if options.fps is not None:
        values.setdefault("fps", options.fps)
    if live:
        options.refuse_part(uri)
    values.update(start_s=options.start_s, stop_s=options.stop_s, uri=uri)
    street = side_of_street(side, **values)
    if not live:
        return street
    street.render()
    return LiveSource(uri, lambda: LoopingCamera(street), options)


def _size(text: str, uri: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ConfigError(f"size in {uri}: expected WIDTHxHEIGHT such as 640x360, got {text!r}")
    return int(height), int(width)

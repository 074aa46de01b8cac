"""Reader with PyAV: packets of a live stream that this machine is too slow for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("av", reason="PyAV is missing: pip install av")

from cstl_edge.live.sources.read_av import _Inbox, upright_filters


@dataclass
class Packet:
    number: int
    is_keyframe: bool = False
    size: int = 1


class Stream:
    """Sends some packets, others later, then breaks."""

    def __init__(self, packets: list[Packet], later: list[Packet]) -> None:
        self._packets, self._later = packets, later

    def demux(self, _: object) -> Iterator[Packet]:
        yield from self._packets
        time.sleep(0.1)
        yield from self._later
        raise ConnectionResetError("the other side is gone")


def numbers(inbox: _Inbox) -> list[int]:
    left = []
    while (item := inbox.take()) is not None:
        left.append(item[0].number)
    return left


def test_packets_up_to_the_newest_key_frame_are_skipped() -> None:
    packets = [Packet(0, True), Packet(1), Packet(2, True), Packet(3), Packet(4)]
    inbox = _Inbox(Stream(packets, [Packet(5)]), None)
    time.sleep(0.05)
    inbox.skip_to_key_frame()
    assert numbers(inbox) == [2, 3, 4, 5]
    assert inbox.reason() == "the other side is gone"


def test_without_a_key_frame_the_next_one_is_waited_for() -> None:
    inbox = _Inbox(Stream([Packet(1), Packet(2)], [Packet(3), Packet(4, True), Packet(5)]), None)
    time.sleep(0.05)
    inbox.skip_to_key_frame()
    assert numbers(inbox)[-2:] == [4, 5]


def test_packets_carry_the_time_of_their_arrival() -> None:
    inbox = _Inbox(Stream([Packet(1)], []), None)
    item = inbox.take()
    assert item is not None
    assert abs(time.monotonic() - item[1]) < 1


def test_a_display_matrix_becomes_filters() -> None:
    one = 65536
    assert upright_filters(None) == []
    assert upright_filters((one, 0, 0, 0, one, 0, 0, 0, 0)) == []
    quarter = (0, one, 0, -one, 0, 0, 0, 0, 0)
    assert upright_filters(quarter) == [("transpose", "cclock_flip"), ("hflip",)]
    assert upright_filters((-one, 0, 0, 0, -one, 0, 0, 0, 0)) == [("hflip",), ("vflip",)]

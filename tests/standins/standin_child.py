"""Processes of the service that stand for real ones: started by `multiprocessing`, by name."""

import time

from cstl_edge.errors import ConfigError
from cstl_edge.serve.messages import Reply, Stats, Watch


def echo(child, word):
    """Beat, and answer every message to its sender; end with an error where it is asked to."""
    while not child.stopping.is_set():
        child.beat({"lives_total": 1.0})
        received = child.receive(0.05)
        if received is None or isinstance(received[1], Stats):
            continue
        peer, message = received
        if isinstance(message, Watch):
            raise ConfigError(f"no camera {message.camera}", remedy=word)
        child.send(peer, Reply(message.id, True, word))


def deaf(child):
    """Beat once, and hear nothing any more."""
    child.beat()
    time.sleep(600)

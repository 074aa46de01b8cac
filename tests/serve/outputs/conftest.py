"""A store with outputs around it, a broker with a client, and a receiver of webhooks."""

import signal

import pytest
from outputs_house import Broker, House, Listener, Receiver

from cstl_edge.serve.messages import CameraState
from cstl_edge.serve.outputs.base import Surroundings
from cstl_edge.serve.outputs.outbox import Outbox
from cstl_edge.serve.reader import Reader
from cstl_edge.serve.store import Store


@pytest.fixture
def house(tmp_path):
    store, outbox = Store(tmp_path), Outbox(tmp_path)
    cameras = {"door": CameraState("door", "online"), "yard": None}
    around = Surroundings("Our home", Reader(tmp_path), outbox, lambda: cameras)
    yield House(store, around, cameras)
    outbox.close()
    store.close()


@pytest.fixture
def broker(tmp_path):
    pytest.importorskip("paho.mqtt")
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.end(signal.SIGKILL)


@pytest.fixture
def listener(broker):
    listener = Listener(broker.port)
    yield listener
    listener.close()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()

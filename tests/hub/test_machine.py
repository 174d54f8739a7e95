"""The machine of these tests reaches the small Hub alone."""

from __future__ import annotations

from tests.hub.conftest import Machine
from tests.hub.server import Hub


def test_the_machine_reaches_nothing_but_the_hub(machine: Machine, hub: Hub) -> None:
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print('reached')"
    port = hub.url.rpartition(":")[2]
    assert machine.python(reach, "127.0.0.1", port).stdout == "reached\n"
    assert "it has no network" in machine.python(reach, "192.0.2.1", "80").stderr
    machine.offline()
    assert "it has no network" in machine.python(reach, "127.0.0.1", port).stderr

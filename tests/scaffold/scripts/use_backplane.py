"""Sends a message from an object that does not serve to the client of one that does."""

import socket
import subprocess
import sys
from pathlib import Path

from zCLI import zCLI
from zcli_core.testing.websocket.client import Client, upgrade_request


def settings(port):
    return {
        "deployment": "Production",
        "logger_path": "logs",
        "websocket": {"port": 0},
        "backplane": {"my_backplane": {"port": port}},
    }


port = zCLI({"deployment": "Production", "logger_path": "logs"}).comm.find_free_port()
hub = subprocess.Popen([Path(sys.executable).with_name("zcli-my-backplane-hub"), "--port", str(port)])
try:
    with zCLI(settings(port)) as z, zCLI(settings(port)) as script:
        assert z.comm.wait_for_port(port)
        server = z.comm.websocket.start_background()
        with (
            socket.create_connection(("127.0.0.1", server.port), 10) as sock,
            Client(sock, upgrade_request()) as client,
        ):
            print(client.echo(b"hello").decode())
            sent = script.comm.websocket.publish("from a script").result(20)
            print(sent.processes, sent.failure)
            print(client.read_message()[1].decode())
finally:
    hub.kill()
    hub.wait()

"""Starts the service, speaks to it, and stops it."""

import socket

from zCLI import zCLI

with zCLI({"deployment": "Production", "logger_path": "logs"}) as z:
    port = z.comm.find_free_port()
    print("started:", z.comm.start_service("my_service", port=port))
    print(z.comm.services.last_failure)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"version\n")
        print(client.recv(100).decode().strip())
    print("stopped:", z.comm.stop_service("my_service", port=port))
    print("running:", z.comm.service_status("my_service")["running"])

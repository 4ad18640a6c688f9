"""Starts memcached, keeps a value in it and stops it."""

import json
import socket

from zCLI import zCLI

with zCLI({"deployment": "Testing", "title": "memcached", "logger_path": "logs"}) as z:
    port = z.comm.find_free_port()
    said = {"started": z.comm.start_service("mc", port=port, launcher="local")}
    if not said["started"]:
        print(z.comm.services.last_failure)
    with socket.create_connection(("127.0.0.1", port), 10) as client, client.makefile() as lines:
        client.sendall(b"set k 0 0 5\r\nhello\r\nget k\r\n")
        said["answer"] = [lines.readline().strip() for _ in range(4)]
    said["stopped"] = z.comm.stop_service("memcached")
    said["left"] = z.comm.service_status("memcached")["running"]
print(json.dumps(said))

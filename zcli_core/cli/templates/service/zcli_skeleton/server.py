"""A stand-in for the real server, so that the generated project works. Delete it when you use the real server.

A client sends lines. The reply to ``version`` is the name and version of the server, to other lines ``ERROR``.
"""

from __future__ import annotations

import argparse
import socket
import socketserver


class _Conversation(socketserver.StreamRequestHandler):
    """One client."""

    timeout = 60  # seconds of silence before it is dropped

    def handle(self) -> None:
        """Reply to each line until the client closes the connection."""
        try:
            while line := self.rfile.readline(1024):
                self.wfile.write(b"SKELETON 1.0\n" if line.strip() == b"version" else b"ERROR\n")
        except OSError:  # the client closed the connection
            pass


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


def main() -> None:
    """Serve until a signal ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    kind = _Server6 if ":" in options.host else _Server
    with kind((options.host, options.port), _Conversation) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()

"""A client's TLS socket that one thread may read while another thread writes.

OpenSSL does not allow two threads to use one connection at once, and Python's ``ssl`` module has no lock for that
before 3.13.4. Without a lock, a request that is sent while a session ticket arrives is sometimes lost.
"""

from __future__ import annotations

import errno
import ssl
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from zcli_core.net.connecting import READABLE, WRITABLE, wait_for

_R = TypeVar("_R")


class ThreadSafeSSLSocket(ssl.SSLSocket):
    """An SSL socket whose ``recv``, ``send`` and ``sendall`` may be called from two threads.

    Use it by ``context.sslsocket_class = ThreadSafeSSLSocket`` before ``context.wrap_socket()``. The socket's timeout
    limits each wait, as it does for other sockets.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Read up to ``buflen`` bytes. Raises TimeoutError if the socket's timeout passes first."""
        return self._in_turn(super().recv, buflen, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        """Write some of the bytes; return how many. Raises TimeoutError if the socket's timeout passes first."""
        return self._in_turn(super().send, data, flags)

    def _in_turn(self, call: Callable[..., _R], *args: Any) -> _R:
        lock = self.__dict__.setdefault("_one_at_a_time", threading.Lock())
        while True:
            with lock:
                # Blocking inside the call would keep the other thread out until the peer sends something.
                timeout = self.gettimeout()
                self.setblocking(False)
                try:
                    return call(*args)
                except ssl.SSLWantReadError:
                    event = READABLE
                except ssl.SSLWantWriteError:
                    event = WRITABLE
                finally:
                    if self.fileno() != -1:
                        self.settimeout(timeout)
            if not wait_for(self.fileno(), event, timeout):
                raise TimeoutError(errno.ETIMEDOUT, "the read or write operation timed out")

"""Asking a service how it is: one probe, and what its outcome means."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar

from zcli_core.errors import raised_by_signal
from zcli_core.services.contract import Answer, NotThisService, ServiceBackend, Target
from zcli_core.services.lookalikes import holder_clause, who_answers
from zcli_core.services.probe_connection import NoConnectionError, UntrustedCertificateError, Wire

if TYPE_CHECKING:
    from zcli_core.services.contract import Probe

_T = TypeVar("_T")
_R = TypeVar("_R")

State = Literal["ready", "not ready", "stopped", "unreachable", "silent", "foreign"]


class Finding(NamedTuple):
    """What a probe found out.

    ``state``: ``"ready"``; ``"not ready"`` (it answered, but is starting up or the like); ``"stopped"`` (nothing
    listens there); ``"unreachable"`` (no address, no route, no answer to a connection attempt); ``"silent"``
    (something accepts connections and does not say what it is); ``"foreign"`` (another protocol answered).
    ``answer`` is there if the service itself answered; ``detail`` says the rest in one clause. ``tls`` tells whether
    the service was reached with TLS. ``hangs`` tells that what is there says nothing at all. ``owner`` is the number of
    the user that runs a server which answered, None if the system does not tell.
    """

    state: State
    answer: Answer | None = None
    detail: str = ""
    tls: bool = False
    hangs: bool = False
    owner: int | None = None

    @property
    def answered(self) -> bool:
        """Whether the service itself answered: it runs."""
        return self.answer is not None


def ask(backend: ServiceBackend, target: Target, timeout: float, *, name_strangers: bool = True) -> Finding:
    """Probe a service, in at most ``timeout`` seconds.

    :param name_strangers: where something else answered, find out what, which may take as long again.
    """
    path = backend.socket_path(target) if target.is_socket_path else None
    with Wire(target.host, target.port, timeout, path, settings=target.settings) as wire:
        try:
            answer = _converse(backend.probe(target), wire)
        except NoConnectionError as error:
            return Finding("stopped" if error.refused else "unreachable", detail=str(error))
        except UntrustedCertificateError as error:
            # Raised for a server that speaks TLS, and that is not the one which was configured.
            setting = f"services.{backend.name}.ca_file"
            return Finding("foreign", detail=f"its certificate is not from an authority in {setting} ({error})")
        except NotThisService as error:
            seen = error.received or wire.received
        except Exception as error:  # a backend's parser met bytes that it did not expect
            if raised_by_signal(error):
                raise
            backend.context.log.debug("the probe of %s failed", backend.name, exc_info=error)
            seen = wire.received
        else:
            return _found(backend, target, answer, wire)
    if wire.tls_error:
        return _not_admitted(backend, target, wire)
    if not name_strangers or path is not None:
        return Finding("foreign" if seen else "silent", detail="something else answers there" if seen else "silence")
    clause, spoke, closes = who_answers(wire.addresses, target.port, timeout, seen, backend.title)
    detail = clause + holder_clause(wire.addresses, target.port)
    return Finding("foreign" if spoke else "silent", detail=detail, hangs=not spoke and not closes)


def _found(backend: ServiceBackend, target: Target, answer: Answer, wire: Wire) -> Finding:
    if target.tls and not wire.is_tls:
        detail = f"it answers without TLS, but services.{backend.name}.tls is on"
        answer = answer._replace(ready=False, detail=detail)
    elif wire.tls_error and not answer.ready:
        answer = answer._replace(detail=_tls_clause(backend, target, wire.tls_error))
    state: State = "ready" if answer.ready else "not ready"
    return Finding(state, answer, answer.detail, wire.is_tls, owner=wire.owner())


def _not_admitted(backend: ServiceBackend, target: Target, wire: Wire) -> Finding:
    """A TLS server that admits no probe. It is taken for the service only where TLS was configured for the service."""
    detail = _tls_clause(backend, target, wire.tls_error)
    if target.tls:
        return Finding("not ready", Answer(ready=False, detail=detail), detail, tls=True, owner=wire.owner())
    key = f"services.{backend.name}"
    return Finding("silent", detail=f"a TLS server is there; if it is {backend.title}, set {key}.tls; {detail}")


def _tls_clause(backend: ServiceBackend, target: Target, error: str) -> str:
    key = f"services.{backend.name}"
    if getattr(target.settings, "client_cert", None) is not None:
        return f"it refuses {key}.client_cert ({error})"
    # TLS 1.2 has no alert of its own for a certificate that is missing.
    if error in ("certificate required", "handshake failure", "bad certificate"):
        return f"it requires a client certificate ({error}); set {key}.client_cert and client_key"
    return f"TLS fails ({error})"


def _converse(probe: Probe, wire: Wire) -> Answer:
    try:
        step = next(probe)
        while True:
            step = probe.send(wire.exchange(step))
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    finally:
        probe.close()


def at_once(function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """``[function(item) for item in items]``, all at the same time; the first exception is raised again."""
    todo = list(items)
    if len(todo) < 2:
        return [function(item) for item in todo]
    results: dict[int, _R] = {}
    errors: list[BaseException] = []

    def work(index: int, item: _T) -> None:
        try:
            results[index] = function(item)
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=pair, name="zcli-service-probe", daemon=True) for pair in enumerate(todo)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(todo))]

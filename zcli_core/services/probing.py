"""Probing a service: one handshake of its protocol, and the state that follows from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from zcli_core.errors import raised_by_signal
from zcli_core.services.contract import NotThisService, ProbeResult, ServiceBackend, Target
from zcli_core.services.probe_connection import NoConnectionError, ProbeConnection, UntrustedCertificateError

if TYPE_CHECKING:
    from zcli_core.services.contract import Probe

State = Literal["ready", "not ready", "stopped", "unreachable", "silent", "foreign"]


class ProbeOutcome(NamedTuple):
    """The state of a service after one probe.

    Attributes:
        state: ``"ready"``; ``"not ready"``: the service responded but does not serve clients now; ``"stopped"``: no
            process listens; ``"unreachable"``: no address, no route, or no response to a connection; ``"silent"``:
            connections are accepted, but nothing that identifies the service is sent; ``"foreign"``: another protocol
            responded.
        result: what the service reported; None unless the service itself responded.
        detail: the cause of the state, as one clause.
        tls: whether the service was reached with TLS.
        hangs: whether the server keeps connections open and sends nothing.
        owner: the user id of the server that responded; None if the system does not report it.
    """

    state: State
    result: ProbeResult | None = None
    detail: str = ""
    tls: bool = False
    hangs: bool = False
    owner: int | None = None

    @property
    def is_running(self) -> bool:
        """Whether the service itself responded."""
        return self.result is not None


def probe_service(
    backend: ServiceBackend, target: Target, timeout: float, *, name_holder: bool = False
) -> ProbeOutcome:
    """Probe a service once.

    Args:
        backend: the kind of service.
        target: where to look for it.
        timeout: seconds that the whole probe may take.
        name_holder: if the service does not respond, name the process that holds the port in ``detail``.
    """
    path = backend.socket_path(target) if target.is_socket_path else None
    with ProbeConnection(target.host, target.port, timeout, path, settings=target.settings) as connection:
        try:
            result = _run(backend.probe(target), connection)
        except NoConnectionError as error:
            return ProbeOutcome("stopped" if error.refused else "unreachable", detail=str(error))
        except UntrustedCertificateError as error:
            # The server uses TLS, but its certificate does not prove that it is the configured server.
            setting = f"services.{backend.name}.ca_file"
            return ProbeOutcome("foreign", detail=f"its certificate is not from an authority in {setting} ({error})")
        except NotThisService as error:
            received = error.received or connection.received
        except Exception as error:  # the backend's parser failed on unexpected bytes
            if raised_by_signal(error):
                raise
            backend.context.log.debug("the probe of %s failed", backend.name, exc_info=error)
            received = connection.received
        else:
            return _running(backend, target, result, connection)
        if connection.tls_error:
            return _refused_by_tls(backend, target, connection)
        holder = connection.holder() if name_holder else None
    held = f" ({holder} holds the port)" if holder is not None else ""
    if received:
        return ProbeOutcome("foreign", detail=f"another protocol answers there{held}")
    if connection.closed:
        detail = "it closes connections without sending anything, as a full server does"
        return ProbeOutcome("silent", detail=f"{detail}{held}")
    return ProbeOutcome("silent", detail=f"it accepts connections and sends nothing{held}", hangs=True)


def _running(backend: ServiceBackend, target: Target, result: ProbeResult, connection: ProbeConnection) -> ProbeOutcome:
    if target.tls and not connection.is_tls:
        detail = f"it answers without TLS, but services.{backend.name}.tls is on"
        result = result._replace(ready=False, detail=detail)
    elif connection.tls_error and not result.ready:
        result = result._replace(detail=_tls_clause(backend, target, connection.tls_error))
    state: State = "ready" if result.ready else "not ready"
    return ProbeOutcome(state, result, result.detail, connection.is_tls, owner=connection.owner())


def _refused_by_tls(backend: ServiceBackend, target: Target, connection: ProbeConnection) -> ProbeOutcome:
    """Return the outcome for a TLS server that refuses the probe. It is the service only if TLS is configured."""
    detail = _tls_clause(backend, target, connection.tls_error)
    if target.tls:
        result = ProbeResult(ready=False, detail=detail)
        return ProbeOutcome("not ready", result, detail, tls=True, owner=connection.owner())
    setting = f"services.{backend.name}.tls"
    return ProbeOutcome("silent", detail=f"a TLS server is there; if it is {backend.title}, set {setting}; {detail}")


def _tls_clause(backend: ServiceBackend, target: Target, error: str) -> str:
    key = f"services.{backend.name}"
    if getattr(target.settings, "client_cert", None) is not None:
        return f"it refuses {key}.client_cert ({error})"
    # TLS 1.2 has no separate alert for a missing certificate.
    if error in ("certificate required", "handshake failure", "bad certificate"):
        return f"it requires a client certificate ({error}); set {key}.client_cert and client_key"
    return f"TLS fails ({error})"


def _run(probe: Probe, connection: ProbeConnection) -> ProbeResult:
    """Carry out all steps of a probe."""
    try:
        step = next(probe)
        while True:
            step = probe.send(connection.exchange(step))
    except StopIteration as done:
        result: ProbeResult = done.value
        return result
    finally:
        probe.close()

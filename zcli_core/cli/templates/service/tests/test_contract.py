"""zCLI's contract suite for services, faults included."""

from zcli_core.testing import ServiceBackendContract

from zcli_skeleton import zcli_service_backends


class TestSkeleton(ServiceBackendContract):
    """Runs against a server that the launcher ``local`` starts; override the fixture ``server`` for another one."""

    backend = zcli_service_backends()[0]

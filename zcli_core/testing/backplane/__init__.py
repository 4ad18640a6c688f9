"""The contract suite of backplanes: derive a class from it, set ``backplane`` and ``engine``, and run pytest.

::

    from zcli_core.testing import BackplaneContract, EngineProcess
    from zcli_valkey import zcli_backplanes

    class Valkey(EngineProcess):
        program = "valkey-server"

        def command(self):
            return [self.executable, "--port", str(self.port)]

        def settings(self, port):
            return {"backplane": {"valkey": {"url": f"redis://127.0.0.1:{port}"}}}

    class TestValkey(BackplaneContract):
        backplane = zcli_backplanes()[0]
        engine = Valkey

The plugin must be installed (``pip install -e .``), because settings are read from installed plugins. Tests of what the
backplane does not offer (``capabilities``) are skipped by name.
"""

from zcli_core.testing.backplane.suite import BackplaneContract

__all__ = ["BackplaneContract"]

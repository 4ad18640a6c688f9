"""Shows a setting that comes from the layer's file, and who set it."""

from zCLI import zCLI

with zCLI({"deployment": "Production", "logger_path": "logs"}) as z:
    found = z.config.explain("http.timeout")
    print(z.config.http.timeout, found.layer)

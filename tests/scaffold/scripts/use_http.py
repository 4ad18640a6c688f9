"""Asks a server that is not there until the transport leaves it alone."""

from zCLI import zCLI

settings = {"deployment": "Production", "logger": "PROD", "logger_path": "logs", "my_http": {"failures": 1}}
with zCLI(settings) as z:
    address = f"http://127.0.0.1:{z.comm.find_free_port()}/"
    for _ in range(2):
        print(z.comm.http_get(address), "-", z.comm.http.last_failure.kind)
    print("gets no request" in z.comm.http.last_failure.message)

"""Has a function called twice."""

import threading

from zCLI import zCLI

settings = {"deployment": "Production", "logger": "PROD", "logger_path": "logs", "my_subsystem": {"shortest": 0.001}}
with zCLI(settings) as z:
    calls = threading.Semaphore(0)
    z.my_subsystem.every(0.001, lambda app: calls.release())
    print(calls.acquire(timeout=20), calls.acquire(timeout=20))
    print(type(z.my_subsystem).__name__)
try:
    z.my_subsytem.every(1, print)
except AttributeError as error:
    print(error)

"""Level 1: GET, POST, PUT, PATCH and DELETE.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl1_network/3_http_methods.py

You see a line for each method: the status, and the data that httpbin.org received. A dict is sent as JSON.
HTTPBIN_URL, in the environment or in a .zEnv file, names another httpbin.
"""

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Production",
    "title": "http-methods",
    "logger": "INFO",
    "logger_path": "./logs",
}
z = zCLI(zSpark)

httpbin = z.config.env("HTTPBIN_URL", "https://httpbin.org")


def show(method, response):
    if response is None:
        print_line(f"{method:6}  no response. {z.comm.http.last_failure}")
    elif not response.ok:
        print_line(f"{method:6}  {response.status_code} {response.reason}")
    else:
        echo = response.json()
        received = echo.get("json") or echo["args"] or "no data"
        print_line(f"{method:6}  {response.status_code} {response.reason}, the server received {received}")


show("GET", z.comm.http_get(f"{httpbin}/get", params={"key": "value"}))
show("POST", z.comm.http_post(f"{httpbin}/post", data={"name": "Alice"}))
show("PUT", z.comm.http_put(f"{httpbin}/put", data={"name": "Alice", "role": "Developer"}))
show("PATCH", z.comm.http_patch(f"{httpbin}/patch", data={"role": "Tech Lead"}))
show("DELETE", z.comm.http_delete(f"{httpbin}/delete"))

"""Level 1: one GET request over HTTPS, with query parameters.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl1_network/2_http_get.py

You see what httpbin.org, a public echo server, received. Without a network you see why there was no response.
HTTPBIN_URL, in the environment or in a .zEnv file, names another httpbin, over http:// or https://.
"""

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Production",
    "title": "http-get",
    "logger": "INFO",
    "logger_path": "./logs",
}
z = zCLI(zSpark)

httpbin = z.config.env("HTTPBIN_URL", "https://httpbin.org")
response = z.comm.http_get(f"{httpbin}/get", params={"demo": "zComm", "level": "1"})

if response is None:  # no response: last_failure has the cause, and no exception is raised
    print_line(f"No response. {z.comm.http.last_failure}")
elif not response.ok:  # a response with an error status
    print_line(f"{httpbin} responded with {response.status_code} {response.reason}")
else:
    print_line(f"Server received: {response.json()['args']}")

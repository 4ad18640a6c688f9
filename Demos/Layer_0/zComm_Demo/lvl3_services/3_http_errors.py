"""Level 3: HTTP errors without try/except.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl3_services/3_http_errors.py

You see two responses, 404 and 500, and two calls that return None: for a host that does not exist, and for a server
that takes longer than the timeout of two seconds. last_failure has the cause.
HTTPBIN_URL, in the environment or in a .zEnv file, names another httpbin.
"""

from zCLI import print_line, zCLI

z = zCLI({"deployment": "Production", "title": "http-errors", "logger": "PROD", "logger_path": "./logs"})

httpbin = z.config.env("HTTPBIN_URL", "https://httpbin.org")
test_cases = [
    (f"{httpbin}/status/404", "404 Not Found"),
    (f"{httpbin}/status/500", "500 Server Error"),
    ("https://invalid-domain-12345.com", "a host that does not exist"),
    (f"{httpbin}/delay/10", "a response that takes 10 s, with a timeout of 2 s"),
]

for url, description in test_cases:
    print_line(f"Testing {description}...")
    response = z.comm.http_post(url, data={}, timeout=2)
    if response is None:
        failure = z.comm.http.last_failure
        print_line(f"  ✓ None after {failure.elapsed:.1f} s, {failure.kind}: {failure.message}")
    else:
        print_line(f"  ✓ A response: {response.status_code} {response.reason}")

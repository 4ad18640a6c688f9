"""HTTP and HTTPS: every method, and the kinds of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tour_steps.httpbin import find_httpbin
from tour_steps.walk import StepFailed, Tour, expect
from zCLI import zCLI

if TYPE_CHECKING:
    from zcli_core.http.contract import HttpResponse

_ALICE = {"name": "Alice"}


def http_app(tour: Tour) -> zCLI:
    """Make a zCLI object that uses the httpbin of the tour and trusts its certificate authority."""
    return tour.app("http", http=tour.once(find_httpbin).settings)


def show_methods(tour: Tour) -> str:
    httpbin = tour.once(find_httpbin)
    z = tour.once(http_app)
    tour.print(f"to {httpbin.what}:")
    for url in httpbin.urls:
        tour.print(f"\n{url}", "cyan")
        echoed = _shown(tour, z.comm.http_get(f"{url}/get", params={"demo": "zComm"}), z).json()["args"]
        expect(echoed == {"demo": "zComm"}, f"GET: the server received the parameters {echoed}")
        for method in ("post", "put", "patch"):
            call = getattr(z.comm, f"http_{method}")
            echoed = _shown(tour, call(f"{url}/{method}", data=_ALICE), z).json()["json"]
            expect(echoed == _ALICE, f"{method.upper()}: the server received the JSON {echoed}")
        _shown(tour, z.comm.http_delete(f"{url}/delete"), z)
        head = _shown(tour, z.comm.http_head(f"{url}/get"), z)
        expect(head.content == b"", f"the response to HEAD has a body of {len(head.content)} bytes")
        options = _shown(tour, z.comm.http_options(f"{url}/get"), z)
        expect(
            "GET" in options.headers.get("allow", ""),
            f"the response to OPTIONS has no Allow header: {options.headers!r}",
        )
    return f"seven methods over {' and '.join(_scheme(url) for url in httpbin.urls)}, with JSON bodies"


def _scheme(url: str) -> str:
    return url.partition(":")[0].upper()


def _shown(tour: Tour, response: HttpResponse | None, z: zCLI) -> HttpResponse:
    """Show and return the response; raise if there is none, or if it has an error status."""
    if response is None:
        raise StepFailed(str(z.comm.http.last_failure))
    size = f"{len(response.content)} bytes"
    line = f"{response.request.method:8}{response.status_code} {response.reason}"
    tour.print(f"{line:18}{size:>10}{response.elapsed * 1000:8.0f} ms   {_content(response)}")
    expect(response.ok, f"{response.request.method} got the response {response.status_code} {response.reason}")
    return response


def _content(response: HttpResponse) -> str:
    if response.request.method == "OPTIONS":
        return f"allows {response.headers.get('allow', 'nothing')}"
    if not response.content:
        return ""
    echo: dict[str, Any] = response.json()
    return str(echo.get("json") or echo.get("args") or "")


def show_errors(tour: Tour) -> str:
    httpbin = tour.once(find_httpbin)
    z = tour.once(http_app)
    url = httpbin.urls[-1]
    missing = z.comm.http_get(f"{url}/status/404")
    if missing is None:
        raise StepFailed(str(z.comm.http.last_failure))
    tour.print("a page that does not exist")
    tour.print(f"  {missing!r}, {bool(missing)} as a condition; its .ok is {missing.ok}", "cyan")
    expect(missing.status_code == 404 and missing and not missing.ok, "404 is a response, and not ok")

    _expect_none(tour, z, "timeout", f"{url}/delay/8", "a response that takes 8 s, with a timeout of 1 s", timeout=1)
    direct = tour.app("direct", http={"trust_env": False})
    closed = f"http://127.0.0.1:{z.comm.find_free_port()}/"
    _expect_none(tour, direct, "refused", closed, "a port without a server")
    if httpbin.ours:
        _expect_none(tour, direct, "tls", f"{url}/get", "a certificate of an unknown authority")
    _expect_none(tour, z, "invalid_url", "ftp://example.org/", "a URL that is not HTTP")
    try:
        z.comm.http_get(url, timeout=-1)
    except ValueError as error:
        tour.print("a timeout of -1, an invalid argument")
        tour.print(f"  ValueError: {error}", "cyan")
    else:
        raise StepFailed("a timeout of -1 was accepted")
    return "a response with status 404; None without a response, and the cause in last_failure"


def _expect_none(tour: Tour, z: zCLI, kind: str, url: str, what: str, *, timeout: float | None = None) -> None:
    response = z.comm.http_get(url, timeout=timeout)
    failure = z.comm.http.last_failure
    tour.print(what)
    if response is not None or failure is None:
        raise StepFailed(f"{what}: got {response!r} and the failure {failure}")
    tour.print(f"  None: {failure.kind} after {failure.elapsed:.1f} s, {failure.message}", "cyan")
    expect(failure.kind == kind, f"the kind of this failure should be {kind!r}")

"""Choose the httpbin for the tour: the one that HTTPBIN_URL names, the public one, or one on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from local_httpbin import httpbin_process

from tour_steps.plugins import main_app
from tour_steps.walk import Tour

_PUBLIC = ("http://httpbin.org", "https://httpbin.org")
_QUICKLY = 2.0  # seconds


class Httpbin(NamedTuple):
    """An httpbin for the tour.

    Attributes:
        what: Its description.
        urls: One or two URLs, of which the last one is for HTTPS if there are two.
        settings: Settings of the section ``http`` with which requests reach it.
        env_file: The .zEnv to use with it, or an empty string.
        ours: True if the tour has started it.
    """

    what: str
    urls: tuple[str, ...]
    settings: dict[str, Any]
    env_file: str = ""
    ours: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """The settings as environment variables, for a script that runs in another folder."""
        settings = {f"ZCLI_HTTP_{name.upper()}": str(value) for name, value in self.settings.items()}
        env_file = {"ZCLI_ENV_FILE": self.env_file} if self.env_file else {}
        return {"HTTPBIN_URL": self.urls[-1], **env_file, **settings}

    @property
    def local_ports(self) -> list[int]:
        """The ports of the servers that the tour has started."""
        return [int(url.rpartition(":")[2]) for url in self.urls] if self.ours else []


def find_httpbin(tour: Tour) -> Httpbin:
    z = tour.once(main_app)
    wanted = None if tour.local else z.config.env("HTTPBIN_URL")
    zenv = Path(z.config.get("env_file") or ".zEnv").absolute()
    env_file = str(zenv) if zenv.is_file() else ""
    if wanted:
        return Httpbin("the httpbin that HTTPBIN_URL names", (wanted,), {}, env_file)
    if not tour.local and all(_responds(tour, url) for url in _PUBLIC):
        return Httpbin("the public httpbin", _PUBLIC, {}, env_file)
    plain, _ = tour.resources.enter_context(httpbin_process())
    secure, authority = tour.resources.enter_context(httpbin_process(https=True))
    # A proxy cannot reach servers on this machine.
    settings = {"ca_file": str(authority), "trust_env": False}
    return Httpbin("httpbin on this machine", (plain, secure), settings, ours=True)


def _responds(tour: Tour, url: str) -> bool:
    response = tour.once(main_app).comm.http_get(f"{url}/get", timeout=_QUICKLY)
    return response is not None and response.ok

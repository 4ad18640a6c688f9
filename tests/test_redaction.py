"""Secrets in force never get into the log, whatever writes the line; and the functions that hide parts of URLs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from installations import Site

from zcli_core.app import zCLI
from zcli_core.redaction import SecretFilter, redact_invalid_url, redact_query

TOKEN = "hunter2-hunter2"
#: Characters that have another form in a URL, in a repr and in JSON.
ODD = "p@ss \"w'ör\\d/%"


class _Unprintable:
    """An object whose ``str()`` raises."""

    def __str__(self) -> str:
        raise RuntimeError(TOKEN)


class _BrokenMapping(dict[str, str]):
    """A mapping whose ``items()`` raises."""

    def items(self) -> Any:
        raise RuntimeError(TOKEN)


@pytest.fixture
def shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return what a log with the two tokens has written by now: console and file."""

    def read() -> str:
        return capsys.readouterr().err + (tmp_path / "t.log").read_text()

    return read


def _start(tmp_path: Path, **zspark: Any) -> zCLI:
    tokens = {"websocket": {"require_auth": True, "token": TOKEN, "tokens": {"alice": ODD}}}
    return zCLI({"title": "t", "deployment": "Testing", "logger_path": str(tmp_path), **tokens, **zspark})


@pytest.mark.parametrize(
    "form",
    [TOKEN, ODD, quote(ODD), quote(ODD, ""), quote_plus(ODD), quote(ODD, "").lower(), repr(ODD), json.dumps(ODD)],
)
def test_log_line_with_a_secret_hides_it(tmp_path: Path, shown: Any, form: str) -> None:
    """As it is, in a URL, in a repr and in JSON; the rest of the line stays."""
    with _start(tmp_path) as z:
        z.log.warning("GET http://localhost/?token=%s&a=1", form)
    text = shown()
    assert text.count("GET http://localhost/?token=") == text.count("<secret>") == 2
    assert form.strip("'\"") not in text


@pytest.mark.parametrize("secret", [ODD, "it's o", "caf\xe9"])
@pytest.mark.parametrize("show", [repr, ascii, lambda text: repr(text.encode())])
def test_secret_filter_secret_in_a_longer_repr_is_hidden(show: Any, secret: str) -> None:
    """Which characters a repr escapes depends on the whole text, and non-ASCII ones on the kind of repr."""
    for text in (secret, f'key="{secret}"', f"key='{secret}'"):
        record = logging.makeLogRecord({"msg": show(text)})
        SecretFilter([secret]).filter(record)
        assert "<secret>" in record.msg


@pytest.mark.parametrize("arguments", [5, _Unprintable(), _BrokenMapping(a=TOKEN)])
def test_secret_filter_odd_arguments_never_raise(arguments: Any) -> None:
    """Also for a record that logging did not make; an error here would end the caller's work."""
    record = logging.makeLogRecord({"msg": f"%(b)s {TOKEN}", "args": arguments})
    assert SecretFilter([TOKEN]).filter(record)
    assert record.msg == "%(b)s <secret>"
    assert record.getMessage() == record.msg


def test_log_arguments_with_a_secret_are_hidden(tmp_path: Path, shown: Any) -> None:
    """In a position, by name, and inside an object."""
    with _start(tmp_path) as z:
        z.log.error("%s of %r", {"Authorization": f"Bearer {TOKEN}"}, [ODD])
        z.log.error("%(token)s", {"token": TOKEN})
    text = shown()
    assert TOKEN not in text
    assert repr(ODD)[1:-1] not in text
    assert "{'Authorization': 'Bearer <secret>'} of [" in text


def test_log_traceback_with_a_secret_hides_it(tmp_path: Path, shown: Any) -> None:
    """In the message of an error, of its cause, and in a line of source code."""
    with _start(tmp_path) as z:
        try:
            try:
                raise KeyError("hunter2-hunter2")
            except KeyError as error:
                raise ValueError(f"https://example/?{urlencode({'key': ODD})}") from error
        except ValueError:
            z.log.exception("it failed", stack_info=True)
    text = shown()
    assert TOKEN not in text
    assert quote_plus(ODD) not in text
    assert text.count("KeyError: '<secret>'") == 2
    assert text.count("ValueError: https://example/?key=<secret>") == 2


def test_log_of_a_plugin_hides_secrets(site: Site, tmp_path: Path, shown: Any) -> None:
    """A line of a plugin's own, and an error that zCLI logs for it."""
    site.plugin(
        "talks",
        """
        @hookimpl
        def zcli_ready(app):
            token = app.config.websocket.token
            app.log.getChild("talks").warning("ready with %s", token)
            raise RuntimeError("no use for " + token)
        """,
    )
    _start(tmp_path).close()
    text = shown()
    assert text.count("zcli.t.talks: ready with <secret>") == 2
    assert text.count("RuntimeError: no use for <secret>") == 2
    assert TOKEN not in text


def test_handler_of_the_script_gets_no_secret(tmp_path: Path) -> None:
    """Handlers that a script adds get the record after the filter."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    with _start(tmp_path) as z:
        z.log.addHandler(Keep())
        z.log.warning("with %s", TOKEN)
        z.log.warning("without %s", 5)
    assert [record.getMessage() for record in records] == ["with <secret>", "without 5"]
    assert records[1].args == (5,)


def test_value_of_a_secret_file_is_hidden(tmp_path: Path, shown: Any) -> None:
    """Its setting is not declared a secret."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "http.user_agent").write_text("agent-007-agent")
    with _start(tmp_path, secrets_dir={"folder": str(tmp_path / "secrets")}) as z:
        z.log.warning("as %s", z.config.http.user_agent)
    assert shown().count("as <secret>") == 2


def test_short_secret_is_left_alone(tmp_path: Path, shown: Any) -> None:
    """Three characters are a part of too many words."""
    with _start(tmp_path, websocket={"require_auth": False, "tokens": {"bob": "err"}}) as z:
        z.log.warning("no error here")
    assert shown().count("no error here") == 2


def test_log_of_another_object_is_left_alone(tmp_path: Path, shown: Any) -> None:
    """Each zCLI object hides its own secrets, and none of them after it is closed."""
    _start(tmp_path).close()
    with zCLI({"title": "t", "deployment": "Testing", "logger_path": str(tmp_path)}) as z:
        z.log.warning(TOKEN)
    assert shown().count(TOKEN) == 2


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("%d", (TOKEN,)),
        ("%s %s", (TOKEN,)),
        ("%(x)s", ({"y": TOKEN},)),
        (TOKEN, (1,)),
        ("%s", (_Unprintable(),)),
        (_Unprintable(), ()),
    ],
)
def test_log_line_with_wrong_arguments_hides_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], message: Any, arguments: tuple[Any, ...]
) -> None:
    """The error report of logging on stderr quotes the message and the arguments."""
    with _start(tmp_path) as z:
        record = z.log.makeRecord("n", logging.WARNING, "", 0, message, arguments, None)
        for handler in z.log.handlers:
            if "pytest" not in type(handler).__module__:
                handler.handle(record)
    text = capsys.readouterr().err + (tmp_path / "t.log").read_text()
    assert "<secret>" in text or "without a text" in text
    assert TOKEN not in text


@given(
    secret=st.text(min_size=4),
    text=st.text(),
    record=st.fixed_dictionaries(
        {}, optional={"exc_text": st.none() | st.integers(), "stack_info": st.none() | st.integers()}
    ),
)
def test_secret_filter_any_text_never_raises(secret: str, text: str, record: dict[str, Any]) -> None:
    """Every record is accepted, and no form of the secret is left."""
    made = logging.makeLogRecord({"msg": text + secret + text, "exc_info": (1, 2, 3), **record})
    assert SecretFilter([secret]).filter(made)
    assert secret not in made.getMessage().replace("<secret>", "") or secret in text


def test_redact_query_values_are_replaced() -> None:
    """The names of the query are kept."""
    assert redact_query("/a?b=1&c&d=") == "/a?b=***&***&d=***"
    assert redact_query("/a?") == "/a?"
    assert redact_query("/a") == "/a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://user:pa/ss@host/x", "http://host/x"),
        ("http://host:pass word", "http://host:***"),
        ("http://a:b?c@host", "http://***?"),
    ],
)
def test_redact_invalid_url_credentials_are_removed(text: str, expected: str) -> None:
    """Wherever a part of the password may be."""
    assert redact_invalid_url(text) == expected

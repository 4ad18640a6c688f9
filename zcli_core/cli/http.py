"""``zcli http``: send one request over the configured transport."""

from __future__ import annotations

import re
import sys
from mimetypes import guess_type
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zcli_core.cli.output import json_option, print_error, print_json, print_text, write_bytes
from zcli_core.cli.secret_files import header_lines, secret_from_file
from zcli_core.cli.session import comm
from zcli_core.http.request_body import MISSING
from zcli_core.printable import printable

if TYPE_CHECKING:
    from zcli_core.http.contract import HttpResponse

#: A scheme at the beginning (RFC 3986, section 3.1); a query may contain another URL.
_SCHEME = re.compile(r"[^/?#:@]*://")


def pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    """Split each value of an option into a name and a value: headers at the colon, others at the equals sign.

    A header ``@FILE`` is replaced by the lines of that file.
    """
    separator = "="
    if parameter.name == "headers":
        separator = ":"
        values = tuple(line for value in values for line in (header_lines(value[1:]) if value[:1] == "@" else (value,)))
    found = []
    for place, value in enumerate(values, 1):
        name, mark, rest = value.partition(separator)
        if not mark or not name.strip():  # the value may be a credential, so the message does not repeat it
            which = f"number {place} of {len(values)}" if len(values) > 1 else "the value"
            raise click.BadParameter(
                f"{which} must be NAME{separator}VALUE, got {len(value)} characters without '{separator}'"
            )
        found.append((name.strip(), rest.strip() if separator == ":" else rest))
    return found


def _json(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return MISSING
    import json

    try:
        return json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"invalid JSON: {error}; use --raw for other text") from error


def _credentials(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, str] | None:
    if value is None:
        return None
    user, mark, password = value.partition(":")
    return user, password if mark else click.prompt(f"Password of {user}", hide_input=True, err=True)


def _files(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, Path]] | None:
    found = [(name, Path(path)) for name, path in pairs(ctx, parameter, values)]
    for name, path in found:
        if not path.is_file():
            raise click.BadParameter(f"{name}: {str(path)!r} is not a file")
    return found or None


@click.command("http")
@click.argument("request", nargs=-1, required=True, metavar="[METHOD] URL")
@click.option(
    "-H", "--header", "headers", multiple=True, callback=pairs,
    help="A header, as 'Name: value'. @FILE reads one from each line of a file.",
)  # fmt: skip
@click.option("-p", "--param", "params", multiple=True, callback=pairs, help="A query parameter, as name=value.")
@click.option("-d", "--data", callback=_json, help="A JSON body.")
@click.option("--raw", help="A body of plain text.")
@click.option(
    "--body-file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="A file to send unchanged as the body; - is standard input. Its name determines the Content-Type.",
)
@click.option("-F", "--form", multiple=True, callback=pairs, help="A field of an HTML form, as name=value.")
@click.option("--file", "files", multiple=True, callback=_files, help="A file to upload in a form, as name=PATH.")
@click.option(
    "-a",
    "--auth",
    callback=_credentials,
    help="Basic credentials, as user:password, or as user to be asked for the password.",
)
@click.option("--bearer", help="A token for Authorization: Bearer. Other users can see it; prefer --bearer-file.")
@click.option(
    "--bearer-file", callback=secret_from_file, type=click.Path(allow_dash=True, dir_okay=False),
    help="A file with a token for Authorization: Bearer; - is the first line of standard input.",
)  # fmt: skip
@click.option(
    "-t",
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds for the whole call; default http.timeout.",
)
@click.option("--retries", type=click.IntRange(min=0), help="Retries of a failed request; default http.retries.")
@click.option("--no-follow", is_flag=True, help="Print a redirect instead of following it.")
@click.option("-i", "--include", is_flag=True, help="Print the status and the headers first; HEAD always does.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the body to this file.",
)
@click.option("--fail", is_flag=True, help="End with status 4 for a 4xx response and 5 for a 5xx response.")
@json_option
def command(
    request: tuple[str, ...],
    headers: list[tuple[str, str]],
    params: list[tuple[str, str]],
    data: Any,
    raw: str | None,
    body_file: str | None,
    form: list[tuple[str, str]],
    files: list[tuple[str, Path]] | None,
    auth: tuple[str, str] | None,
    bearer: str | None,
    bearer_file: str | None,
    timeout: float | None,
    retries: int | None,
    no_follow: bool,
    include: bool,
    output: Path | None,
    fail: bool,
    as_json: bool,
) -> None:
    """Send one request and print the response.

    Without METHOD, the request is a GET, or a POST if it has a body. A URL without a scheme gets http://. A URL that
    begins with a port, such as :8000/path, is one of this machine. The status is printed to standard error and the body
    to standard output: the exact bytes if that is a file or a program. On a terminal, JSON is indented and coloured,
    and control characters are printed as escapes such as \\x1b.

    The exit status is 0 for every response. If there is no response, the reason is printed and the exit status is 1.
    """
    if len(request) > 2:
        raise click.UsageError(f"expected [METHOD] URL, got {len(request)} arguments")
    bodies = {"--data": data is not MISSING, "--raw": raw is not None, "--body-file": body_file is not None}
    bodies["--form or --file"] = bool(form or files)
    if sum(bodies.values()) > 1:
        given = " or ".join(name for name, is_given in bodies.items() if is_given)
        raise click.UsageError(f"a request has one body: give {given}")
    credentials = [given for given in (auth, bearer, bearer_file) if given is not None]
    if len(credentials) > 1:
        raise click.UsageError("give one of --auth, --bearer and --bearer-file")
    if as_json and (output is not None or include):
        raise click.UsageError("--json prints the headers and the body already: leave out --output and --include")
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"--output: {str(output.parent)!r} is not a folder")
    method = request[0] if len(request) == 2 else "POST" if any(bodies.values()) else "GET"
    if body_file is not None and not any(name.lower() == "content-type" for name, _ in headers):
        headers += [("Content-Type", kind) for kind in guess_type(body_file)[:1] if kind]
    facade = comm()
    try:
        response = facade.http_request(
            method,
            _with_scheme(request[-1]),
            headers=headers,
            params=params,
            json=data,
            data=raw if body_file is None else _read(body_file),
            form=form or None,
            files=files,
            auth=credentials[0] if credentials else None,
            timeout=timeout,
            retries=retries,
            follow_redirects=not no_follow,
        )
        failure = facade.http.last_failure
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    finally:
        facade.close()
    if response is None:
        if as_json:
            print_json({"failure": {"kind": failure.kind, "message": failure.message}} if failure else {})
        print_error(f"no response: {failure}")
        sys.exit(1)
    if as_json:
        print_json(_as_json(response))
    else:
        _print(response, include or method.upper() == "HEAD", output)
    if fail and not response.ok:
        sys.exit(response.status_code // 100)


def _with_scheme(url: str) -> str:
    """Add http:// to a URL without a scheme, and localhost to a URL that begins with a port."""
    if _SCHEME.match(url):
        return url
    return f"http://localhost{url}" if url.startswith(":") else f"http://{url}"


def _read(body_file: str) -> bytes:
    if body_file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(body_file).read_bytes()
    except OSError as error:
        raise click.UsageError(f"--body-file: cannot read {body_file}: {error.strerror or error}") from error


def _as_json(response: HttpResponse) -> dict[str, Any]:
    from zcli_core.cli.http_body import readable_text

    found = {
        "status_code": response.status_code,
        "reason": response.reason,
        "url": response.url,
        "elapsed": response.elapsed,
        "headers": dict(response.headers),
        "text": readable_text(response),
    }
    if found["text"] is None:
        from base64 import b64encode

        found["base64"] = b64encode(response.content).decode("ascii")
    return found


def _print(response: HttpResponse, include: bool, output: Path | None) -> None:
    status = printable(f"{response.status_code} {response.reason}".rstrip())
    if include:
        fields = [f"{printable(name)}: {printable(value)}" for name, value in response.headers.items()]
        print_text("\n".join([f"HTTP {status}", *fields, ""]), keep="\n")
    else:
        print(f"{status}  {printable(response.url)}  {response.elapsed:.3f} s", file=sys.stderr, flush=True)
    if output is not None:
        try:
            output.write_bytes(response.content)
        except OSError as error:
            print_error(f"--output: cannot write {output}: {error.strerror or error}")
            sys.exit(1)
        print_error(f"{len(response.content)} bytes written to {output}")
    elif not sys.stdout.isatty():
        write_bytes(response.content)
    elif response.content:
        _show(response)


def _show(response: HttpResponse) -> None:
    from zcli_core.cli.http_body import for_terminal, readable_text

    text = readable_text(response)
    if text is None:
        kind = response.headers.get("content-type", "an unknown type")
        print_error(f"the body is not text ({len(response.content)} bytes, {kind}): write it to a file with -o FILE")
    else:
        click.echo(for_terminal(text))

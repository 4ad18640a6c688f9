"""``zcli http``: one request through the transport that is configured here."""

from __future__ import annotations

import sys
from typing import Any

import click

from zcli_core.cli.output import json_option, print_json
from zcli_core.cli.session import comm
from zcli_core.comm.http.bodies import MISSING


def _pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> list[tuple[str, str]]:
    separator = ":" if parameter.name == "headers" else "="
    pairs = []
    for value in values:
        name, found, rest = value.partition(separator)
        if not found or not name.strip():
            raise click.BadParameter(f"{value!r} is not NAME{separator}VALUE")
        pairs.append((name.strip(), rest.strip()))
    return pairs


def _json(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    if value is None:
        return MISSING
    import json

    try:
        return json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}; use --raw for other text") from error


@click.command("http")
@click.argument("method")
@click.argument("url")
@click.option("-H", "--header", "headers", multiple=True, callback=_pairs, help="A header, as 'Name: value'.")
@click.option("-p", "--param", "params", multiple=True, callback=_pairs, help="A query parameter, as name=value.")
@click.option("-d", "--data", callback=_json, help="A JSON body.")
@click.option("--raw", help="A body of plain text.")
@click.option("-t", "--timeout", type=click.FloatRange(min=0, min_open=True), help="Deadline in seconds.")
@json_option
def command(
    method: str,
    url: str,
    headers: list[tuple[str, str]],
    params: list[tuple[str, str]],
    data: Any,
    raw: str | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Send one request and print the answer.

    The exit status is 0 for any answer, whatever its status, and 1 if there was none; the cause is then printed.
    """
    if data is not MISSING and raw is not None:
        raise click.UsageError("give --data or --raw, not both")
    facade = comm()
    try:
        response = facade.http_request(
            method.upper(), url, headers=headers, params=params, json=data, data=raw, timeout=timeout
        )
        failure = facade.http.last_failure
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    finally:
        facade.close()
    if response is None:
        if as_json:
            print_json({"failure": {"kind": failure.kind, "message": failure.message}} if failure else {})
        click.echo(f"zcli: no answer: {failure}", err=True)
        sys.exit(1)
    if as_json:
        print_json(
            {
                "status_code": response.status_code,
                "reason": response.reason,
                "url": response.url,
                "elapsed": response.elapsed,
                "headers": dict(response.headers),
                "text": response.text,
            }
        )
        return
    click.echo(f"{response.status_code} {response.reason}  {response.url}  {response.elapsed:.3f} s", err=True)
    click.echo(response.text)

"""``zcli token``: a new random secret."""

from __future__ import annotations

import secrets

import click

from zcli_core.cli.output import json_option, print_json

#: As many as HS256 takes for a secret (RFC 7518, section 3.2); more than anybody can guess.
_BYTES = 32


@click.command("token")
@json_option
def command(as_json: bool) -> None:
    """Print a new random token of 43 characters: letters, digits, - and _.

    It has 256 random bits, and suits websocket.token, the tokens of websocket.tokens and jwt.secret. Nothing is stored.
    These commands append a token to the .zEnv of the current folder, and let only its owner read it:

    \b
    echo "WEBSOCKET_TOKEN=$(zcli token)" >> .zEnv
    chmod 600 .zEnv
    """
    token = secrets.token_urlsafe(_BYTES)
    if as_json:
        print_json({"token": token})
    else:
        print(token)

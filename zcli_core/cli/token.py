"""``zcli token``: a new random secret."""

from __future__ import annotations

import secrets

import click

from zcli_core.cli.output import json_option, print_json

#: The least that HS256 allows for a secret (RFC 7518, section 3.2), and too many to guess.
_BYTES = 32


@click.command("token")
@json_option
def command(as_json: bool) -> None:
    """Print a new random token.

    It has 256 random bits, in 43 characters: letters, digits, - and _. Use it for websocket.token, websocket.tokens or
    jwt.secret. It is not stored anywhere. These commands append a token to the .zEnv of the current folder, and let
    only its owner read the file:

    \b
    echo "WEBSOCKET_TOKEN=$(zcli token)" >> .zEnv
    chmod 600 .zEnv
    """
    token = secrets.token_urlsafe(_BYTES)
    if as_json:
        print_json({"token": token})
    else:
        print(token)

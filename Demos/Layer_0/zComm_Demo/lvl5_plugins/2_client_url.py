"""Level 5.ii: print the URL with which a client may connect to 1_swap_by_deployment.py.

    python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/2_client_url.py ada

The last line of the output is the URL. In Development it has the token, in Production a JSON Web Token for that name,
valid for a minute. In a real system, a login service issues the tokens. Here the script signs one with the secret in
the .zEnv of its folder.
"""

import sys
import time
from pathlib import Path

from zCLI import print_line, zCLI

if len(sys.argv) != 2:
    sys.exit("Give the name of a client, as in: python3 2_client_url.py ada")

zSpark = {
    "title": "client-url",
    "logger": "PROD",
    "logger_path": "./logs",
    "env_file": Path(__file__).with_name(".zEnv"),  # this file, not one of the working directory
}

z = zCLI(zSpark)

if z.config.deployment == "Production":
    try:
        import jwt
    except ModuleNotFoundError:
        sys.exit("In Production this demo needs PyJWT, which is not installed: pip install 'pyjwt[crypto]'")
    claims = {"sub": sys.argv[1], "aud": "swap", "exp": time.time() + 60}
    token = jwt.encode(claims, z.config.jwt.secret, algorithm="HS256")
else:
    token = z.config.websocket.token
print_line(f"ws://{z.config.websocket.host}:{z.config.websocket.port}/?token={token}")

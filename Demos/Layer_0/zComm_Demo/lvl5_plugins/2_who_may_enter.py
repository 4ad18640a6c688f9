"""Level 5.ii: prints the address under which somebody may connect to 1_swap_by_deployment.py.

    python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/2_who_may_enter.py ada

The last line that it prints is the address. In Development it has the token, in Production a JSON Web Token for that
name, good for a minute. Real tokens are made by whoever knows who is who; here the secret in the .zEnv beside this
script is enough.
"""

import sys
import time

from zCLI import zCLI

z = zCLI({"title": "who-may-enter", "logger": "PROD", "logger_path": "./logs"})

if z.config.deployment == "Production":
    import jwt

    claims = {"sub": sys.argv[1], "aud": "swap", "exp": time.time() + 60}
    token = jwt.encode(claims, z.config.jwt.secret, algorithm="HS256")
else:
    token = z.config.websocket.token
print(f"ws://{z.config.websocket.host}:{z.config.websocket.port}/?token={token}")

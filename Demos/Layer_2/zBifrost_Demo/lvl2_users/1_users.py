"""Level 2: users with their own rows, and an admin who sees all of them.

In this folder, add two users, run the script, and open ../lvl1_board/1_client_board.html with the key of each user in
a window of its own. The keys are shown once:

    cd Demos/Layer_2/zBifrost_Demo/lvl2_users
    zcli bifrost add-user ann --role member
    zcli bifrost add-user eve --role admin
    python3 1_users.py

`zcli bifrost revoke ann` closes the windows of Ann within a second. The settings are in .zEnv, so that the command and
the script use the same database. It needs SQLAlchemy: pip install -e '.[bifrost]'.
"""

from zCLI import zCLI

z = zCLI({
    "zMode": "zBifrost",
    "title": "users-board",
    "logger_path": "./logs",
    "websocket": {"allowed_origins": ["file://", "http://127.0.0.1:8765"]},  # the page is a file; the console
})  # fmt: skip
z.walker.run()

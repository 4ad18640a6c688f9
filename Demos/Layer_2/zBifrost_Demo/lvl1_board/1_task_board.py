"""Level 1: a shared task board that is live in all windows, from a file of models.

Run it, and open 1_client_board.html of the same folder in two windows:

    python3 Demos/Layer_2/zBifrost_Demo/lvl1_board/1_task_board.py

It needs SQLAlchemy: pip install -e '.[bifrost]'. The tasks are in a SQLite file beside the log. The same on PostgreSQL
and in four processes needs a driver and settings, and no change of this file:

    pip install 'psycopg[binary]'
    export ZCLI_BIFROST_DATABASE=postgresql+psycopg://USER:PASSWORD@127.0.0.1:5432/postgres
    export ZCLI_WEBSOCKET_WORKERS=4 ZCLI_WEBSOCKET_BACKPLANE=local
    python3 Demos/Layer_2/zBifrost_Demo/lvl1_board/1_task_board.py

The backplane is local, because the processes find changes in the database. A script that broadcasts needs redis or
nats.
"""

from zCLI import zCLI

z = zCLI({
    "zMode": "zBifrost",
    "title": "task-board",
    "logger_path": "./logs",
    "bifrost": {"models": "models.yaml"},  # beside this file
})  # fmt: skip
z.walker.run()

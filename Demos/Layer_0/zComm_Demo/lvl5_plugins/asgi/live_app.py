"""The FastAPI application of 1_one_port.py and 2_live_counter.py: a page, its static files, and an API with docs.

Both demos import it. Alone, it serves the page without the WebSocket server, so that the page shows no counter:

    python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/asgi/live_app.py
"""

import sys
from pathlib import Path

try:
    import uvicorn
    from fastapi import FastAPI
    from fastapi.responses import RedirectResponse
    from fastapi.staticfiles import StaticFiles
except ModuleNotFoundError as missing:
    sys.exit(f"This demo needs FastAPI and uvicorn ({missing}): pip install fastapi uvicorn")

app = FastAPI(title="Live counter", summary="A FastAPI application that shares its port with a WebSocket server.")


@app.get("/", include_in_schema=False)
def to_the_page():
    """Send browsers to the page, which is one of the static files."""
    return RedirectResponse("/page/")


@app.get("/greeting/{name}")
def greeting(name: str) -> dict[str, str]:
    """Greet a user. The docs page can call this."""
    return {"greeting": f"Hello, {name}"}


app.mount("/page", StaticFiles(directory=Path(__file__).with_name("live_page"), html=True))

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=8765)

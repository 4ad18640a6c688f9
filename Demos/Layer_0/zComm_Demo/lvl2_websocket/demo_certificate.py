"""Make the certificate of 4_websocket_wss.py on first use, in the folder certs beside this file.

The demo calls it. To run it alone:

    python3 Demos/Layer_0/zComm_Demo/lvl2_websocket/demo_certificate.py

The files stay on this machine: certificates and keys do not belong in version control.
"""

import os
import sys
from pathlib import Path

from zCLI import print_line

FOLDER = Path(__file__).resolve().parent / "certs"
CERTIFICATE = FOLDER / "demo.cert"
KEY = FOLDER / "demo.key"


def make_certificate():
    """Make a certificate for the names of this machine, unless the files exist."""
    if CERTIFICATE.exists() and KEY.exists():
        return
    try:
        import trustme
    except ModuleNotFoundError:
        sys.exit("This demo makes a certificate with the package trustme, which is not installed: pip install trustme")
    issued = trustme.CA().issue_cert("localhost", "127.0.0.1", "::1", common_name="zCLI demo")
    FOLDER.mkdir(exist_ok=True)
    KEY.touch(mode=0o600)
    os.chmod(KEY, 0o600)
    KEY.write_bytes(issued.private_key_pem.bytes())
    CERTIFICATE.write_bytes(issued.cert_chain_pems[0].bytes())
    print_line(f"Made a certificate for this demo in {FOLDER}")


if __name__ == "__main__":
    make_certificate()

"""``python -m zCLI`` is the command ``zcli``."""

from zcli_core.cli.main import main

if __name__ == "__main__":
    main()

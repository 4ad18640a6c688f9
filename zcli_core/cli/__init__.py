"""The command ``zcli``: one module per subcommand."""

"""What the operating system gives: folders, files, accounts, processes, and this installation."""

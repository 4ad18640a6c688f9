z = zCLI({"zMode": "zBifrost"})
z.walker.run()  # One-line WebSocket server

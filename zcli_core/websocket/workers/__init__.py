"""Several processes that serve one port: ``websocket.workers``.

1. ``start()`` with more than one worker makes this process the supervisor (:mod:`.supervisor`). It does not serve. It
   binds one listening socket for each worker (:mod:`.sockets`), so that clients wait while a worker is replaced.
2. It starts the program again for each worker (:mod:`.command`) with ``ZCLI_WORKER``, the sockets, and one end of a
   socket pair. Importing zCLI takes the variable (:mod:`.assignment`), and ``start()`` then serves (:mod:`.worker`).
3. The socket pair carries lines of JSON (:mod:`.channel`). The worker reports that it is ready, what it counts (every
   second, from its event loop), wrong credentials, and its end. The supervisor asks, stops, and relays.
4. The end of the pair means that the other process is gone: a worker then drains and ends, the supervisor replaces it.
5. A worker that ends is replaced at once, later with growing pauses. Five crashes in a minute end the server.
6. A worker whose event loop is silent for ``worker_timeout`` is killed and replaced.
7. Reload: new workers on the same sockets, all ready; then all old ones stop accepting; when all have, each closes its
   clients with 1012 over ``reload_spread`` and ends. If a new worker fails, the new ones end and the old ones stay.
8. A failure before the first start is complete is raised by the supervisor's ``start()``, as with one process.
9. Signals: the supervisor stops at SIGINT and SIGTERM and reloads at SIGHUP. A worker ignores SIGINT and SIGHUP, which
   a terminal sends to the whole group, and ends gracefully at SIGTERM.
10. The supervisor sums the metrics of its workers, and keeps those of workers that have ended.
"""

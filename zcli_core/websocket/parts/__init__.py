"""The common parts of WebSocket transports, for the default transport and for yours.

A transport on asyncio derives from :class:`.listener.AsyncioListener` and :class:`.connection.AsyncioConnection`, and
provides a decoder (:class:`.delivery.Decoder`) and the encoding of messages.

Before a connection is open:

- :mod:`.binding` makes the sockets, :mod:`.accept_loop` accepts connections;
- :mod:`.pending` limits the connections that are not admitted;
- :mod:`.handshake` reads the request, asks the core and responds; :mod:`.upgrade` and :mod:`.request_head` parse.

An open connection:

- :mod:`.sending` writes, :mod:`.delivery` delivers messages to the core, :mod:`.connection` closes;
- :mod:`.keepalive` sends pings and closes silent clients, with :mod:`.pings` and :mod:`.send_progress`;
- :mod:`.frames` encodes, :mod:`.events` are what a decoder returns;
- :mod:`.close_frame_scanner` and :mod:`.unread` read what comes after the end.
"""

"""A line echo on asynchat of the standard library, where it is until Python 3.11. usage: asynchat_echo.py ADDR PORT"""

import asynchat
import asyncore
import socket
import sys

LINE_LIMIT = 65536


class Echo(asynchat.async_chat):
    def __init__(self, connection):
        super().__init__(connection)
        self.set_terminator(b"\n")
        self.pieces = []
        self.length = 0

    def readable(self):
        # A peer that does not read is not read.
        return not self.producer_fifo

    def collect_incoming_data(self, data):
        self.pieces.append(data)
        self.length += len(data)
        if self.length > LINE_LIMIT:
            self.close()

    def found_terminator(self):
        line = b"".join(self.pieces)
        self.pieces.clear()
        self.length = 0
        self.push(line.removesuffix(b"\r") + b"\r\n")


class Listener(asyncore.dispatcher):
    def __init__(self, address):
        super().__init__()
        self.create_socket()
        self.set_reuse_addr()
        self.bind(address)
        self.listen(4096)

    def handle_accepted(self, connection, address):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        Echo(connection)


listener = Listener((sys.argv[1], int(sys.argv[2])))
print("listening on {}:{}".format(*listener.socket.getsockname()), flush=True)
# select() would end at 1,024 descriptors.
asyncore.loop(use_poll=True)

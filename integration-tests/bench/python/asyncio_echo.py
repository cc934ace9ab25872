"""A line echo on asyncio: a protocol, the faster of its two interfaces, one write a read. usage: asyncio_echo.py ADDR PORT"""

import asyncio
import sys

LINE_LIMIT = 65536


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.rest = b""

    def data_received(self, data):
        if self.rest:
            data = self.rest + data
        *lines, self.rest = data.split(b"\n")
        if len(data) > LINE_LIMIT and max(map(len, lines + [self.rest])) > LINE_LIMIT:
            self.transport.abort()
        elif lines:
            self.transport.write(b"".join([line.removesuffix(b"\r") + b"\r\n" for line in lines]))

    def pause_writing(self):
        # A peer that does not read is not read.
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def main():
    server = await asyncio.get_running_loop().create_server(Echo, sys.argv[1], int(sys.argv[2]), backlog=4096)
    print("listening on {}:{}".format(*server.sockets[0].getsockname()), flush=True)
    await server.serve_forever()


asyncio.run(main())

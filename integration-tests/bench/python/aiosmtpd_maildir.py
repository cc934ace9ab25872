# aiosmtpd as its documentation has it: its Mailbox keeps messages in a Maildir.
import asyncio
import os
import sys

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP


async def main():
    # Beside this file, in the folder of the run.
    handler = Mailbox(os.path.join(os.path.dirname(sys.argv[0]), 'aiosmtpd-Maildir'))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler), sys.argv[1], int(sys.argv[2]), backlog=4096)
    print('listening on %s:%d' % server.sockets[0].getsockname(), flush=True)
    await server.serve_forever()

asyncio.run(main())

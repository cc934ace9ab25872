"""asynchat's own splitting, in this process: text on standard input, figures on standard output.

usage: split.py TERMINATOR PIECE SECONDS (the terminator in hexadecimal; PIECE bytes come at a time)
"""

import asynchat
import sys
import time

terminator, piece, seconds = bytes.fromhex(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
text = sys.stdin.buffer.read()
pieces = [text[at : at + piece] for at in range(0, len(text), piece)]


class Splitter(asynchat.async_chat):
    def __init__(self):
        super().__init__(map={})
        self.set_terminator(terminator)
        self.collected = []
        self.messages = []

    def recv(self, size):
        return self.piece

    def collect_incoming_data(self, data):
        self.collected.append(data)

    def found_terminator(self):
        self.messages.append(b"".join(self.collected))
        self.collected.clear()

    def split(self):
        self.messages.clear()
        for self.piece in pieces:
            self.handle_read()


splitter = Splitter()
splitter.split()
if splitter.messages != text.split(terminator)[:-1]:
    sys.exit("the messages are wrong")

passes, start = 0, time.thread_time()
while (elapsed := time.thread_time() - start) < seconds:
    splitter.split()
    passes += 1
print(passes * len(text), elapsed)

"""So many idle WebSocket clients from one process: each connects from one of several addresses, shakes hands and asks once. When each has its
answer or was refused it prints the counts as a line of JSON; it answers pings until its stdin ends.

Usage: clients.py HOST:PORT SOURCE NUMBER SOURCES     SOURCE: the first three bytes of the addresses to connect from
"""

import collections
import errno
import json
import os
import selectors
import socket
import sys

IP_BIND_ADDRESS_NO_PORT = 24
# Handshakes under way at once.
WINDOW = 256
MASK = b"\0\0\0\0"
ADD = {
    "service": "opensrf.math",
    "thread": "t",
    "osrf_msg": [
        {
            "__c": "osrfMessage",
            "__p": {
                "threadTrace": 1,
                "type": "REQUEST",
                "payload": {"__c": "osrfMethod", "__p": {"method": "add", "params": [1, 2]}},
            },
        }
    ],
}


def frame(opcode, payload):
    """A frame of a client, masked with zeros."""
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + MASK + payload


HANDSHAKE = (
    b"GET /osrf-websocket-translator HTTP/1.1\r\nHost: capacity\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAECAwQFBgcICQoLDA0ODw==\r\n\r\n"
)
REQUEST = frame(1, json.dumps(ADD, separators=(",", ":")).encode())


class Clients:
    def __init__(self, target, source, number, sources):
        host, port = target.split(":")
        self.target, self.source, self.number, self.sources = (host, int(port)), source, number, sources
        self.counts = collections.Counter()
        self.selector = selectors.DefaultSelector()
        # What a socket has received and not been read yet, by descriptor, until it is answered.
        self.pending = {}
        self.begun = 0

    def open(self):
        n, self.begun = self.begun, self.begun + 1
        client = socket.socket()
        client.setblocking(False)
        # The port is chosen when it connects, so that a pair of addresses has all of them.
        client.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        client.bind((f"{self.source}.{n % self.sources + 1}", 0))
        code = client.connect_ex(self.target)
        if code not in (0, errno.EINPROGRESS):
            self.settle(None, f"connect: {errno.errorcode[code]}")
            client.close()
            return
        self.pending[client.fileno()] = b""
        self.selector.register(client, selectors.EVENT_WRITE)

    def settle(self, client, what):
        """That is what became of it."""
        self.counts[what] += 1
        if client is None:
            return
        self.pending.pop(client.fileno(), None)
        if what != "answered":
            self.selector.unregister(client)
            client.close()

    def on_event(self, client, events):
        settled = client.fileno() not in self.pending
        try:
            if events & selectors.EVENT_WRITE:
                # The request goes along, and is relayed once the handshake is done.
                client.send(HANDSHAKE + REQUEST)
                self.selector.modify(client, selectors.EVENT_READ)
                return
            taken = client.recv(4096)
        except OSError as why:
            return self.gone(client, settled, errno.errorcode.get(why.errno, "error"))
        if not taken:
            return self.gone(client, settled, "closed")
        if settled:
            if taken[0] & 0xF == 9:
                client.send(frame(10, taken[2 : 2 + (taken[1] & 0x7F)]))
            elif taken[0] & 0xF == 8:
                self.gone(client, settled, "closed")
            return
        text = self.pending[client.fileno()] + taken
        self.pending[client.fileno()] = text
        status = text[9:12].decode()
        if len(text) > 12 and status != "101":
            self.settle(client, status)
        elif b'"content":3' in text and b'"205"' in text:
            self.settle(client, "answered")

    def gone(self, client, settled, what):
        if settled:
            self.counts["lost afterwards"] += 1
            self.selector.unregister(client)
            client.close()
        else:
            self.settle(client, what)

    def turn(self):
        for key, events in self.selector.select(1):
            if key.fileobj is sys.stdin:
                os._exit(0)
            self.on_event(key.fileobj, events)

    def run(self):
        while self.begun < self.number or self.pending:
            while self.begun < self.number and len(self.pending) < WINDOW:
                self.open()
            if self.pending:
                self.turn()
        print(json.dumps(self.counts), flush=True)
        self.selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            self.turn()


Clients(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])).run()

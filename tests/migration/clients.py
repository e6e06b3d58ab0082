"""Browsers for the trial: each asks all the time, by TLS through nginx, from an address of its own, and checks what it gets."""

import asyncio
import collections
import json
import random
import ssl
import threading

import websockets

URL = "wss://127.0.0.1:443/osrf-websocket-translator"
PATIENCE_SECONDS = 20


class Clients:
    """So many clients on a thread of their own. Every eighth has sessions and stays; the others leave and come back."""

    def __init__(self, number):
        # answered, resent (behind a 1012), lost (unanswered when any other end came), wrong, refused (no connection).
        self.counts = collections.Counter()
        # Ends that no client asked for, by close code.
        self.closes = collections.Counter()
        self.errors = []
        self.number = number
        self.is_over = False
        self.thread = threading.Thread(target=lambda: asyncio.run(self.all()))
        self.thread.start()

    def stop(self):
        self.is_over = True
        self.thread.join()

    async def all(self):
        await asyncio.gather(*(self.one(n) for n in range(self.number)))

    async def one(self, n):
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        stays = n % 8 == 0
        unanswered = None
        while not self.is_over:
            try:
                socket = await websockets.connect(URL, ssl=trusting, local_addr=(f"192.0.2.{n + 1}", 0))
            except (OSError, websockets.InvalidHandshake) as why:
                self.counts["refused"] += 1
                self.errors.append(f"client {n}: {why}")
                await asyncio.sleep(0.2)
                continue
            try:
                rounds = 0
                while not self.is_over and (stays or rounds < 6):
                    rounds += 1
                    # An end that came while it asked for nothing costs nothing.
                    await socket.ensure_open()
                    unanswered = unanswered or f"{n}.{rounds}.{random.random()}"
                    await self.ask(socket, unanswered, in_session=stays)
                    unanswered = None
                    await asyncio.sleep(random.uniform(0.3, 0.8))
                await socket.close()
            except websockets.ConnectionClosed as why:
                code = why.rcvd.code if why.rcvd else 1006
                self.closes[code] += 1
                if unanswered:
                    self.counts["resent" if code == 1012 else "lost"] += 1
                    unanswered = unanswered if code == 1012 else None
            except TimeoutError:
                self.counts["lost"] += 1
                self.errors.append(f"client {n}: nothing for {PATIENCE_SECONDS} s about {unanswered}")
                unanswered = None

    async def ask(self, socket, word, in_session):
        method = {"__c": "osrfMethod", "__p": {"method": "opensrf.demo.echo", "params": [word]}}
        request = {"threadTrace": 1, "type": "REQUEST", "payload": method}
        if in_session:
            await self.send(socket, word, {"threadTrace": 0, "type": "CONNECT", "payload": "null"})
            await self.until(socket, word, 200)
        await self.send(socket, word, request)
        content = await self.until(socket, word, 205)
        if in_session:
            await self.send(socket, word, {"threadTrace": 2, "type": "DISCONNECT", "payload": "null"})
        if content != [word]:
            self.counts["wrong"] += 1
            self.errors.append(f"asked for {word}, got {content}")
        self.counts["answered"] += 1

    async def send(self, socket, thread, message):
        envelope = {"service": "opensrf.demo", "thread": thread, "osrf_msg": [{"__c": "osrfMessage", "__p": message}]}
        await socket.send(json.dumps(envelope))

    async def until(self, socket, thread, code):
        """The contents that come before a STATUS of that code."""
        contents = []
        while True:
            reply = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE_SECONDS))
            if reply["thread"] != thread:
                self.counts["wrong"] += 1
                self.errors.append(f"asked on {thread}, got {reply}")
                continue
            for message in reply["osrf_msg"]:
                payload = message["__p"]["payload"]["__p"]
                if message["__p"]["type"] == "RESULT":
                    contents.append(payload["content"])
                elif int(payload["statusCode"]) == code:
                    return contents
                elif int(payload["statusCode"]) >= 300:
                    self.counts["wrong"] += 1
                    self.errors.append(f"{thread}: {payload}")
                    return contents

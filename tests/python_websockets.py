"""One run with a client library of another language: stateless, stateful, streamed, drained. Arguments: the port, the gateway's pid."""
import asyncio
import json
import os
import signal
import sys

import websockets

PORT, PID = int(sys.argv[1]), int(sys.argv[2])


def message(kind, trace, payload=None):
    inner = {"threadTrace": trace, "type": kind, "locale": "en-US", "tz": "America/New_York", "api_level": 1}
    if payload is not None:
        inner["payload"] = payload
    return {"__c": "osrfMessage", "__p": inner}


def request(trace, method, *params):
    return message("REQUEST", trace, {"__c": "osrfMethod", "__p": {"method": method, "params": list(params)}})


def envelope(service, thread, *messages):
    return json.dumps({"service": service, "thread": thread, "osrf_msg": list(messages)})


def parts(text):
    """(type, statusCode, content) of each message of an envelope."""
    for outer in json.loads(text)["osrf_msg"]:
        payload = outer["__p"]["payload"]["__p"]
        yield outer["__p"]["type"], int(payload.get("statusCode", 0)), payload.get("content")


async def until(socket, code):
    """The contents of the RESULTs up to a STATUS of `code`."""
    contents = []
    while True:
        for kind, got, content in parts(await asyncio.wait_for(socket.recv(), 10)):
            if kind == "RESULT":
                contents.append(content)
            elif got == code:
                return contents


async def connect():
    return await websockets.connect(f"ws://127.0.0.1:{PORT}/osrf-websocket-translator", max_size=None)


async def main():
    socket = await connect()
    await socket.send(envelope("opensrf.math", "t", request(0, "add", 1, 2)))
    assert [float(x) for x in await until(socket, 205)] == [3]

    await socket.send(envelope("opensrf.demo", "s", message("CONNECT", 0)))
    await until(socket, 200)
    pids = []
    for trace in (1, 2, 3):
        await socket.send(envelope("opensrf.demo", "s", request(trace, "opensrf.demo.pid")))
        pids += await until(socket, 205)
    assert len(pids) == 3 and len(set(map(str, pids))) == 1, pids
    await socket.send(envelope("opensrf.demo", "s", message("DISCONNECT", 4)))

    await socket.send(envelope("opensrf.demo", "c", request(0, "opensrf.demo.count", 3, 0.1)))
    assert [float(x) for x in await until(socket, 205)] == [1, 2, 3]

    idle = await connect()
    await socket.send(envelope("opensrf.demo", "d", request(0, "opensrf.demo.sleep", 1.5)))
    pong = await socket.ping()
    await asyncio.wait_for(pong, 10)
    os.kill(PID, signal.SIGUSR1)
    await asyncio.wait_for(idle.wait_closed(), 10)
    assert idle.close_code == 1012, idle.close_code
    await until(socket, 205)
    await asyncio.wait_for(socket.wait_closed(), 10)
    assert socket.close_code == 1012, socket.close_code


asyncio.run(main())

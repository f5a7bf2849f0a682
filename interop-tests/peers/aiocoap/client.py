"""A CoAP client on aiocoap for the tests: client.py URI [CONTEXT].

CONTEXT is a folder with the OSCORE context for all that is asked.

Stores a large text at /store and reads it back, reads what is not there, echoes, fetches, patches,
shows the Echo value that /fresh wants, then observes /store until it reads `end`.
"""

import asyncio
import sys

from aiocoap import FETCH, GET, PATCH, POST, PUT, Context, Message, iPATCH


async def main():
    context = await Context.create_client_context()
    uri = sys.argv[1]
    if len(sys.argv) > 2:
        context.client_credentials.load_from_dict({uri + "/*": {"oscore": {"basedir": sys.argv[2]}}})

    def request(code, path, **rest):
        return context.request(Message(code=code, uri=uri + path, **rest))

    large = b"".join(b"line %d\n" % number for number in range(500))
    response = await request(PUT, "/store", payload=large).response
    print("put", response.code, flush=True)
    response = await request(GET, "/store").response
    print("get", response.code, response.payload == large, flush=True)
    response = await request(GET, "/absent").response
    print("absent", response.code, flush=True)
    response = await request(POST, "/echo", payload=b"hello").response
    print("echo", response.code, response.payload.decode(), flush=True)

    response = await request(FETCH, "/store", payload=b"what").response
    print("fetch", response.code, response.payload == large, flush=True)
    response = await request(iPATCH, "/store", payload=b"+").response
    print("ipatch", response.code, flush=True)
    response = await request(PATCH, "/store", payload=b"+").response
    print("patch", response.code, flush=True)
    response = await request(POST, "/fresh", payload=b"x").response
    print("fresh", response.code, flush=True)
    response = await request(POST, "/fresh", payload=b"x", echo=response.opt.echo).response
    print("fresh", response.code, response.payload.decode(), flush=True)
    await asyncio.sleep(0.2)
    response = await request(GET, "/store").response
    print("smaller", response.code, response.payload == large + b"+", flush=True)
    await asyncio.sleep(0.2)

    observation = request(GET, "/store", observe=0)
    response = await observation.response
    print("observing", response.code, flush=True)
    async for notification in observation.observation:
        print("notified", notification.payload.decode(), flush=True)
        if notification.payload == b"end":
            break
    await context.shutdown()


asyncio.run(main())

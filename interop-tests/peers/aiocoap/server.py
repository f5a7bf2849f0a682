"""A CoAP server on aiocoap for the tests: server.py PORT [CONTEXT].

CONTEXT is a folder with an OSCORE context; without its protection nothing is answered then.

/store takes PUT, gives GET (block-wise in both directions) and notifies its observers of each PUT; /echo takes POST, and so
does /fresh, with an Echo value only.
"""

import asyncio
import sys

from aiocoap import CHANGED, UNAUTHORIZED, Context, Message, error, interfaces, resource
from aiocoap.credentials import CredentialsMap
from aiocoap.oscore_sitewrapper import OscoreSiteWrapper


class Store(resource.ObservableResource):
    def __init__(self):
        super().__init__()
        self.content = b"empty"

    async def render_get(self, request):
        return Message(payload=self.content, content_format=0)

    async def render_put(self, request):
        self.content = request.payload
        self.updated_state()
        return Message(code=CHANGED)


    async def render_fetch(self, request):
        return Message(payload=self.content, content_format=0)

    async def render_ipatch(self, request):
        self.content += request.payload
        return Message(code=CHANGED)


class Fresh(resource.Resource):
    async def render_post(self, request):
        if request.opt.echo != b"fresh enough":
            return Message(code=UNAUTHORIZED, echo=b"fresh enough")
        return Message(code=CHANGED, payload=b"fresh")


class Echo(resource.Resource):
    async def render_post(self, request):
        return Message(code=CHANGED, payload=request.payload)


class Protected(interfaces.Resource):
    """Leaves out who did not prove to have the context."""

    def __init__(self, site):
        self.site = site

    async def render_to_pipe(self, pipe):
        if not pipe.request.remote.authenticated_claims:
            raise error.Unauthorized
        await self.site.render_to_pipe(pipe)

    async def render(self, request):
        raise NotImplementedError

    async def needs_blockwise_assembly(self, request):
        raise NotImplementedError

    def get_resources_as_linkheader(self):
        return self.site.get_resources_as_linkheader()


async def main():
    site = resource.Site()
    site.add_resource(["store"], Store())
    site.add_resource(["echo"], Echo())
    site.add_resource(["fresh"], Fresh())
    if len(sys.argv) > 2:
        credentials = CredentialsMap()
        credentials.load_from_dict({":client": {"oscore": {"basedir": sys.argv[2]}}})
        site = OscoreSiteWrapper(Protected(site), credentials)
    await Context.create_server_context(site, bind=("127.0.0.1", int(sys.argv[1])))
    print("ready", flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main())

"""The function served by starlette, whose loop runs the handler: one event at a time per worker."""

import calling
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

calling.prepare()


async def serve(request):
    return JSONResponse(calling.call(await request.body(), request.headers.get("content-type")))


app = Starlette(routes=[Route("/", serve, methods=["POST"])])

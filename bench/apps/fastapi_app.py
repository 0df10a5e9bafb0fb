"""The function served by fastapi, whose loop runs the handler: one event at a time per worker."""

import calling
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()
calling.prepare()


@app.post("/")
async def serve(request: Request):
    return JSONResponse(calling.call(await request.body(), request.headers.get("content-type")))

"""The function behind fastapi. The handler runs on the loop: one event at a time in each worker."""

import calling
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()
calling.prepare()


@app.post("/")
async def serve(request: Request):
    return JSONResponse(calling.call(await request.body(), request.headers.get("content-type")))

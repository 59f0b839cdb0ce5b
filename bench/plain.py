"""The proxy everybody writes first, to compare with: FastAPI's StreamingResponse over httpx. No keys, no counting.

`python -m bench.plain PORT UPSTREAM`
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

upstream = sys.argv[2]
app = FastAPI()
client = httpx.AsyncClient(limits=httpx.Limits(max_connections=4000), timeout=60)


@app.post("/{path:path}")
async def relay(path: str, request: Request) -> StreamingResponse:
    """Pass a request on, and its answer back."""
    headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
    outgoing = client.build_request("POST", f"{upstream}/{path}", headers=headers, content=await request.body())
    answer = await client.send(outgoing, stream=True)

    async def body() -> AsyncIterator[bytes]:
        async for chunk in answer.aiter_raw():
            yield chunk
        await answer.aclose()

    return StreamingResponse(body(), answer.status_code, media_type=answer.headers.get("content-type"))


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="error")

"""The probe stream, `GET /api/v1/pulse`: its pace is known and it costs nothing, so that `arouter doctor` can measure
the path with it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from services.control.access import ERRORS, caller

router = APIRouter(dependencies=[Depends(caller)], responses=ERRORS)


@router.get(
    "/api/v1/pulse",
    tags=["health"],
    summary="The probe stream: events at a known pace, which show what a proxy does to them",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def probe_stream(
    events: Annotated[int, Query(ge=1, le=50, description="How many events to send.")] = 10,
    pace_ms: Annotated[int, Query(ge=1, le=1000, description="Milliseconds between them.")] = 200,
    silence: Annotated[int, Query(ge=0, le=300, description="Seconds of silence before the last one.")] = 0,
) -> StreamingResponse:
    """Each event says when it was sent, in milliseconds since the first; the last one is `[DONE]`."""

    async def stream() -> AsyncIterator[str]:
        started = time.monotonic()
        for number in range(events):
            sent = int((time.monotonic() - started) * 1000)
            yield f"data: {json.dumps({'event': number, 'sent_ms': sent})}\n\n"
            await asyncio.sleep(pace_ms / 1000)
        await asyncio.sleep(silence)
        yield "data: [DONE]\n\n"

    headers = {"cache-control": "no-cache, no-transform", "x-accel-buffering": "no"}
    return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)

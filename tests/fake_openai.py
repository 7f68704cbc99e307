"""An OpenAI-compatible server whose answers a test decides. Real HTTP; only the model is missing."""

from __future__ import annotations

import asyncio

from aiohttp import web
from fake_server import FakeServer


class FakeOpenAI(FakeServer):
    """`answers` are played in order, the last one repeats: a text, a list of (tool, JSON arguments), or a web.Response;
    or one function makes them of the requests' bodies.

    `async with FakeOpenAI(answers) as fake:`; `fake.url`, `fake.bodies`, `fake.headers`, `fake.peak` (requests at a
    time).
    """

    def __init__(self, answers, delay=0.0):
        self.answers, self.delay, self.bodies, self.headers, self.open, self.peak = answers, delay, [], [], 0, 0
        super().__init__({"/v1/chat/completions": self._complete})

    async def __aenter__(self):
        await super().__aenter__()
        self.url += "/v1"
        return self

    async def _complete(self, request):
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.open += 1
        self.peak = max(self.peak, self.open)
        await asyncio.sleep(self.delay)
        self.open -= 1
        if callable(self.answers):
            return completion(self.answers(body))
        return completion(self.answers[min(len(self.bodies) - 1, len(self.answers) - 1)])


def completion(answer) -> web.Response:
    """A chat completion of one answer."""
    if isinstance(answer, web.Response):  # a response can be sent only once
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    calls = None
    if isinstance(answer, list):
        calls = [
            {"id": f"x{n}", "type": "function", "function": {"name": f, "arguments": a}}
            for n, (f, a) in enumerate(answer)
        ]
        answer = None
    message = {"role": "assistant", "content": answer, "tool_calls": calls}
    return web.json_response({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]})

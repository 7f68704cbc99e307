"""Agents of one's own that do what a scaffold may do, or had better not."""

from __future__ import annotations

import asyncio
import threading
import time

import openai
from openai import AsyncOpenAI

from slime_tau2 import bench

SEEN: list[object] = []
"""What the agents met, for the tests to look at."""


class Plain:
    """One call a turn; `asks` can be told otherwise."""

    def __init__(self, model, brief):
        self.model, self.brief = model, brief
        self.messages = [{"role": "system", "content": brief.system_prompt}]

    async def act(self, heard):
        self.messages += heard
        return await self.ask()

    async def ask(self, **options):
        said = await self.model.complete(self.messages, **options)
        self.messages.append(said.message)
        return said


class Untrained(Plain):
    """A first call whose tokens do not train."""

    async def act(self, heard):
        self.messages += [*heard, {"role": "user", "content": "Think."}]
        await self.ask(train=False)
        self.messages.append({"role": "user", "content": "Say it."})
        return await self.ask()


class Cut(Plain):
    """Bounds its first call of a turn."""

    async def act(self, heard):
        self.messages += heard
        SEEN.append(await self.ask(max_tokens=3))
        self.messages.append({"role": "user", "content": "Go on."})
        return await self.ask()


class Forgetful(Plain):
    """Writes a summary in place of what it heard."""

    async def act(self, heard):
        if len(self.messages) > 2:
            self.messages[1:] = [{"role": "user", "content": "The customer wants something."}]
        return await super().act(heard)


class Rewriting(Forgetful):
    """Is allowed to."""

    several_conversations = True


class Advised(Plain):
    """Asks an adviser before each turn, in a conversation of its own."""

    several_conversations = True
    ADVISE = "You advise."

    def __init__(self, model, brief):
        super().__init__(model, brief)
        self.adviser = [{"role": "system", "content": self.ADVISE}]

    async def act(self, heard):
        self.adviser.append({"role": "user", "content": str(heard[-1]["content"])})
        advice = await self.model.complete(self.adviser, tools=[])
        self.adviser.append(advice.message)
        return await super().act(heard)


class Picky(Plain):
    """Wants a second answer to the same messages."""

    async def act(self, heard):
        self.messages += heard
        await self.model.complete(self.messages)
        return await self.model.complete(self.messages)


class Choosy(Plain):
    """Offers other tools from its second call on."""

    async def act(self, heard):
        self.messages += heard
        return await self.ask(tools=self.brief.tools[: 1 if len(self.messages) > 3 else None])


class Stubborn(Plain):
    """Swallows whatever an ending raises, and asks again."""

    async def act(self, heard):
        self.messages += heard
        while True:
            try:
                return await self.ask()
            except Exception as error:
                SEEN.append(error)


class Broken(Plain):
    async def act(self, heard):
        raise KeyError("mine")


class Empty(Plain):
    async def act(self, heard):
        await super().act(heard)
        return "  "


class Nonsense(Plain):
    async def act(self, heard):
        return 7


class Silent(Plain):
    """Answers without the policy: hands over to a human."""

    async def act(self, heard):
        return bench.AssistantMessage(role="assistant", content="I cannot help you.", cost=0.0)


class Hangs(Plain):
    """Waits, in a thread, for what never comes."""

    def act(self, heard):
        time.sleep(3600)


class Parallel(Plain):
    """Asks twice at a time."""

    async def act(self, heard):
        self.messages += heard
        await asyncio.gather(self.model.complete(self.messages), self.model.complete(self.messages))


class Closed(Plain):
    async def close(self):
        SEEN.append("closed")


class NeverCloses(Plain):
    async def close(self):
        await asyncio.Event().wait()


class ClosesInVain(Plain):
    """Does not heed that it is cancelled."""

    async def close(self):
        for _ in range(2):
            try:
                await asyncio.sleep(3)
            except asyncio.CancelledError:
                SEEN.append("cancelled")


class ClosesSlowly(Plain):
    """Holds up whatever runs it."""

    def close(self):
        time.sleep(2)


class ClosesInAThread(Plain):
    def close(self):
        SEEN.append(threading.current_thread().name)


class ClosesByAClient(Plain):
    """A plain function that hands on what is to be awaited."""

    def close(self):
        return Closed.close(self)


class CannotClose(Plain):
    async def close(self):
        raise KeyError("mine")


class CancelsItsClose(Plain):
    async def close(self):
        raise asyncio.CancelledError


class Caller(Plain):
    """A client of OpenAI's."""

    def __init__(self, model, brief):
        super().__init__(model, brief)
        access = brief.access
        self.openai = AsyncOpenAI(base_url=access.base_url, api_key=access.api_key, max_retries=0)

    async def act(self, heard):
        self.messages += heard
        message = await self.said()
        self.messages.append(message)
        return message

    async def said(self):
        answer = await self.openai.chat.completions.create(
            model=self.brief.access.model, messages=self.messages, tools=self.brief.tools
        )
        SEEN.append(answer)
        return answer.choices[0].message

    async def close(self):
        await self.openai.close()


class Streamed(Caller):
    """Puts the message together from chunks, as streaming clients do."""

    async def said(self):
        words, calls = "", []
        stream = await self.openai.chat.completions.create(
            model="policy",
            messages=self.messages,
            tools=self.brief.tools,
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            SEEN.append(chunk)
            for choice in chunk.choices:
                words += choice.delta.content or ""
                calls += [c.model_dump(exclude={"index"}) for c in choice.delta.tool_calls or []]
        return {"role": "assistant", "content": words or None, **({"tool_calls": calls} if calls else {})}


class Odd(Caller):
    """Says what no policy can be asked."""

    async def said(self):
        for field, value in {
            "n": 2,
            "tool_choice": "required",
            "response_format": {"type": "json_object"},
            "stop": ["x"],
            "logprobs": True,
            "max_tokens": 0,
        }.items():
            try:
                await self.openai.chat.completions.create(
                    model="policy", messages=self.messages, tools=self.brief.tools, **{field: value}
                )
            except openai.BadRequestError as error:
                SEEN.append((field, error.message))
        SEEN.append([model.id async for model in self.openai.models.list()])
        return await super().said()


class Tells(Caller):
    """Notes the error that it is told, and gives up with it."""

    async def said(self):
        try:
            return await super().said()
        except openai.APIError as error:
            SEEN.append(error)
            raise


class Rewrites(Tells):
    async def act(self, heard):
        if len(self.messages) > 2:
            self.messages[-1] = {"role": "assistant", "content": "I said something else."}
        return await super().act(heard)


class Swallows(Tells):
    """Apologises when its server fails."""

    async def said(self):
        try:
            return await super().said()
        except openai.APIError:
            return {"role": "assistant", "content": "Sorry, I have a problem."}


class HangsUp(Caller):
    """Does not wait long for its first answer, then asks the same again."""

    async def said(self):
        try:
            await self.openai.with_options(timeout=0.15).chat.completions.create(
                model="policy", messages=self.messages, tools=self.brief.tools
            )
        except openai.APITimeoutError as error:
            SEEN.append(error)
        return await super().said()


class AsksAgain(Caller):
    """Has lost its first answer."""

    async def said(self):
        lost, found = await super().said(), await super().said()
        assert lost == found
        return found


class Wordless(Caller):
    """Drops the words beside a call, as some clients do."""

    async def act(self, heard):
        message = await super().act(heard)
        if message.tool_calls:
            self.messages[-1] = {"role": "assistant", "content": None, "tool_calls": message.tool_calls}
        return message


class Stranger(Caller):
    """Has a key that is no episode's."""

    async def said(self):
        self.openai.api_key = "sk-0"
        try:
            return await super().said()
        except openai.AuthenticationError as error:
            SEEN.append(error)
            raise


def not_a_factory(model):
    """Takes no brief."""

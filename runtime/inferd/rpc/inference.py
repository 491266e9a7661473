"""`inferd.v1.Inference`.

Read the contract (`inference.proto`), then this: `convert` is the way in, `replies` the way out.
`boundary` surrounds every call.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from typing import TypeVar

from inferd import messages
from inferd.announce import Announced
from inferd.answer import collect
from inferd.batch import open_streams
from inferd.errors import renamed, told
from inferd.rpc.boundary import Context, announce
from inferd.rpc.calls import current
from inferd.rpc.convert import chat_of, generate_of, path_of
from inferd.rpc.errors import failed_of
from inferd.rpc.replies import Form
from inferd.service import Service
from inferd_proto.v1 import inference_pb2 as pb
from inferd_proto.v1 import inference_pb2_grpc as pb_grpc

_log = logging.getLogger("inferd.rpc")

Events = AsyncGenerator[pb.GenerateEvent, None]
R = TypeVar("R", pb.GenerateRequest, pb.ChatRequest)
Convert = Callable[[R], messages.Generate]


class Inference(pb_grpc.InferenceServicer):
    """The service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def Generate(self, request: pb.GenerateRequest, context: Context) -> pb.GenerateResponse:
        return await self._whole(generate_of, request, context)

    def GenerateStream(self, request: pb.GenerateRequest, context: Context) -> Events:
        return self._events(generate_of, request, context)

    async def Chat(self, request: pb.ChatRequest, context: Context) -> pb.GenerateResponse:
        return await self._whole(chat_of, request, context)

    def ChatStream(self, request: pb.ChatRequest, context: Context) -> Events:
        return self._events(chat_of, request, context)

    async def Tokenize(self, request: pb.TokenizeRequest, context: Context) -> pb.TokenizeResponse:
        ids = await self._service.tokenize(
            request.model,
            request.text,
            add_special_tokens=(
                request.add_special_tokens if request.HasField("add_special_tokens") else None
            ),
        )
        return pb.TokenizeResponse(token_ids=ids)

    async def Detokenize(
        self, request: pb.DetokenizeRequest, context: Context
    ) -> pb.DetokenizeResponse:
        text = await self._service.detokenize(request.model, request.token_ids)
        return pb.DetokenizeResponse(text=text)

    async def _whole(
        self, convert: Convert[R], request: R, context: Context
    ) -> pb.GenerateResponse:
        call = current.get()
        starts: list[messages.Start] = []
        announced = Announced(self._service, starts.append)
        with renamed(path_of):
            generate = convert(request)
            async with open_streams(announced, [generate], call.caller, call.id) as outputs:
                answer = await collect(outputs, prompts=1, n=generate.n)
        await announce(context, starts)
        return Form(request.response, call.id).whole(answer)

    async def _events(self, convert: Convert[R], request: R, context: Context) -> Events:
        call = current.get()
        form = Form(request.response, call.id)
        started = False
        try:
            with renamed(path_of):
                stream = self._service.stream(convert(request), call.caller, request_id=call.id)
                async with stream as outputs:
                    async for output in outputs:
                        if isinstance(output, messages.Start):
                            await announce(context, [output])
                        event = form.event(output)
                        if event is not None:
                            started = True
                            yield event
        except Exception as raised:
            if not started:
                raise
            error = told(raised, _log, f"the answer to request {call.id} broke off")
            yield pb.GenerateEvent(failed=failed_of(error))

"""KServe's Open Inference Protocol: the tensor `text_input` in, the tensor `text_output` out.

Parameters are those of the request, or of the tensor `sampling_parameters` (JSON), as Triton's
vLLM backend has it. Several texts are several prompts.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from inferd import __version__
from inferd.announce import Announced
from inferd.answer import Answer, collect
from inferd.batch import check_count, open_streams
from inferd.card import Cards
from inferd.errors import InvalidRequest, renamed
from inferd.messages import Generate, Start
from inferd.rpc.boundary import Context, announce
from inferd.rpc.calls import current
from inferd.service import Service
from inferd.values import wrong_value
from inferd_proto.kserve import inference_pb2 as pb
from inferd_proto.kserve import inference_pb2_grpc as pb_grpc

_MAX_DIMENSIONS = 8

_LENGTH = struct.Struct("<I")  # before each element of a raw BYTES tensor

_InputTensor = pb.ModelInferRequest.InferInputTensor
_TensorMetadata = pb.ModelMetadataResponse.TensorMetadata


class Parameters(Struct, forbid_unknown_fields=True, kw_only=True):
    """What a request may set; called as in `Generate`."""

    n: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: str | tuple[str, ...] | None = None
    ignore_eos: bool | None = None
    exclude_input_in_output: bool | None = None  # false: the prompt comes before its answer


class KServe(pb_grpc.GRPCInferenceServiceServicer):
    """The service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = service.registry
        self._cards = Cards(service.registry, service.adapters)

    async def ServerLive(
        self, request: pb.ServerLiveRequest, context: Context
    ) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(
        self, request: pb.ServerReadyRequest, context: Context
    ) -> pb.ServerReadyResponse:
        models = self._registry.list()
        ready = bool(models) and all(each.ready for each in models)
        return pb.ServerReadyResponse(ready=ready and not self._service.admission.draining)

    async def ModelReady(
        self, request: pb.ModelReadyRequest, context: Context
    ) -> pb.ModelReadyResponse:
        model = self._cards.resolve(_name(request.name, request.version))
        return pb.ModelReadyResponse(ready=model.ready and not self._service.admission.draining)

    async def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(name="inferd", version=__version__)

    async def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: Context
    ) -> pb.ModelMetadataResponse:
        model = self._cards.resolve(_name(request.name, request.version))
        return pb.ModelMetadataResponse(
            name=model.name,
            versions=[model.version] if model.version else [],
            platform="inferd",
            inputs=[_TensorMetadata(name="text_input", datatype="BYTES", shape=[-1])],
            outputs=[_TensorMetadata(name="text_output", datatype="BYTES", shape=[-1])],
        )

    async def ModelInfer(
        self, request: pb.ModelInferRequest, context: Context
    ) -> pb.ModelInferResponse:
        tensors = _tensors(request)
        parameters = _parameters(request, tensors)
        for output in request.outputs:
            if output.name != "text_output":
                raise InvalidRequest("The only output is `text_output`", "outputs")
        call = current.get()
        starts: list[Start] = []
        announced = Announced(self._service, starts.append)
        with renamed(_param):
            requests = _generates(request, tensors, parameters)
            async with open_streams(announced, requests, call.caller, call.id) as outputs:
                answer = await collect(outputs, prompts=len(requests), n=requests[0].n)
        await announce(context, starts)
        return _response(request, _texts(answer, parameters))


def _param(field: str) -> str:
    """What a request here calls a field of `Generate`."""
    if field in Parameters.__struct_fields__:
        return f"parameters.{field}"
    return "inputs" if field.startswith("prompt") else field


def _name(name: str, version: str) -> str:
    return f"{name}:{version}" if version else name


def _tensors(request: pb.ModelInferRequest) -> dict[str, list[bytes]]:
    """The elements of each input, all of which are texts."""
    if request.raw_input_contents and len(request.raw_input_contents) != len(request.inputs):
        raise InvalidRequest("There must be one raw content per input", "raw_input_contents")
    tensors = {}
    for place, tensor in enumerate(request.inputs):
        param = f"inputs.{place}"
        if tensor.name not in ("text_input", "sampling_parameters"):
            raise InvalidRequest(
                "Inputs are `text_input` and `sampling_parameters`", f"{param}.name"
            )
        if tensor.datatype != "BYTES":
            raise InvalidRequest(f"`{tensor.name}` must be of type BYTES", f"{param}.datatype")
        if request.raw_input_contents:
            elements = list(_raw_elements(request.raw_input_contents[place], param))
        else:
            elements = list(tensor.contents.bytes_contents)
        _check_shape(tensor, len(elements), param)
        tensors[tensor.name] = elements
    return tensors


def _raw_elements(raw: bytes, param: str) -> Iterable[bytes]:
    at = 0
    while at < len(raw):
        begin = at + _LENGTH.size
        if begin > len(raw):
            raise InvalidRequest("A raw content is cut off", param)
        at = begin + _LENGTH.unpack_from(raw, at)[0]
        if at > len(raw):
            raise InvalidRequest("A raw content is cut off", param)
        yield raw[begin:at]


def _check_shape(tensor: _InputTensor, count: int, param: str) -> None:
    shape = tensor.shape
    if len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0 or math.prod(shape) != count:
        raise InvalidRequest(f"The shape of `{tensor.name}` does not fit", f"{param}.shape")


def _parameters(request: pb.ModelInferRequest, tensors: dict[str, list[bytes]]) -> Parameters:
    """The request's own, over those of the tensor."""
    given: dict[str, Any] = {}
    for text in tensors.get("sampling_parameters", ()):
        try:
            given |= msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = "`sampling_parameters` must be a JSON object"
            raise InvalidRequest(message, "sampling_parameters") from None
    for name, parameter in request.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        given[name] = getattr(parameter, kind) if kind else None
    try:
        return msgspec.convert(given, Parameters, strict=False)
    except msgspec.ValidationError as error:
        raise wrong_value(error, "parameters") from None


def _generates(
    request: pb.ModelInferRequest, tensors: dict[str, list[bytes]], parameters: Parameters
) -> list[Generate]:
    texts = tensors.get("text_input", [])
    check_count(len(texts))
    given = {k: v for k, v in structs.asdict(parameters).items() if v is not None}
    given.pop("exclude_input_in_output", None)
    if isinstance(parameters.stop, str):
        given["stop"] = (parameters.stop,)
    model = _name(request.model_name, request.model_version)
    return [Generate(model=model, prompt=_text(text), **given) for text in texts]


def _text(element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("`text_input` must be UTF-8", "inputs") from None


def _texts(answer: Answer, parameters: Parameters) -> list[str]:
    if parameters.exclude_input_in_output is False:
        return [choice.start.prompt_text + choice.text for choice in answer.choices]
    return [choice.text for choice in answer.choices]


def _response(request: pb.ModelInferRequest, texts: Sequence[str]) -> pb.ModelInferResponse:
    """Raw where the request was."""
    elements = [text.encode() for text in texts]
    response = pb.ModelInferResponse(
        model_name=request.model_name,
        model_version=request.model_version,
        id=request.id,
    )
    output = response.outputs.add(name="text_output", datatype="BYTES", shape=[len(elements)])
    if request.raw_input_contents:
        raw = b"".join(_LENGTH.pack(len(element)) + element for element in elements)
        response.raw_output_contents.append(raw)
    else:
        output.contents.bytes_contents.extend(elements)
    return response

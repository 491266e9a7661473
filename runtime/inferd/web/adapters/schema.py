"""What the routes for adapters read, with its bounds."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from inferd.adapters.records import AdapterStatus
from inferd.names import MAX_NAME_CHARS
from inferd.web.bounds import said
from inferd.web.deploy.schema import Revision, Token

_Text = Annotated[str, Meta(min_length=1, max_length=4096)]

Name = Annotated[
    str, Meta(min_length=1, max_length=MAX_NAME_CHARS), said("What requests write as `model`.")
]
Source = Annotated[
    _Text, said("A Hugging Face id, or a folder on the server where its operator allows that.")
]
Base = Annotated[
    _Text | None,
    said(
        "The model that it adapts; by default the one that the adapter's own configuration names, "
        "if that is served, else the only one that is."
    ),
]


class From(Struct, kw_only=True):
    """An adapter in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`."""

    source: Source
    revision: Revision = None
    token: Token = None


class Load(From, kw_only=True):
    """An adapter, and the name to serve it by."""

    name: Name
    base: Base = None
    replace: Annotated[
        bool, said("Let the name, if it is taken, point to this adapter from now on.")
    ] = False


class Canary(From, kw_only=True):
    """A candidate that answers some of a name's requests."""

    percent: Annotated[float, Meta(gt=0, le=100), said("Of the name's requests.")]


class Shadow(From, kw_only=True):
    """A candidate that scores some of a name's replies, and answers nothing."""

    percent: Annotated[float, Meta(gt=0, le=100), said("Of the name's requests.")] = 100.0


class AdapterList(Struct):
    data: tuple[AdapterStatus, ...]
    object: str = "list"


class Unloaded(Struct):
    """Nothing of it is left."""

    name: str
    state: str = "unloaded"


class LoadLoraAdapter(Struct, kw_only=True):
    """vLLM's."""

    lora_name: Name
    lora_path: Source
    load_inplace: Annotated[
        bool | None, said("Let the name, if it is taken, point to this adapter from now on.")
    ] = None
    base_model_name: Base = None


class UnloadLoraAdapter(Struct, kw_only=True):
    """vLLM's."""

    lora_name: Name
    lora_int_id: Annotated[int | None, said("Accepted and not used.")] = None


class LoraModel(Struct, kw_only=True):
    """DeepInfra's."""

    lora_model_name: Name
    hf_model_name: Source
    hf_token: Token = None
    base_model_name: Base = None

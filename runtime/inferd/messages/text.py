"""Between front ends and the service, in text: what a request asks for, and what comes of it."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from inferd.messages.engine import LogprobsMode

DoneReason = Literal["stop", "length", "abort", "tool_calls"]


class ToolCallFunction(Struct, frozen=True):
    name: str
    arguments: str | dict[str, Any] = "{}"  # an object, or its JSON text


class ToolCall(Struct, frozen=True):
    function: ToolCallFunction
    id: str = ""
    type: Literal["function"] = "function"


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn, as chat templates expect it; content parts are already joined to text."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class JsonObject(Struct, frozen=True, tag="json_object"):
    """The answer is a JSON object."""


class JsonSchema(Struct, frozen=True, tag="json_schema"):
    """The answer is JSON that satisfies `schema` (draft 2020-12)."""

    schema: dict[str, Any] | bool
    name: str = ""
    strict: bool | None = None


class Regex(Struct, frozen=True, tag="regex"):
    """The whole answer matches `pattern`."""

    pattern: str


class OneOf(Struct, frozen=True, tag="choice"):
    """The answer is one of these texts."""

    choices: tuple[str, ...]


class Grammar(Struct, frozen=True, tag="grammar"):
    """The answer is in the language of a grammar, in Lark or in EBNF (GBNF)."""

    text: str


Format = JsonObject | JsonSchema | Regex | OneOf | Grammar


class NamedTool(Struct, frozen=True):
    """`tool_choice` that names the one function to call."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


class Generate(Struct, frozen=True, kw_only=True):
    """A request to generate text, whatever dialect it came in.

    None means "not given": the model's `generation_config`, then the dialect's default applies.
    Exactly one of `prompt` and `messages` is set.
    """

    model: str
    prompt: str | tuple[int, ...] | None = None  # a text, or its token ids
    messages: tuple[Message, ...] | None = None
    tools: tuple[dict[str, Any], ...] = ()  # {"type": "function", "function": {"name", …}}
    tool_choice: ToolChoice = "auto"  # "none": the template sees no tools, nothing is parsed
    parallel_tool_calls: bool = True
    format: Format | None = None
    split_reasoning: bool = True  # in chats: what the model thinks comes apart from its answer
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    continue_final_message: bool = False  # the last message is the assistant's, to be continued
    n: int = 1
    max_tokens: int | None = None  # None: up to the context's end
    max_tokens_may_exceed: bool = False  # the context's end comes first then, without an error
    min_tokens: int = 0
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logprob_token_ids: tuple[int, ...] = ()
    logprobs_mode: LogprobsMode = "raw"
    add_special_tokens: bool | None = None  # None: to a `prompt` that is text, not to a chat
    priority: int = 0
    cache_salt: str = ""


class Caller(Struct, frozen=True):
    """Who asks; decided by `auth`, never by the request's body."""

    name: str = "anonymous"


class TokenText(Struct, frozen=True):
    """A token as text. `raw` holds the token's own bytes, which need not be whole characters."""

    token_id: int
    text: str
    raw: bytes


class ScoredToken(Struct, frozen=True):
    """A token, its logprob and its likeliest alternatives, as text."""

    token: TokenText
    logprob: float
    rank: int
    top: tuple[tuple[TokenText, float], ...] = ()
    extra: tuple[tuple[TokenText, float], ...] = ()


class Start(Struct, frozen=True):
    """The request was accepted. First of a stream."""

    prompt_token_ids: tuple[int, ...]
    prompt_text: str  # the prompt after templating
    adapter: str = ""  # the generation that answers; "": the bare model
    served_by: str = ""  # the model that answers in place of a deprecated one that was asked for


class Prompt(Struct, frozen=True):
    """One choice's scored prompt; first entry is None (nothing precedes it).

    `first` is that first token, whose text echoing needs.
    """

    index: int
    logprobs: tuple[ScoredToken | None, ...]
    first: TokenText | None = None


class CallDelta(Struct, frozen=True):
    """A piece of a tool call. A call's first piece has its `id` and `name`, and no other does;
    its pieces' `arguments` join to the text of a JSON object, unless the choice ended within it
    (`length`, or a model that breaks off where nothing constrains it). A call is over when the
    next one begins or the choice is done."""

    number: int  # of the call within its choice, from 0
    id: str = ""
    name: str = ""
    arguments: str = ""


class Chunk(Struct, frozen=True):
    """New text of one choice. Text may be empty while characters, stops or the markers of tool
    calls and reasoning are incomplete; their tokens still appear in `token_ids`, at once."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[ScoredToken, ...] = ()
    special: bool = False  # the tokens are special ones, hidden by skip_special_tokens
    reasoning: str = ""
    calls: tuple[CallDelta, ...] = ()


class Done(Struct, frozen=True):
    """One choice ended. `stop_reason` is the stop string or stop token id that ended it.
    `reason` is `tool_calls` where the choice ended well and calls at least one tool."""

    index: int
    reason: DoneReason
    stop_reason: str | int | None = None


class Usage(Struct, frozen=True):
    """Last of a stream that ended well. Counts are tokens; the prompt counts once, not n times."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    runtime_s: float = 0.0
    reasoning_tokens: int = 0  # among the completion's

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


Output = Start | Prompt | Chunk | Done | Usage

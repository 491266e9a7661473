"""The words that options choose from: as they are written, to what they mean here."""

from __future__ import annotations

DTYPES = {word: word for word in ("auto", "float32", "bfloat16", "float16")} | {
    "float": "float32",
    "half": "float16",
}
QUANTIZATIONS = {word: word for word in ("auto", "int8", "compressed-tensors")}
POLICIES = {word: word for word in ("fcfs", "priority", "fair")}
LEVELS = {word: word for word in ("debug", "info", "warning", "error")}
_OURS = ("auto", "none")
TOOL_PARSERS = {word: word for word in _OURS} | {  # vLLM's names, to ours
    "hermes": "hermes",
    "qwen3_coder": "qwen3_coder",
    "qwen3_xml": "qwen3_coder",
    "llama3_json": "llama3_json",
    "llama4_json": "llama3_json",
    "pythonic": "pythonic",
    "llama4_pythonic": "pythonic",
    "mistral": "mistral",
    "deepseek_v3": "deepseek_v3",
    "deepseek_v31": "deepseek_v3",
    "phi4_mini_json": "phi4_mini_json",
    "granite": "granite",
    "glm45": "glm45",
    "json": "json",
}
REASONING_PARSERS = {word: word for word in _OURS} | {
    "think": "think",
    "deepseek_r1": "think",
    "qwen3": "think",
    "glm45": "think",
    "mistral": "mistral",
    "cohere": "cohere",
    "seed_oss": "seed_oss",
    "granite": "granite",
}

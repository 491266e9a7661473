"""DeepInfra's native text generation."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

LN2 = 0.6931


def infer(http: httpx.Client, path: str = "echo", **fields: Any) -> dict[str, Any]:
    reply = http.post(f"/v1/inference/{path}", json={"input": "abc", "max_new_tokens": 5} | fields)
    assert reply.status_code == 200, reply.text
    body: dict[str, Any] = reply.json()
    return body


def events(http: httpx.Client, **fields: Any) -> list[dict[str, Any]]:
    body = {"input": "abc", "max_new_tokens": 5, "stream": True} | fields
    reply = http.post("/v1/inference/echo", json=body)
    assert reply.status_code == 200, reply.text
    assert "error" not in reply.text
    parts = reply.text.split("\n\n")
    assert parts[-1] == ""
    return [json.loads(each.removeprefix("data: ")) for each in parts[:-1]]


def invalid(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    reply = http.post("/v1/inference/echo", json={"input": "abc"} | fields)
    assert reply.status_code == 422, reply.text
    (entry,) = reply.json()["detail"]
    assert entry["msg"]
    result: dict[str, Any] = entry
    return result


def test_the_envelope(http: httpx.Client) -> None:
    body = infer(http)
    assert body["results"] == [{"generated_text": "abcab"}]
    assert (body["num_tokens"], body["num_input_tokens"]) == (5, 3)
    assert body["request_id"].startswith("R")
    status = body["inference_status"]
    assert status["status"] == "succeeded"
    assert status["cost"] == 0.0
    assert status["runtime_ms"] >= 0
    assert (status["tokens_generated"], status["tokens_input"]) == (5, 3)
    assert "error" not in json.dumps(body)


def test_several_responses(http: httpx.Client) -> None:
    body = infer(http, num_responses=3)
    assert [r["generated_text"] for r in body["results"]] == ["abcab"] * 3
    assert body["num_tokens"] == 15


def test_a_stream_has_one_event_per_token_and_the_last_says_all(http: httpx.Client) -> None:
    received = events(http)
    assert [each["token"]["text"] for each in received] == list("abcab")
    assert received[0]["token"]["logprob"] == pytest.approx(-LN2, abs=1e-3)
    assert received[0]["token"]["special"] is False
    assert isinstance(received[0]["token"]["id"], int)
    first = {"generated_text": None, "details": None}
    assert {k: v for k, v in received[0].items() if k != "token"} == first
    last = received[-1]
    assert last["generated_text"] == "abcab"
    assert last["details"] == {"finish_reason": "length"}
    assert (last["num_output_tokens"], last["num_input_tokens"]) == (5, 3)
    assert last["request_id"].startswith("R")


def test_the_tokens_texts_add_up_to_the_generated_text(http: httpx.Client) -> None:
    received = events(http, input="é🙂", max_new_tokens=9)
    assert len(received) == 9
    assert "".join(e["token"]["text"] for e in received) == received[-1]["generated_text"]
    ended = events(http, input="ab<|im_end|>", max_new_tokens=9)
    assert [e["token"]["special"] for e in ended] == [False, False, True]
    assert ended[-1]["generated_text"] == "ab"
    assert ended[-1]["details"] == {"finish_reason": "stop"}


def test_text_held_back_for_a_stop_is_not_lost(http: httpx.Client) -> None:
    received = events(http, stop=["bX"])
    assert "".join(e["token"]["text"] for e in received) == "abcab"
    stopped = events(http, stop=["ca"])
    assert stopped[-1]["generated_text"] == "ab"
    assert "".join(e["token"]["text"] for e in stopped) == "ab"


def test_names_with_slashes_and_versions(http: httpx.Client) -> None:
    assert infer(http, "echo/alias")["num_tokens"] == 5
    reply = http.post("/v1/inference/echo?version=v2", json={"input": "a"})
    assert (reply.status_code, list(reply.json()["detail"])) == (404, ["error"])
    assert "echo:v2" in reply.json()["detail"]["error"]
    reply = http.post("/v1/inference/deploy/xyz", json={"input": "a"})
    assert "deploy_id:xyz" in reply.json()["detail"]["error"]


def test_nulls_and_harmless_fields(http: httpx.Client) -> None:
    names = (
        "temperature top_p min_p top_k repetition_penalty presence_penalty frequency_penalty"
        " stop num_responses response_format seed user webhook prompt_cache_key stream"
    )
    nulls: dict[str, Any] = dict.fromkeys(names.split())
    assert infer(http, **nulls)["results"]


@pytest.mark.parametrize(
    ("fields", "loc", "kind"),
    [
        ({"input": None}, ["body", "input"], "string_type"),
        ({"max_new_tokens": "5"}, ["body", "max_new_tokens"], "int_type"),
        ({"max_new_tokens": -1}, ["body", "max_new_tokens"], "value_error"),
        ({"temperature": 1000}, ["body", "temperature"], "value_error"),
        ({"temprature": 1}, ["body", "temprature"], "extra_forbidden"),
        ({"stop": ["a", 1]}, ["body", "stop", 1], "string_type"),
        ({"num_responses": 0}, ["body", "num_responses"], "value_error"),
        ({"num_responses": 5}, ["body", "num_responses"], "value_error"),
        ({"num_responses": 2, "stream": True}, ["body", "num_responses"], "value_error"),
        ({"webhook": "http://127.0.0.1/"}, ["body", "webhook"], "value_error"),
        ({"response_format": {"type": "regex"}}, ["body", "response_format"], "value_error"),
    ],
)
def test_a_wrong_field_is_located(
    http: httpx.Client, fields: Any, loc: list[object], kind: str
) -> None:
    entry = invalid(http, **fields)
    assert entry["loc"] == loc
    assert entry["type"] == kind


def test_messages_speak_of_the_apis_own_fields(http: httpx.Client) -> None:
    assert "max_new_tokens must be" in invalid(http, max_new_tokens=-1)["msg"]


def test_a_missing_input(http: httpx.Client) -> None:
    reply = http.post("/v1/inference/echo", json={})
    assert reply.status_code == 422
    (entry,) = reply.json()["detail"]
    assert (entry["type"], entry["loc"]) == ("missing", ["body", "input"])


def test_past_the_context(http: httpx.Client) -> None:
    reply = http.post("/v1/inference/echo", json={"input": "x" * 5000})
    assert reply.status_code == 400
    assert "maximum context length is 4096 tokens" in reply.json()["detail"]["error"]

"""Options of other servers that are not here: what to say to those who bring them along."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from inferd.config.option import bad_option
from inferd.errors import StartError

OTHER_NAMES = {  # vLLM's, SGLang's, TGI's and llama.cpp's names for what we have
    "allowed_origins": "cors_origin",
    "mem_fraction_static": "memory_fraction",
    "max_running_requests": "max_batch_size",
    "max_queued_requests": "max_queue_requests",
    "max_waiting_tokens": "max_queue_tokens",
    "chunked_prefill_size": "max_batch_tokens",
    "max_batch_prefill_tokens": "max_batch_tokens",
    "page_size": "block_size",
    "schedule_policy": "policy",
    "context_length": "max_model_len",
    "ctx_size": "max_model_len",
    "max_total_tokens": "max_model_len",
    "model_path": "model",
    "model_id": "model",
    "threads": "num_threads",
    "max_cpu_loras": "adapter_host_bytes",
    "max_loras_per_batch": "max_adapters",
}
"""Same idea, but not near enough in meaning or default to be taken silently."""

_VLLM_ONLY = """
    aggregate_engine_logging allowed_local_media_path allowed_media_domains
    api_server_count async_scheduling attention_backend calculate_kv_scales chat_template
    chat_template_content_format compilation_config config_format cpu_offload_gb
    cudagraph_capture_sizes data_parallel_size data_parallel_rank default_mm_loras
    disable_log_stats distributed_executor_backend download_dir
    enable_chunked_prefill enable_expert_parallel enable_force_include_usage
    enable_prompt_tokens_details enable_request_id_headers
    fully_sharded_loras generation_config guided_decoding_backend hf_config_path hf_overrides
    hf_token kv_cache_dtype kv_offloading_backend kv_offloading_size kv_transfer_config
    limit_mm_per_prompt load_format logits_processors logprobs_mode
    long_prefill_token_threshold lora_dtype lora_modules lora_target_modules
    max_logprobs max_num_partial_prefills mm_processor_kwargs
    model_impl num_gpu_blocks_override optimization_level otlp_traces_endpoint
    override_generation_config pipeline_parallel_size prefix_caching_hash_algo
    response_role root_path runner skip_tokenizer_init
    specialize_active_lora speculative_config ssl_ca_certs ssl_certfile ssl_keyfile
    stream_interval structured_outputs_config swap_space task tensor_parallel_size tokenizer
    tokenizer_mode tool_server uds uvicorn_log_level
"""
NOT_HERE_YET = frozenset(_VLLM_ONLY.split())
"""vLLM's options without a counterpart here."""

NEEDLESS = {
    "enable_auto_tool_choice": "Tool calls are always parsed; --tool-call-parser chooses how.",
    "enable_lora": "Models take adapters unless --max-adapters is 0.",
    "enable_sleep_mode": "Models sleep when others need their memory.",
    "trust_remote_code": "Code that comes with a model is never run.",
}
"""vLLM's options for what goes without saying here."""


def unknown_option(name: str, written: str, known: Iterable[str]) -> StartError:
    """The error for an option that does not exist.

    Args:
        name: as in Python: `tensor_parallel_size`.
        written: as the user wrote it, with its source: `--tensor-parallel-size`.
        known: all names that exist, spelled in the manner of `written`.
    """
    plain = name.removeprefix("no_").lower()
    if plain in NEEDLESS:
        return bad_option(f"{written}: vLLM has this option; inferd needs none", NEEDLESS[plain])
    if plain in NOT_HERE_YET:
        return bad_option(f"{written}: vLLM has this option; inferd does not have it yet")
    spelled = {k.lstrip("-").replace("-", "_").lower().removeprefix("inferd_"): k for k in known}
    if plain in OTHER_NAMES:
        return bad_option(
            f"{written}: unknown option", f"inferd calls it {spelled[OTHER_NAMES[plain]]}."
        )
    near = get_close_matches(name.lower(), spelled, n=1, cutoff=0.5)
    return bad_option(
        f"{written}: unknown option", f"Did you mean {spelled[near[0]]}?" if near else ""
    )

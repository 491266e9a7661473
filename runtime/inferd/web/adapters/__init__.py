"""Loading, replacing and unloading LoRA adapters over HTTP.

Three APIs over one table (`inferd.adapters`): `admin` is our own, `vllm` has the routes that
vLLM's clients call, `lora_model` DeepInfra's. `schema` holds what they read and write.
"""

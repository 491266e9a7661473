"""The OpenAI dialect: chat, completions and models, with vLLM's extensions."""

"""Text work: tokenizer, chat templates, detokenizer, stop strings. No tensors."""

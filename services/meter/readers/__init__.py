"""Readers: from the bytes of a tail to what the provider reported. Pure and incremental.

bytes -> framing (sse, json_array, ndjson, json_body) -> payloads -> dialect (openai_chat, anthropic, …) -> Reading
"""

"""The demo provider: speaks every dialect, deterministic, and misbehaves on request. Every test's upstream."""

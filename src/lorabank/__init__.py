"""LoRA adapters as modular knowledge memory for language models."""

__version__ = "0.1.0"

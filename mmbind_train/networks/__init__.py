"""The adaptive multimodal model and its decoders."""

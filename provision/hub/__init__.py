"""Who serves files: the Hugging Face Hub, compatible mirrors, ModelScope."""

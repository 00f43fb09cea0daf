"""What several tests need: small random checkpoints in Hugging Face layout, and engines from them."""

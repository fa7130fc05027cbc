"""Exporters, one file a model type of Hugging Face."""

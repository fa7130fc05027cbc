"""Tensor access patterns and control flow."""

"""Pictures by diffusers' pipelines."""

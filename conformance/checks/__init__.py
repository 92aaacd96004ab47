"""The checks, one module per chapter of SPEC.md."""

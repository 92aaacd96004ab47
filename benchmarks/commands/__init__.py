"""The commands of ``antiparallel``: one module each, and the app that joins them."""

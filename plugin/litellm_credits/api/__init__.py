"""The routes under /api: a FastAPI application that the proxy room mounts on LiteLLM's."""

"""The only room that knows LiteLLM: its auth handler, its callback hooks, and an ASGI ring around its application.

The life of a call, in order: `ring` opens a `Call`; `auth` finds its principal; `admission` resolves, bounds and holds;
LiteLLM dispatches; `settlement` ends the hold; `ring` lets the last byte out. `plugin` is what a LiteLLM configuration names.
"""

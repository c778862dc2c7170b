"""The demo: a stand-in for the provider, and a customer's first ten seconds with the real proxy."""

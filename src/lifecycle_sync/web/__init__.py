"""The web door: routers that parse, call `service` and render."""

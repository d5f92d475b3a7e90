"""How the world speaks to the service.

`front` owns the connections (`connections` counts and closes them, `framing` reads heads and
bodies), `app` is the Quart application with the routes of `messages`, `rockets` and `operations`,
and `problems` makes every error answer.
"""

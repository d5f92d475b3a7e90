"""How the world speaks to the service.

In front of Quart, where a request is bytes:

- `front`: owns the connections and reads requests; `connections` counts and closes them.
- `framing`: reads heads and bodies; `byte_budget` counts the bytes of bodies.
- `answer_bound`: the same for what the handlers answer.
- `body_stream`: the body of a stream of lines, read while the first lines are taken.
- `streams`: the readers of the live feed, served in rounds.

The Quart application and its routes:

- `app`: mounts every route and answers every error.
- `messages`, `batch`: `POST /messages`, one message or many.
- `rockets`, `history`, `fleet`: rockets, their stored messages, and all of them in numbers.
- `events`: `GET /events`, the live feed.
- `notes`: anomalies, rejections and retries.
- `operations`: health, for people and orchestrators.
- `openapi`, `swagger_ui`: the API's own description, made from the table in `routes` and `route`.
- `problem_pages`: a page for every problem.

What they share:

- `feed`, `feed_reader`, `feed_events`: what readers share, one of them, and what it is sent.
- `problems`: makes every error answer.
- `parameters`: checks query parameters.
- `conditional`: ETags and 304; `pages`: answers that never change.
"""

"""The dashboard at `/`: a page, its style sheet and modules, and uPlot for the page of a rocket.

`dashboard/VERSION` says which uPlot it is, under which licence, and its hashes.
"""

from quart import Response
from quart_trio import QuartTrio

from rockets.web.pages import STRICT_POLICY, folder_pages
from rockets.web.problems import Refusal

# Scripts and styles of ours only, and no text may become a script: the pages show what clients
# have sent. An empty data: is the icon, which browsers would ask for otherwise.
POLICY = {
    **STRICT_POLICY,
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "require-trusted-types-for": "'script'",
}

INDEX = "index.html"
FILES = (
    INDEX,
    "dashboard.css",
    "main.js",
    "api.js",
    "chart.js",
    "connection.js",
    "dom.js",
    "feed.js",
    "fleet.js",
    "format.js",
    "notes.js",
    "order.js",
    "poll.js",
    "rocket.js",
    "table.js",
    "uPlot.esm.js",
    "uPlot.min.css",
    "uPlot.LICENSE",
)


def add_routes(app: QuartTrio) -> None:
    """Read the files and mount the routes."""
    pages = folder_pages("dashboard", FILES, policy=POLICY)

    @app.get("/")
    async def get_dashboard() -> Response:
        return pages[INDEX].answer()

    @app.get("/dashboard/<file>")
    async def get_dashboard_file(file: str) -> Response:
        if file not in pages:
            raise Refusal("not-found", f"/dashboard has no file {file[:200]!r}")
        return pages[file].answer()

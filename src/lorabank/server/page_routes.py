"""The page at `/`: static files, which tell nothing of the bank; what they show comes by the API.

No file is fetched from elsewhere, no script or style stands in the page itself, and a browser
refuses both: what a memory says stays text.
"""

from functools import cache
from importlib import resources

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

router = APIRouter(include_in_schema=False)
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


@cache
def page_files() -> dict[str, bytes]:
    """Return the page's files by name."""
    folder = resources.files("lorabank.server") / "page"
    names = [file.name for file in folder.iterdir() if file.name.rpartition(".")[2] in _TYPES]
    return {name: (folder / name).read_bytes() for name in names}


@router.get("/")
def show_page() -> Response:
    """Return the page."""
    return show_part("index.html")


@router.get("/page/{name}")
def show_part(name: str) -> Response:
    """Return a file of the page."""
    content = page_files().get(name)
    if content is None:
        raise HTTPException(404)
    media_type = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    return Response(content, media_type=media_type, headers=_HEADERS)

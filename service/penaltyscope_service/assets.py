"""The live page and the scripts it needs, all from files of installed packages."""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import FileResponse, Response

_PAGE: Final = Path(__file__).parent / "page"
_PAGE_SUFFIXES: Final = frozenset({".css", ".js", ".svg"})
_REVALIDATE: Final = "no-cache"
"""Our own files are asked for each time, so that an upgrade shows at once."""
_KEEP: Final = "public, max-age=604800"
"""Files of other packages are large and change only with their package: kept for a week."""


def create_assets_router() -> APIRouter:
    """``GET /`` and ``GET /assets/…``; only files found now are ever served."""
    router = APIRouter(include_in_schema=False)
    files = {path.name: path for path in _PAGE.iterdir() if path.suffix in _PAGE_SUFFIXES}
    packaged = {
        "plotly.min.js": _file_of("plotly", "package_data/plotly.min.js"),
        "swagger-ui-bundle.js": _file_of("fastapi_offline", "static/swagger-ui-bundle.js"),
        "swagger-ui.css": _file_of("fastapi_offline", "static/swagger-ui.css"),
    }

    @router.get("/")
    def page(request: Request) -> Response:
        return _respond(request, _PAGE / "index.html", _REVALIDATE)

    @router.get("/assets/{name}")
    def asset(request: Request, name: str) -> Response:
        if name in packaged:
            return _respond(request, packaged[name], _KEEP)
        if name in files:
            return _respond(request, files[name], _REVALIDATE)
        raise HTTPException(404, f"asset {name!r} is not known")

    return router


def _file_of(package: str, name: str) -> Path:
    """A package's data file, found without importing the package (Plotly takes a second)."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the package {package} must be installed for its {name}.")
    return Path(spec.origin).parent / name


def _respond(request: Request, path: Path, cache_control: str) -> Response:
    headers = {"cache-control": cache_control}
    response = FileResponse(path, stat_result=path.stat(), headers=headers)
    etag = response.headers["etag"]
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers | {"etag": etag})
    return response

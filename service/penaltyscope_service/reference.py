"""``GET /docs``: the API reference, drawn by Swagger UI from our own address."""

import base64
import hashlib
import re
from typing import Final

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse

from penaltyscope_service.security import content_security_policy

_INLINE_SCRIPT: Final = re.compile(rb"<script>(.*?)</script>", re.DOTALL)


def create_reference_router(title: str) -> APIRouter:
    """One page; the only inline script that the service ever serves, and it is let in by hash."""
    router = APIRouter(include_in_schema=False)
    page = get_swagger_ui_html(
        title=title,
        openapi_url="openapi.json",
        swagger_js_url="assets/swagger-ui-bundle.js",
        swagger_css_url="assets/swagger-ui.css",
        swagger_favicon_url="assets/favicon.svg",
    )
    hashes = (
        base64.b64encode(hashlib.sha256(script).digest()).decode()
        for script in _INLINE_SCRIPT.findall(bytes(page.body))
    )
    policy = content_security_policy(script=" ".join(f"'sha256-{digest}'" for digest in hashes))
    page.headers["content-security-policy"] = policy

    @router.get("/docs")
    def reference() -> HTMLResponse:
        return page

    return router

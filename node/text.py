"""Show text that others sent; see `common.text`."""

from common.text import visible

__all__ = ["visible"]

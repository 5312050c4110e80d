"""Say where the page is served; apart from the server, whose libraries not every node has."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, IPvAnyAddress, model_validator

from common.exporter import LOOPBACK
from common.settings import Settings


class Listen(Settings):
    """Where the page is served."""

    port: Annotated[int, Field(ge=0, le=65535)]
    """0 takes any that is free."""
    host: IPvAnyAddress = ip_address(LOOPBACK)
    certificate: Path | None = None
    """File with a certificate, and those that vouch for it, for TLS; the page is called by the names in it."""
    key: Path | None = None
    """File with its key."""

    @model_validator(mode="after")
    def _closed(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if not self.host.is_loopback and self.certificate is None:
            raise ValueError("an address that others can reach needs a certificate and its key")
        return self

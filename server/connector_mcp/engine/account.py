"""One account on a platform: its client, its tenant and its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connector_mcp.engine.policy import Policy
from connector_mcp.operations.platform import Platform
from connector_mcp.upstream.client import UpstreamClient


@dataclass(frozen=True, eq=False)
class Account:
    """A named account (profile) on a platform, with the client that acts as it. Equal to itself alone."""

    platform: Platform
    client: UpstreamClient
    options: Mapping[str, str]
    """The platform's variables that are not secret, by name."""
    profile: str = "default"
    sandbox: bool = False
    default: bool = False
    """Whether calls that destroy nothing need not name this profile where there are others."""
    policy: Policy | None = None
    """What counts for calls under this profile; the server's policy where there is none."""
    secrets: frozenset[str] | None = None
    """The secrets that calls under this profile may refer to; any where None, as far as their own limits go."""

    @property
    def tenant(self) -> str | None:
        """The tenant that the configuration fixes."""
        return self.options.get(self.platform.tenant.name) if self.platform.tenant else None

    @property
    def fixed(self) -> dict[str, str]:
        """The arguments that no call needs to give."""
        argument, tenant = self.platform.tenant_argument, self.tenant
        return {argument: tenant} if argument and tenant else {}

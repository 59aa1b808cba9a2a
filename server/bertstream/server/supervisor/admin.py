"""The process that serves the admin port: how it is started, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import convert

from bertstream.server.certificates import FollowedCertificates
from bertstream.server.config import ServeConfig
from bertstream.server.messages import Gather, Gathered
from bertstream.server.settings import AdminSettings, OtlpSettings
from bertstream.server.supervisor.gathering import Gathering
from bertstream.server.supervisor.keys import ServedKeys
from bertstream.server.supervisor.listening import tls_settings
from bertstream.workers.process.child import ChildSpec

NAME = "admin"


def admin_specs(
    config: ServeConfig,
    port: int,
    sockets: Sequence[str],
    gathering: Gathering,
    certificates: FollowedCertificates | None,
    keys: ServedKeys | None,
    otlp: OtlpSettings | None = None,
) -> list[ChildSpec]:
    """Return the specification of the admin process; none where there is no admin port, nor metrics to push."""
    if not config.has_admin and otlp is None:
        return []

    def settings(life: int) -> AdminSettings:
        return AdminSettings(
            name=NAME,
            host=config.admin_host,
            port=port,
            log_level=config.log_level,
            tls=tls_settings(certificates),
            keys=None if keys is None else keys.followed,
            frontend_sockets=tuple(sockets),
            otlp=otlp,
            max_header_bytes=config.max_header_bytes,
        )

    async def answer(asked: Any) -> Gathered:
        convert(asked, Gather)
        return await gathering.gather()

    return [
        ChildSpec(
            NAME,
            "bertstream.server.admin.process",
            settings,
            {"GRPC_VERBOSITY": "ERROR"},
            on_question=answer,
            on_death=partial(gathering.died, "admin", ""),
        )
    ]

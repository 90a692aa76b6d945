"""The service as a deployment of Ray Serve: one replica of the whole application on each machine.

Ray imports `build` (`serve.yaml` names it) and starts replicas. Each assembles the service in its own process, from the
variables of its machine; nothing of it is pickled. A deployment of its own for each model, behind a router, takes ten
times the processor time for a request, and loses requests when it is updated.
"""

from ray import serve
from ray.serve import Application

from cifar10_serving.runtimes.machine import usable_cores
from cluster.autoscaling import Load
from cluster.protocol import RayApplication, install
from service.app import open_service
from service.process.lifecycle import Group, freeze_gc, share_interpreter
from service.settings import read_settings, warn_of_names
from service.telemetry.logs import configure_logging

NAME = "cifar10"
"""The name of the application and of its deployment."""


def open_replica() -> RayApplication:
    """Assemble the service in a replica, and let Ray's HTTP server use its protocol."""
    settings = read_settings()
    configure_logging(settings.log_level, settings.log_format)
    warn_of_names()
    service = open_service(settings, group=Group.REPLICAS)
    application = RayApplication(service, install(service))
    freeze_gc()
    share_interpreter()
    return application


class Replica:
    """One replica; `serve.ingress` adds the application as `app`, and starts it when its models are loaded."""

    app: RayApplication

    def __init__(self) -> None:
        self._load: Load | None = None

    async def check_health(self) -> None:
        """Check whether the service is ready; Ray replaces a replica that isn't.

        Raises:
            RuntimeError: it is not, with the reason.
        """
        reason = self.app.service.repository.not_ready_reason
        if reason is not None:
            raise RuntimeError(reason)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the load since the last call."""
        self._load = self._load or Load(self.app.service, usable_cores())
        return self._load.report()


def build(_arguments: dict[str, str]) -> Application:
    """Return the application.

    Args:
        _arguments: Ray replaces all replicas, one after the other, when they differ from the last deployment's.
    """
    deployment = serve.deployment(name=NAME, max_replicas_per_node=1)(serve.ingress(open_replica)(Replica))
    application: Application = deployment.bind()
    return application

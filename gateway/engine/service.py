"""The one way in for inference: both protocols call `InferService` and nothing else of the engine.

Invariants: what `submit` accepts is answered exactly once unless withdrawn; nothing enters a queue before it was
validated against the metadata of the very version that will execute it; a request is routed by one table snapshot.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from gateway.core.admission import Admission
from gateway.core.health import ReadyPolicy, server_ready
from gateway.core.routing import NO_HEADERS, choose, decide, split, sticky_key
from gateway.core.signature import check_data
from gateway.engine.batch import PendingRequest
from gateway.engine.outstanding import Outstanding
from gateway.engine.refusals import refusal
from gateway.engine.served import ServedVersion
from gateway.errors import ErrorCode, GatewayError
from gateway.messages import InferRequest, ModelMetadata, Parameters, RequestContext, RequestHead
from gateway.ports import Clock, Observer, Reply
from gateway.routes import DEFAULT_STICKY, Route, RouteDecision, RouteTable
from gateway.statistics import VersionStatistics
from gateway.versions import InputDrift, ModelVersion, VersionState


class InferService:
    """Admits, routes, validates and hands over to the version's scheduler."""

    def __init__(
        self,
        clock: Clock,
        observer: Observer,
        admission: Admission,
        ready_policy: ReadyPolicy = ReadyPolicy.ALL,
        ready_models: Collection[str] = (),
    ) -> None:
        """`ready_models` are the names that `ReadyPolicy.LISTED` waits for."""
        self.clock = clock
        self._observer = observer
        self._admission = admission
        self._ready_policy = ready_policy
        self._ready_models = ready_models
        self._table = RouteTable(0, {}, complete=False)
        self._versions: Mapping[str, Mapping[int, ServedVersion]] = {}
        self.outstanding = Outstanding()
        """What was accepted and not answered, over all versions."""
        self._closing = False
        self._leaving = False
        self.statistics_of = _uncounted
        """Asks whoever counts for the statistics of a version."""
        self.rules_passed_over: dict[str, int] = {}
        """By model: requests that a rule meant for a version that takes none now."""

    # ------------------------------------------------------------------ control side

    def publish(self, table: RouteTable, versions: Mapping[str, Mapping[int, ServedVersion]]) -> None:
        """Replaces routes and versions in one step (a generation never goes back)."""
        if table.generation < self._table.generation:
            raise ValueError("a route table's generation must not go back")
        self._table = table
        self._versions = versions
        for served in self.all_versions():
            served.scheduler.pending.join(self.outstanding)

    def shut(self) -> None:
        """Refuses new requests from now on with SHUTTING_DOWN; what was accepted is still answered."""
        self._closing = True

    def refuse_readiness(self) -> None:
        """Readiness says no from now on, while requests are still taken: balancers turn away first."""
        self._leaving = True

    @property
    def closing(self) -> bool:
        return self._closing

    @property
    def in_flight(self) -> int:
        """Requests accepted and not answered yet."""
        return self.outstanding.requests

    @property
    def table(self) -> RouteTable:
        return self._table

    @property
    def versions(self) -> Mapping[str, Mapping[int, ServedVersion]]:
        """What was published last: the known versions by model and number."""
        return self._versions

    def all_versions(self) -> list[ServedVersion]:
        """Returns every version known to the data plane, whatever its state."""
        return [served for versions in self._versions.values() for served in versions.values()]

    def drift(self) -> list[tuple[ModelVersion, InputDrift]]:
        """Returns how far the inputs of every version are from its calibration's, where that is looked at."""
        watched = [(served.version, served.watch) for served in self.all_versions() if served.watch is not None]
        return [(version, drift) for version, watch in watched for drift in watch.drift()]

    # ------------------------------------------------------------------ data side

    def submit(self, request: InferRequest, context: RequestContext, reply: Reply) -> PendingRequest:
        """Accepts one request; `reply` hears the outcome later, never before this returns.

        Raises:
            GatewayError: it was refused; `reply` will not be called.
        """
        served: ServedVersion | None = None
        try:
            if self._closing:
                raise GatewayError(ErrorCode.SHUTTING_DOWN, "the gateway is shutting down")
            served = self._resolve(request.head, context)
            checked = served.check(request.head)
            nbytes = check_data(checked, request.data)
            rejection = self._admission.check(self.outstanding.requests, nbytes, self.outstanding.nbytes)
            if rejection is not None:
                raise refusal(served.version.model_name, rejection)
            pending = served.scheduler.submit(request, context, reply, checked, nbytes)
            if served.watch is not None:
                served.watch.seen(request)
            return pending
        except GatewayError as error:
            version = served.version if served is not None else None
            name = request.head.model_name
            now = self.clock.now()
            self._observer.request_done(context, version, error.code, 0, 0, now, name, error.message)
            raise

    def refused(self, error: GatewayError, protocol: str, model_name: str = "") -> None:
        """Notes a request that could not be read and so was never submitted."""
        now = self.clock.now()
        context = RequestContext("", now, now, protocol)
        self._observer.request_done(context, None, error.code, 0, 0, now, model_name, error.message)

    def _resolve(self, head: RequestHead, context: RequestContext) -> ServedVersion:
        name, number = head.model_name, head.model_version
        versions = self._known(name)
        if number is not None:
            return self._explicit(name, versions, number)
        route = self._table.routes.get(name)
        if route is None:
            raise self._not_ready(name, versions)
        if route.release_id or route.rules:
            decision = context.decision = route.only or self.decide(route, context, head.parameters)
            served = versions.get(decision.version)
        else:
            served = versions.get(choose(route, context.sticky_key or context.request_id))
        if served is None or served.state is not VersionState.READY:
            raise self._not_ready(name, versions)
        return served

    def decide(
        self, route: Route, context: RequestContext, parameters: Parameters, *, counted: bool = True
    ) -> RouteDecision:
        """Returns where a request for the route's model goes; passed-over rules are `counted`.

        A rule whose version takes no requests now is passed over; the share of one that has ceased to be ready before
        the routes could change goes to the stable version.
        """
        headers = context.headers or NO_HEADERS
        sticky = route.sticky
        key = context.sticky_key
        if sticky is not DEFAULT_STICKY:
            key = sticky_key(sticky, key, headers, parameters)
        decision = decide(route, key or context.request_id, headers, parameters)
        served = self._versions[route.model_name].get(decision.version)
        if served is not None and served.state is VersionState.READY:
            return decision
        if decision.rule >= 0:
            if counted:
                self._pass_over(route.model_name)
            decision = split(route, key or context.request_id)
        if decision.version != route.stable and not self._ready(route.model_name, decision.version):
            arm = route.arms[-1] if route.arms else ""
            return RouteDecision(route.stable, -1, decision.bucket, arm, route.release_id)
        return decision

    def _pass_over(self, name: str) -> None:
        self.rules_passed_over[name] = self.rules_passed_over.get(name, 0) + 1

    def _known(self, name: str) -> Mapping[int, ServedVersion]:
        """Returns the model's versions. Raises MODEL_NOT_FOUND, or MODEL_NOT_READY while no model is known."""
        versions = self._versions.get(name)
        if versions is None and not self._table.complete:
            raise GatewayError(
                ErrorCode.MODEL_NOT_READY, f"model '{_shown(name)}' is not ready (which models exist is not known yet)"
            )
        if versions is None:
            raise GatewayError(ErrorCode.MODEL_NOT_FOUND, f"unknown model '{_shown(name)}'")
        return versions

    def _explicit(self, name: str, versions: Mapping[int, ServedVersion], number: str) -> ServedVersion:
        served = versions.get(int(number)) if number.isascii() and number.isdigit() and len(number) < 19 else None
        if served is None and name in self._table.unreadable:
            raise self._not_ready(name, versions)
        if served is None or str(served.version.number) != number:
            raise GatewayError(ErrorCode.MODEL_NOT_FOUND, f"model '{name}' has no version '{_shown(number)}'")
        if served.state is not VersionState.READY:
            raise GatewayError(ErrorCode.MODEL_NOT_READY, f"model '{name}' version {number} is not ready")
        return served

    # ------------------------------------------------------------------ health and metadata

    def server_ready(self) -> bool:
        """Ready means: not shutting down, and the ready policy says so of the models that should be served.

        A model takes requests when every version that gets a share of them does.
        """
        if self._closing or self._leaving:
            return False
        models = dict.fromkeys(self._table.unreadable, False)
        models |= {
            name: not route.settling and all(self._ready(name, number) for number, _ in route.targets)
            for name, route in self._table.routes.items()
        }
        return server_ready(self._ready_policy, models, self._ready_models)

    def model_ready(self, name: str, number: str | None) -> bool:
        """Whether an inference for `name` (and version `number`) would be accepted now.

        Raises:
            GatewayError: MODEL_NOT_FOUND.
        """
        try:
            self._find(name, number)
        except GatewayError as error:
            if error.code is ErrorCode.MODEL_NOT_FOUND:
                raise
            return False
        return not self._closing

    def metadata(self, name: str, number: str | None) -> ModelMetadata:
        """Returns the metadata of a served version, all its ready versions listed.

        Raises:
            GatewayError: MODEL_NOT_FOUND or MODEL_NOT_READY.
        """
        return replace(self._find(name, number).metadata, versions=self.ready_versions(name))

    def index(self) -> list[tuple[str, str, str, str]]:
        """Returns (name, version, state, reason) of every known version, as Triton's repository index has them."""
        rows = []
        for served in sorted(self.all_versions(), key=lambda served: served.version):
            ready = served.state is VersionState.READY
            state = "READY" if ready else "UNAVAILABLE"
            reason = "" if ready else served.detail or served.state.value
            rows.append((served.version.model_name, str(served.version.number), state, reason))
        return rows

    def statistics(self, name: str, number: str | None) -> list[VersionStatistics]:
        """Returns what was counted of that version, of all ready ones of a model, or (no name) of every model.

        Raises:
            GatewayError: MODEL_NOT_FOUND or MODEL_NOT_READY.
        """
        names = [name] if name else sorted(name for name in self._versions if self.ready_versions(name))
        if name:
            self._find(name, number)
        found = [ModelVersion(name, int(one)) for name in names for one in self.ready_versions(name)]
        return [self.statistics_of(version) for version in found if not number or str(version.number) == number]

    def ready_versions(self, name: str) -> tuple[str, ...]:
        """Returns the numbers of the versions of `name` that take requests, ascending."""
        versions = self._versions.get(name, {})
        return tuple(str(n) for n in sorted(versions) if versions[n].state is VersionState.READY)

    def _find(self, name: str, number: str | None) -> ServedVersion:
        versions = self._known(name)
        if number:
            return self._explicit(name, versions, number)
        route = self._table.routes.get(name)
        for target, _ in reversed(route.targets) if route is not None else ():
            if self._ready(name, target):
                return versions[target]
        raise self._not_ready(name, versions)

    def _ready(self, name: str, number: int) -> bool:
        served = self._versions.get(name, {}).get(number)
        return served is not None and served.state is VersionState.READY

    def _not_ready(self, name: str, versions: Mapping[int, ServedVersion]) -> GatewayError:
        states = ", ".join(f"{number}: {served.state.value}" for number, served in sorted(versions.items()))
        if not states:
            unread = name in self._table.unreadable
            states = "what should be served of it cannot be read from the registry" if unread else "no version loaded"
        return GatewayError(ErrorCode.MODEL_NOT_READY, f"model '{name}' is not ready ({states})")


def _uncounted(version: ModelVersion) -> VersionStatistics:
    return VersionStatistics(model_name=version.model_name, version=str(version.number))


def _shown(text: str) -> str:
    """Returns a client's string cut to a length that may stand in a message."""
    return text if len(text) <= 64 else text[:61] + "..."


__all__ = ["InferService", "PendingRequest"]

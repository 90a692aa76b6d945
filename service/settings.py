"""Every setting of the service, declared once: the environment variable `CIFAR10_<NAME>` or the flag `--<name>`.

`make docs` generates docs/settings.md from this declaration. A flag overrides a variable.
"""

import logging
import os
import re
import socket
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic_settings import BaseSettings, CliApp, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSettingError

from cifar10_serving.artifacts.metadata import MIN_CLASSES, NAME_PATTERN, Precision, RuntimeName
from cifar10_serving.artifacts.rollout import POLICY_PATTERN
from cifar10_serving.errors import StoreError
from cifar10_serving.stores.address import EXAMPLES, StoreAddress, is_address, parse_address, redacted
from cifar10_serving.text import closest
from service.cloud import Cloud, Contract, contract_of
from service.errors import SettingsError
from service.http.forwarding import MAX_PREFIX_CHARACTERS, ROOT_PATH_PATTERN, parse_networks

PREFIX: Final = "CIFAR10_"
OFF: Final = "off"
SECRETS: Final = frozenset({"admin_token"})
"""Settings whose values no error shows."""
ANY_CASE: Final = (
    "cloud",
    "default_model",
    "version_policy",
    "runtime",
    "device",
    "precision",
    "log_format",
    "log_level",
)
"""Settings whose values are words in any case: `INFO` is `info`."""
DEPRECATED_NAMES: Final = {
    "max_batch_rows": "max_batch_size",
    "batch_wait_ms": "max_batch_delay_ms",
    "max_queue_rows": "max_queue_size",
    "max_queue_rows_per_model": "max_queue_size_per_model",
    "max_request_rows": "max_images_per_request",
    "request_log_share": "access_log_sample_rate",
    "shutdown_grace_s": "graceful_shutdown_timeout_s",
}
"""Former names of settings, with the present ones. They still work, and log a warning."""
REMOVED_IN: Final = "0.3"
"""The version that will no longer accept the deprecated names."""
READ_ELSEWHERE: Final = frozenset(
    {"CIFAR10_DATA", "CIFAR10_GPU_PORT", "CIFAR10_TOKEN", "CIFAR10_URL", "CIFAR10_WORKERS_FOLDER"}
)
"""Variables that training, docker-compose.yml and the client read."""
PREFIXES_ELSEWHERE: Final = ("CIFAR10_TEST_", "CIFAR10_BENCH_")
SERVICE_VARIABLE: Final = re.compile(
    r"CIFAR10(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
PORT_VARIABLE: Final = re.compile(r"CIFAR10(_[A-Z0-9_]+)?_PORT")
SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://\S+")
MAX_SHOWN: Final = 200
MAX_MIRROR_NAME: Final = 60

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

logger = logging.getLogger(__name__)


class _Environment(EnvSettingsSource):
    """The environment's variables without blanks around values, empty ones and those that Kubernetes sets."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        given = {name: value.strip() for name, value in super()._load_env_vars().items() if value is not None}
        return {name: value for name, value in given.items() if value and not is_of_kubernetes(name.upper(), value)}


class _CloudVariables(PydanticBaseSettingsSource):
    """The settings that the variables of SageMaker or Vertex AI mean."""

    def get_field_value(
        self,
        field: "FieldInfo",  # noqa: ARG002  # pydantic's signature
        field_name: str,
    ) -> tuple[Any, str, bool]:
        """Return no value: `__call__` returns all."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        contract = contract_of(str(self.current_state.get("cloud", "auto")).strip().lower(), os.environ)
        return {} if contract is None else dict(contract.settings)


def _check_networks(text: str) -> str:
    parse_networks(text)
    return text


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _check_models(text: str) -> str:
    if is_address(text):
        try:
            parse_address(text)
        except StoreError as error:
            raise ValueError(error.problem) from None
    return text


def _check_labels(text: str) -> str:
    if len(label_set(text)) < MIN_CLASSES:
        raise ValueError("has fewer than two labels")
    return text


def label_set(text: str) -> frozenset[str]:
    """Return the labels in a comma-separated list."""
    return frozenset(label for part in text.split(",") if (label := part.strip()))


def _names(name: str) -> AliasChoices:
    """Return a setting's name and its deprecated ones, for pydantic-settings to accept as variables and flags."""
    return AliasChoices(name, *(old for old, new in DEPRECATED_NAMES.items() if new == name))


class Settings(BaseSettings):
    """The settings; durations in seconds unless the name says otherwise, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_prefix_target="all",  # of the aliases, too
        alias_generator=AliasGenerator(validation_alias=_names),
        frozen=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address or host name to listen on: 0.0.0.0 for all IPv4 interfaces, :: for all interfaces.",
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port of the HTTP API.")
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="TCP port of the gRPC API (Open Inference Protocol); 0 disables it. Needs the extra grpc.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of worker processes. Each loads every model into its own memory. Only 1 on a GPU.",
    )
    instance: str = Field(
        "",
        pattern=r"^[\x21-\x7e]*$",
        max_length=100,
        description="Name of this instance in /stats and /metrics; empty for the machine's host name.",
        json_schema_extra={"legal": "empty, or a name of printable ASCII characters without blanks"},
    )
    models: Annotated[str, BeforeValidator(_as_text), AfterValidator(_check_models)] = Field(
        "models",
        min_length=1,
        description="Model repository: the folder that contains NAME/VERSION/, or the address of a store of these "
        "folders, without credentials; docs/object-store.md describes them.",
        json_schema_extra={"legal": f"path of a folder, {EXAMPLES}"},
    )
    models_mirror_folder: Path = Field(
        Path("~/.cache/cifar10-serving/models"),
        description="Folder for the local copies of stores. Processes and services of a machine may share it.",
    )
    models_mirror_versions: int = Field(
        10,
        ge=1,
        le=1000,
        description="Number of versions of each model to copy from a store, the newest first. Those that serving.json "
        "names are copied as well, and all that version_policy or serving.json's policy selects.",
    )
    default_model: str = Field(
        "auto",
        pattern=NAME_PATTERN,
        description="Model for requests that don't name one. auto: the ready model with the highest test accuracy, of "
        "those with default_labels.",
        json_schema_extra={"legal": "auto, or a published model's name"},
    )
    default_labels: Annotated[str, AfterValidator(_check_labels)] = Field(
        "airplane,automobile,bird,cat,deer,dog,frog,horse,ship,truck",
        description="Labels of the models among which default_model=auto chooses, in any order; CIFAR-10's unless set. "
        "If no published model has exactly these labels, it chooses among all models.",
        json_schema_extra={"legal": "comma-separated labels, at least two"},
    )
    version_policy: str = Field(
        "latest(1)",
        pattern=POLICY_PATTERN,
        description="Versions to serve of a model that has no serving.json: the N newest, or all.",
        json_schema_extra={"legal": "latest(N), all"},
    )
    poll_interval_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="Time between scans of the model repository, in seconds; 0 disables polling: new versions are then "
        "loaded on SIGHUP or through the API.",
    )
    admin_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer token for /admin and /v2/repository. Without one, these routes are disabled.",
        json_schema_extra={"legal": "text of at least 16 characters"},
    )
    runtime: Literal["auto"] | RuntimeName = Field(
        "auto",
        description="Inference runtime. auto: TensorFlow if it finds a GPU, otherwise OpenVINO, otherwise TensorFlow "
        "on the CPU.",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|gpu(:\d{1,2})?)$",
        description="Device that computes. A GPU needs the TensorFlow runtime.",
        json_schema_extra={"legal": "auto, cpu, gpu, gpu:N"},
    )
    precision: Precision | Literal["auto"] = Field(
        "auto",
        description="Numeric precision. auto: the fastest one that the CPU computes natively and whose stored test "
        "accuracy is at most max_accuracy_drop below float32's. The speed is measured when a version is loaded.",
    )
    max_accuracy_drop: float = Field(
        0.001,
        ge=0,
        le=1,
        description="Maximum loss of stored test accuracy, compared with float32, that precision=auto accepts for a "
        "faster precision. 0.001 is a tenth of a percentage point.",
    )
    compiled_models: Path = Field(
        Path("~/.cache/cifar10-serving"),
        description="Cache folder for models compiled by OpenVINO, which makes restarts faster; off disables it.",
        json_schema_extra={"legal": "path of a folder, off"},
    )
    max_body_bytes: int = Field(
        20 * 2**20,
        ge=2**10,
        le=2**30,
        description="Maximum size of a request body, in bytes. A larger one is rejected with 413.",
    )
    max_image_pixels: int = Field(
        50_000_000,
        ge=32 * 32,
        le=500_000_000,
        description="Maximum width times height of an image. A larger one is rejected with 413.",
    )
    max_decode_bytes: int = Field(
        512 * 2**20,
        ge=16 * 2**20,
        le=2**40,
        description="Memory limit for decoding images, all of them together, in bytes. Images wait until there is "
        "room; one that needs more than the limit by itself is rejected with 413.",
    )
    max_pending_requests: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Maximum number of requests being received, queued or computed. Further ones are rejected with "
        "503.",
    )
    max_backlog_requests: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Maximum number of received requests that a busy process has not started yet. Further ones are "
        "rejected with 503.",
    )
    max_pending_bytes: int = Field(
        256 * 2**20,
        ge=2**20,
        le=2**40,
        description="Memory limit for request bodies, all of them together, in bytes. Further requests are rejected "
        "with 503.",
    )
    max_batch_size: int = Field(32, ge=1, le=1024, description="Maximum number of images in a batch.")
    max_batch_delay_ms: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Maximum time that an idle runtime waits for a batch to fill, in milliseconds. 0: it computes what "
        "is queued at once.",
    )
    max_queue_size: int = Field(
        1024,
        ge=1,
        le=100_000,
        description="Maximum number of queued images, of all models together. Further requests are rejected with 503.",
    )
    max_queue_size_per_model: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Maximum number of queued images for one version of a model. Further requests are rejected with "
        "503.",
    )
    max_images_per_request: int = Field(
        512,
        ge=1,
        le=100_000,
        description="Maximum number of images in one request, on routes that take several. A request with more is "
        "rejected with 413.",
    )
    cache_bytes: int = Field(
        0,
        ge=0,
        le=2**40,
        description="Size of the prediction cache, which answers images seen before, in bytes; 0 disables it.",
    )
    request_timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="Maximum time from a complete request to its response, in seconds; then 504. A client may ask for "
        "less (`X-Request-Timeout-Ms`).",
    )
    upload_timeout_s: float = Field(
        15.0, gt=0, le=3600, description="Maximum time to receive a request body, in seconds; then 408."
    )
    max_header_bytes: int = Field(
        64 * 2**10,
        ge=2**10,
        le=2**20,
        description="Maximum size of a request's target and headers together, in bytes. Larger ones are rejected with "
        "431.",
    )
    header_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="Maximum time to receive a request's headers, in seconds; then 408."
    )
    keep_alive_timeout_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Maximum time that an idle connection stays open, in seconds. Behind a load balancer, set it "
        "longer than the balancer's idle timeout.",
    )
    graceful_shutdown_timeout_s: int = Field(
        20, ge=1, le=3600, description="Maximum time for accepted requests to finish after SIGTERM, in seconds."
    )
    lame_duck_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Time after SIGTERM in which the service still accepts requests while /readyz already fails, so "
        "that load balancers notice, in seconds. The image sets 3.",
    )
    worker_timeout_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="Maximum time that a worker's event loop may be unresponsive, in seconds; then the worker is "
        "killed and restarted. 0 disables the check. With several workers only.",
    )
    access_log_sample_rate: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Fraction of requests that are logged, one line each. Failures of the service are always logged.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Format of log lines: JSON, or text for people. auto: text on a terminal, otherwise JSON."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum level of log messages."
    )
    root_path: str = Field(
        "",
        pattern=ROOT_PATH_PATTERN,
        max_length=MAX_PREFIX_CHARACTERS,
        description="Path prefix under which a proxy serves the service, whether or not the proxy strips it.",
        json_schema_extra={"legal": "empty, or a path such as /cifar10"},
    )
    trusted_proxies: Annotated[str, AfterValidator(_check_networks)] = Field(
        "",
        description="Proxies whose `Forwarded` and `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` headers are "
        "trusted.",
        json_schema_extra={"legal": "comma-separated addresses and CIDR ranges, such as 127.0.0.1,10.0.0.0/8"},
    )

    cloud: Cloud = Field(
        "auto",
        description="Container contract to follow: its routes, and its address, port and models unless they are set. "
        "auto: vertex if AIP_PREDICT_ROUTE is set. The argument `serve` selects sagemaker.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _without_blanks(cls, value: Any) -> Any:
        return value.strip() if isinstance(value, str) else value

    @field_validator(*ANY_CASE, mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic's signature
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order of precedence: arguments, the environment, then a cloud's contract."""
        return init_settings, _Environment(settings_cls), _CloudVariables(settings_cls)

    def contract(self) -> Contract | None:
        """Return the cloud's contract that the setting `cloud` and the environment name, or None.

        Raises:
            SettingsError: a variable of the cloud is not valid.
        """
        return contract_of(self.cloud, os.environ)

    @property
    def instance_name(self) -> str:
        """The name of this instance."""
        return self.instance or socket.gethostname()

    @property
    def models_address(self) -> StoreAddress | None:
        """The address of the store; None if `models` is a folder."""
        return parse_address(self.models) if is_address(self.models) else None

    @property
    def models_folder(self) -> Path:
        """The models folder, which for a store is its mirror.

        Raises:
            SettingsError: this user has no home folder.
        """
        address = self.models_address
        if address is None:
            return Path(self.models)
        # Services that mirror different versions must not remove each other's.
        what = f"{address} {self.models_mirror_versions} {self.version_policy}"
        name = re.sub(r"[^a-z0-9]+", "-", address.url.lower())[:MAX_MIRROR_NAME]
        try:
            return self.models_mirror_folder.expanduser() / f"{name}-{sha256(what.encode()).hexdigest()[:12]}"
        except RuntimeError:
            raise SettingsError(
                f"{variable('models_mirror_folder')} = '{self.models_mirror_folder}': this user has no home folder",
                expected="a folder that this user may write to",
            ) from None

    @property
    def compiled_models_folder(self) -> Path | None:
        """The cache folder of compiled models; None if it is disabled or this user has no home folder."""
        if str(self.compiled_models).lower() == OFF:
            return None
        try:
            return self.compiled_models.expanduser()
        except RuntimeError:
            return None


ALL_NAMES: Final = (*Settings.model_fields, *DEPRECATED_NAMES)


def read_settings(arguments: Sequence[str] = ()) -> Settings:
    """Return the settings from the environment and from command-line flags.

    Raises:
        SettingsError: names each bad variable or flag, its value and what is legal.
        SystemExit: for --help.
    """
    _check_flags(arguments)
    _check_deprecated_names(arguments)
    try:
        return CliApp.run(Settings, cli_args=list(arguments), cli_exit_on_error=False)
    except ValidationError as error:
        problems = [_describe(entry, arguments) for entry in error.errors(include_url=False)]
        raise SettingsError("; ".join(dict.fromkeys(problems)), remedy="see docs/settings.md") from None
    except UnreadableSettingError as error:
        # The parser's message may quote a value that stands without its flag, which may be a secret.
        problem = str(error).partition(": ")[2].partition("unrecognized arguments")[0]
        raise SettingsError(
            problem or "there is a value without a flag",
            expected="--flag VALUE or --flag=VALUE",
            remedy="--help lists the flags",
        ) from None


def warn_of_names(arguments: Sequence[str] = ()) -> None:
    """Log deprecated names, and other variables with the service's prefix: misspelt ones, and those of Kubernetes."""
    variables = _variables()
    for old, new in DEPRECATED_NAMES.items():
        if variable(old) in variables:
            _warn_of_deprecated_name(variable(old), variable(new))
        if flag(old) in dict(_flags(arguments)):
            _warn_of_deprecated_name(flag(old), flag(new))
    names = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
    if passed_over := [name for name in names if is_of_kubernetes(name, os.environ[name])]:
        logger.info(
            "ignoring %s: Kubernetes sets them for a Service of that name; to set the port, use a flag",
            ", ".join(passed_over),
        )
    for name in names:
        setting = name.upper().removeprefix(PREFIX)
        is_known = setting.lower() in ALL_NAMES or _is_read_elsewhere(name.upper())
        if not is_known and name not in passed_over:
            guess = closest(setting, ALL_NAMES)  # without the prefix, which all have in common
            hint = f" (did you mean '{variable(_present_name(guess))}'?)" if guess is not None else ""
            logger.warning("%s is not a setting%s: it has no effect; see docs/settings.md", name, hint)


def _warn_of_deprecated_name(old: str, new: str) -> None:
    logger.warning("%s is deprecated and will be removed in version %s: use %s instead", old, REMOVED_IN, new)


def is_of_kubernetes(name: str, value: str) -> bool:
    """Return True for a variable that Kubernetes, or Docker for a link, sets for a Service named `cifar10…`.

    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    if SERVICE_VARIABLE.fullmatch(name) is not None:
        return True
    return PORT_VARIABLE.fullmatch(name) is not None and SERVICE_ADDRESS.fullmatch(value.strip()) is not None


def _is_read_elsewhere(name: str) -> bool:
    return name in READ_ELSEWHERE or name.startswith(PREFIXES_ELSEWHERE)


def _check_flags(arguments: Sequence[str]) -> None:
    """Check that every flag is known. Other arguments may be secrets and are never shown.

    Raises:
        SettingsError: names the flag, but not its value.
    """
    known = {flag(name): flag(_present_name(name)) for name in ALL_NAMES} | {"--help": "--help"}
    for given, _ in _flags(arguments):
        if given.replace("--no-", "--", 1) not in known:
            guess = closest(given, known)
            hint = f" (did you mean '{known[guess]}'?)" if guess is not None else ""
            raise SettingsError(f"there is no flag '{given[:MAX_SHOWN]}'{hint}", remedy="--help lists the flags")


def _check_deprecated_names(arguments: Sequence[str]) -> None:
    """Check that no setting has different values under its old and its new name.

    Raises:
        SettingsError: names both.
    """
    flags, variables = dict(_flags(arguments)), _variables()
    for old, new in DEPRECATED_NAMES.items():
        for given, name in ((flags, flag), (variables, variable)):
            old_value, new_value = given.get(name(old)), given.get(name(new))
            if old_value is not None and new_value is not None and old_value != new_value:
                raise SettingsError(
                    f"{name(old)} = {old_value[:MAX_SHOWN]!r} and {name(new)} = {new_value[:MAX_SHOWN]!r} are the same "
                    "setting, with different values",
                    expected="one of them",
                    remedy=f"remove {name(old)}, which is deprecated",
                )


def _flags(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Return each flag with its value, in order."""
    flags: list[tuple[str, str]] = []
    waiting: str | None = None
    for argument in arguments:
        if waiting is not None:
            flags.append((waiting, argument.strip()))
            waiting = None
        elif argument.startswith("--"):
            given, equals, value = argument.partition("=")
            if equals:
                flags.append((given, value.strip()))
            else:
                waiting = given
    return [*flags, (waiting, "")] if waiting is not None else flags


def _variables() -> dict[str, str]:
    """Return the variables with the service's prefix that are not empty, by their names in capitals."""
    given = {name.upper(): value.strip() for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    return {name: value for name, value in given.items() if value}


def _present_name(name: str) -> str:
    return DEPRECATED_NAMES.get(name, name)


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def flag(name: str) -> str:
    """Return the command-line flag of a setting."""
    return f"--{name.replace('_', '-')}"


def legal_values(name: str) -> str:
    """Return the legal values of a setting in words, from its declaration."""
    schema: dict[str, Any] = Settings.model_json_schema()["properties"][name]
    if "legal" in schema:
        return str(schema["legal"])
    alternatives = [value for part in (schema, *schema.get("anyOf", [])) for value in _enumerated(part)]
    if alternatives:
        return ", ".join(dict.fromkeys(alternatives))
    low, high = schema.get("minimum"), schema.get("maximum")
    kind = {"integer": "whole number", "number": "number", "string": "text"}[schema["type"]]
    if low is None and "exclusiveMinimum" in schema:
        return f"{kind} above {schema['exclusiveMinimum']:,g}, up to {high:,}"
    if low is not None:
        return f"{kind} from {low:,} to {high:,}"
    return "path of a folder" if schema.get("format") == "path" else kind


def _enumerated(schema: dict[str, Any]) -> list[str]:
    return [str(value) for value in schema.get("enum", [schema["const"]] if "const" in schema else [])]


def _describe(entry: "ErrorDetails", arguments: Sequence[str]) -> str:
    name = str(entry["loc"][0]) if entry["loc"] else ""
    if name not in Settings.model_fields:  # an error of several settings; their values may be secret
        return entry["msg"]
    shown = "(a secret)" if name in SECRETS else redacted(repr(entry["input"]))[:MAX_SHOWN]
    return f"{_given_as(name, arguments)} = {shown} is not legal; expected: {legal_values(name)}"


def _given_as(name: str, arguments: Sequence[str]) -> str:
    """Return the flag or variable by which a setting was given."""
    names = [name, *(old for old, new in DEPRECATED_NAMES.items() if new == name)]
    flags, variables = dict(_flags(arguments)), _variables()
    candidates = [*(flag(each) for each in names if flag(each) in flags), *map(variable, names)]
    return next((each for each in candidates if each in flags or each in variables), variable(name))

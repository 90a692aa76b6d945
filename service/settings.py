"""Every option of the service, declared once: environment variable `CIFAR10_<NAME>` or flag `--<name>`.

docs/settings.md is written from this declaration (`make docs`). A flag wins over a variable.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliApp, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSettingError

from cifar10_serving.artifacts.labels import ModelName
from cifar10_serving.artifacts.metadata import Precision, RuntimeName
from cifar10_serving.artifacts.rollout import POLICY_PATTERN
from cifar10_serving.text import closest, did_you_mean
from service.errors import SettingsError
from service.http.forwarding import MAX_PREFIX_CHARACTERS, ROOT_PATH_PATTERN, parse_networks

PREFIX: Final = "CIFAR10_"
OFF: Final = "off"
SECRETS: Final = frozenset({"admin_token"})
"""Never shown, whatever is wrong with them."""
ANY_CASE: Final = ("default_model", "version_policy", "runtime", "device", "precision", "log_format", "log_level")
"""Settings whose legal values are words: `INFO` is `info`."""
READ_ELSEWHERE: Final = frozenset(
    {"CIFAR10_DATA", "CIFAR10_GPU_PORT", "CIFAR10_TOKEN", "CIFAR10_URL", "CIFAR10_WORKERS_FOLDER"}
)
"""By training, docker-compose.yml and the client."""
PREFIXES_ELSEWHERE: Final = ("CIFAR10_TEST_", "CIFAR10_BENCH_")
SERVICE_VARIABLE: Final = re.compile(
    r"CIFAR10(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
PORT_VARIABLE: Final = re.compile(r"CIFAR10(_[A-Z0-9_]+)?_PORT")
SERVICE_ADDRESS: Final = re.compile(r"(tcp|udp|sctp)://\S+")
MAX_SHOWN: Final = 200

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

logger = logging.getLogger(__name__)


class _Environment(EnvSettingsSource):
    """The variables, as people mean them: blanks around a value don't count, and an empty one is not set."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        given = {name: value.strip() for name, value in super()._load_env_vars().items() if value is not None}
        return {name: value for name, value in given.items() if value and not is_of_kubernetes(name.upper(), value)}


def _check_networks(text: str) -> str:
    parse_networks(text)
    return text


class Settings(BaseSettings):
    """The service's options; durations in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        cli_prog_name="python -m service",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_implicit_flags=True,
    )

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="address or name to listen on; 0.0.0.0: every interface, :: every one with IPv6 and IPv4",
    )
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on")
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="TCP port of the Open Inference Protocol over gRPC; 0: none. Needs the extra grpc",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that serve, on the CPU; each holds all models in its own memory",
    )
    models: Path = Field(Path("models"), description="folder with the published versions, models/NAME/VERSION/")
    default_model: Literal["auto"] | ModelName = Field(
        "auto", description="answers where no model is asked for; auto: the ready one with the highest test accuracy"
    )
    version_policy: str = Field(
        "latest(1)",
        pattern=POLICY_PATTERN,
        description="which versions serve of a model whose serving.json doesn't say: the N newest, or all",
        json_schema_extra={"legal": "latest(N), all"},
    )
    poll_interval_s: float = Field(
        5.0, ge=0, le=3600, description="time between two looks for new versions, in seconds; 0: only when told to"
    )
    admin_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="secret that /admin and /v2/repository ask for; without it neither answers",
        json_schema_extra={"legal": "text of at least 16 characters"},
    )
    runtime: Literal["auto"] | RuntimeName = Field(
        "auto", description="auto: TensorFlow where it sees a GPU, else OpenVINO, else TensorFlow on the CPU"
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|gpu(:\d{1,2})?)$",
        description="auto, cpu, gpu or gpu:N; a GPU needs TensorFlow",
        json_schema_extra={"legal": "auto, cpu, gpu, gpu:N"},
    )
    precision: Precision = Field(
        "float32", description="bfloat16 is faster where the CPU has it; its accuracy is stored beside float32's"
    )
    compiled_models: Path = Field(
        Path("~/.cache/cifar10-serving"),
        description="folder where OpenVINO's compiled models are kept, so that the next start is faster; off: nowhere",
        json_schema_extra={"legal": "path of a folder, off"},
    )
    max_body_bytes: int = Field(
        20 * 2**20, ge=2**10, le=2**30, description="largest request body, in bytes; a larger one gets 413"
    )
    max_image_pixels: int = Field(
        50_000_000, ge=32 * 32, le=500_000_000, description="largest image, width times height; a larger one gets 413"
    )
    max_decode_bytes: int = Field(
        512 * 2**20,
        ge=16 * 2**20,
        le=2**40,
        description="memory for all images that are being decoded, together, in bytes; others wait their turn, "
        "one that takes more by itself gets 413",
    )
    max_pending_requests: int = Field(
        1024, ge=1, le=100_000, description="requests being received, waiting or computed; one more gets 503"
    )
    max_backlog_requests: int = Field(
        512,
        ge=1,
        le=100_000,
        description="requests that were read and wait until a busy process begins them; one more gets 503",
    )
    max_pending_bytes: int = Field(
        256 * 2**20, ge=2**20, le=2**40, description="bodies held in memory, together, in bytes; more gets 503"
    )
    max_batch_size: int = Field(32, ge=1, le=1024, description="most images that a model computes at once")
    max_batch_delay_ms: float = Field(
        0.0, ge=0, le=1000, description="how long a batch waits to be filled while the runtime is idle, in milliseconds"
    )
    max_queue_size: int = Field(
        1024, ge=1, le=100_000, description="images that wait to be computed, of all models; more gets 503"
    )
    max_queue_size_per_model: int = Field(
        512, ge=1, le=100_000, description="images that wait for one version of a model; more gets 503"
    )
    max_images_per_request: int = Field(
        512, ge=1, le=100_000, description="images in one request, where a route takes several; more gets 413"
    )
    cache_bytes: int = Field(
        0, ge=0, le=2**40, description="room for answers to images that were seen before, in bytes; 0: no cache"
    )
    request_timeout_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        description="longest time from a whole request to its answer, in seconds; then 504. A request may ask for "
        "less (`X-Request-Timeout-Ms`)",
    )
    upload_timeout_s: float = Field(
        15.0, gt=0, le=3600, description="longest time for a request's body to arrive, in seconds; then 408"
    )
    max_header_bytes: int = Field(
        64 * 2**10,
        ge=2**10,
        le=2**20,
        description="largest head of a request (its target and headers), in bytes; a larger one gets 431",
    )
    header_timeout_s: float = Field(
        10.0, gt=0, le=3600, description="longest time for a request's head to arrive, in seconds; then 408"
    )
    keep_alive_timeout_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="how long a connection stays open on which nothing is asked, in seconds; more than the idle "
        "time-out of a load balancer in front",
    )
    graceful_shutdown_timeout_s: int = Field(
        20, ge=1, le=3600, description="longest time for accepted requests to finish after SIGTERM, in seconds"
    )
    lame_duck_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="how long a stop goes on answering while /readyz says no, so that load balancers notice, in "
        "seconds; 3 in the image",
    )
    worker_timeout_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="longest silence of a worker's event loop before the worker is replaced, in seconds; 0: no limit. "
        "With several workers",
    )
    access_log_sample_rate: float = Field(
        1.0, ge=0, le=1, description="share of the requests that are logged, one JSON line each; 0: failures alone"
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="form of log lines: JSON objects or text for people; auto: text where a terminal shows them"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe message logged")
    root_path: str = Field(
        "",
        pattern=ROOT_PATH_PATTERN,
        max_length=MAX_PREFIX_CHARACTERS,
        description="path prefix below which a proxy serves this service, whether the proxy strips it or not",
        json_schema_extra={"legal": "empty, or a path such as /cifar10"},
    )
    trusted_proxies: Annotated[str, AfterValidator(_check_networks)] = Field(
        "",
        description="proxies whose `Forwarded` and `X-Forwarded-For`, `-Proto`, `-Host`, `-Prefix` count",
        json_schema_extra={"legal": "addresses and CIDR ranges with commas between, such as 127.0.0.1,10.0.0.0/8"},
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
        """Arguments, then the environment."""
        return init_settings, _Environment(settings_cls)

    @property
    def compiled_models_folder(self) -> Path | None:
        """Where compiled models are kept; None: nowhere, as it was asked for or because this user has no home."""
        if str(self.compiled_models).lower() == OFF:
            return None
        try:
            return self.compiled_models.expanduser()
        except RuntimeError:
            return None


def read_settings(arguments: Sequence[str] = ()) -> Settings:
    """The settings from the environment and from command-line flags.

    Raises:
        SettingsError: naming each bad variable or flag, its value and what is legal.
        SystemExit: by --help.
    """
    _check_flags(arguments)
    try:
        return CliApp.run(Settings, cli_args=list(arguments), cli_exit_on_error=False)
    except ValidationError as error:
        problems = [_describe(entry, arguments) for entry in error.errors(include_url=False)]
        raise SettingsError("; ".join(dict.fromkeys(problems)), remedy="see docs/settings.md") from None
    except UnreadableSettingError as error:
        # The parser's own words tell what stands there, which may be a secret without its flag.
        problem = str(error).partition(": ")[2].partition("unrecognized arguments")[0]
        raise SettingsError(
            problem or "there is a value without a flag",
            expected="--flag VALUE or --flag=VALUE",
            remedy="--help lists the flags",
        ) from None


def warn_of_variables() -> None:
    """Log what else in the environment has the service's prefix: misspelt settings, and what Kubernetes sets."""
    names = sorted(name for name in os.environ if name.upper().startswith(PREFIX))
    if passed_over := [name for name in names if is_of_kubernetes(name, os.environ[name])]:
        logger.info(
            "passed over %s: Kubernetes sets them for a Service of such a name; flags are not affected",
            ", ".join(passed_over),
        )
    for name in names:
        setting = name.upper().removeprefix(PREFIX)
        is_known = setting.lower() in Settings.model_fields or _is_read_elsewhere(name.upper())
        if not is_known and name not in passed_over:
            guess = closest(setting, Settings.model_fields)  # without the prefix, which is alike in all
            hint = f" (did you mean '{variable(guess)}'?)" if guess is not None else ""
            logger.warning("%s is not a setting%s: it has no effect; see docs/settings.md", name, hint)


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
        SettingsError: naming the flag, but not its value.
    """
    known = ["--help", *(flag(name) for name in Settings.model_fields)]
    is_value = False
    for argument in arguments:
        given, equals, _ = argument.partition("=")
        if not is_value and given.startswith("--") and given.replace("--no-", "--", 1) not in known:
            raise SettingsError(
                f"there is no flag '{given[:MAX_SHOWN]}'{did_you_mean(given, known)}", remedy="--help lists the flags"
            )
        is_value = given.startswith("--") and not equals and not is_value


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def flag(name: str) -> str:
    """The command-line flag of a setting."""
    return f"--{name.replace('_', '-')}"


def legal_values(name: str) -> str:
    """What a setting may be, in words, from its declaration."""
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
    if name not in Settings.model_fields:  # of several together; what was given may hold a secret
        return entry["msg"]
    by_flag = any(argument.partition("=")[0] == flag(name) for argument in arguments)
    shown = "(a secret)" if name in SECRETS else repr(entry["input"])[:MAX_SHOWN]
    return f"{flag(name) if by_flag else variable(name)} = {shown} is not legal; expected: {legal_values(name)}"
